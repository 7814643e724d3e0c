"""Services that broke off while they worked on one request: is it their fault, or does the request break engines?

Owns `Doubts`. May not live here: what blame does to a service (`counters`), when the request is called poisonous
(`machines.exchange`).
"""

from __future__ import annotations

from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.data.counters import Counters


class Doubts:
    """Of one request; made when the first of its attempts breaks off."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: list[tuple[Service, Outcome]] = []

    def add(self, service: Service, outcome: Outcome) -> None:
        """It broke off: its own fault, if another one can answer the request."""
        self._open.append((service, outcome))

    def settle(self, poisonous: bool, counters: Counters, now: float) -> None:
        """Whoever broke off before is to blame, unless it is the request that breaks engines."""
        found, self._open = self._open, []
        if not poisonous or len({service.name for service, _ in found}) == 1:
            for service, outcome in found:
                counters.charge(service, outcome, now)
