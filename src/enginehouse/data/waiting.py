"""The waiting room of a worker: requests for which no service is free now, a bounded line for each model.

Owns: who waits in which line until when, waking whoever's turn it is. May not live here: the order within a line
(`policy.line`), what a request does when it is woken (`driver`), when there is room (`policy.choose`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from enginehouse.core.config.router import RouterConfig
from enginehouse.policy.line import UNKNOWN, Line

#: So many clients in turn may say that the room made does not help them before the others are not asked any more: a
#: request that was tried elsewhere already may need one certain service.
ASKED: Final = 4


class Waiter(Protocol):
    """A request that waits."""

    def try_again(self) -> bool:
        """Choose again. True: it goes on (or is over) and leaves its line; False: it keeps its place."""

    def too_late(self) -> None:
        """It has waited as long as it may, and has left its line."""


class _Place(NamedTuple):
    """Where a request waits."""

    model: str
    client: str


class WaitingRoom:
    """All lines of one worker."""

    def __init__(self, config: RouterConfig) -> None:
        self._size = config.queue_size
        self._timeout = config.queue_timeout
        self.waiting: dict[str, Line[Waiter]] = {}
        """By model (or whatever `Busy.line` says); none is empty, so an empty dict means that nobody waits."""
        self._places: dict[Waiter, _Place] = {}

    def join(self, model: str, waiter: Waiter, client: str, now: float) -> int:
        """Wait at the end of the line of `model`, as one of `client`'s. Returns its position from 1; 0: it is full."""
        self.leave(waiter)
        line = self.waiting.get(model)
        if (line.size if line is not None else 0) >= self._size:
            return 0
        if line is None:
            line = self.waiting[model] = Line()
        self._places[waiter] = _Place(model, client)
        return line.join(client, waiter, now + self._timeout)

    def leave(self, waiter: Waiter) -> None:
        """It waits no longer. Nothing for one that does not wait."""
        place = self._places.pop(waiter, None)
        if place is not None:
            self.waiting[place.model].leave(place.client, waiter)
            self._close_if_empty(place.model)

    def offer(self, models: Iterable[str], now: float) -> None:
        """There may be room for these: wake in order, until nobody can use it."""
        for model in models:
            while self._serve_one(model, now):
                pass

    def offer_all(self, now: float) -> None:
        """Anything may have changed."""
        self.offer(tuple(self.waiting), now)

    def sweep(self, now: float) -> None:
        """Called a few times a second: deadlines."""
        for model, line in tuple(self.waiting.items()):
            for waiter in line.late(now):
                place = self._places.pop(waiter, None)
                if place is not None:  # one that was late before may have ended others
                    line.leave(place.client, waiter)
                    waiter.too_late()
            self._close_if_empty(model)

    def retry_after(self, model: str, now: float) -> int:
        """Seconds after which it is worth asking for this model again, 1 to 60."""
        line = self.waiting.get(model)
        return line.retry_after(now) if line is not None else UNKNOWN

    def _serve_one(self, model: str, now: float) -> bool:
        """Did anybody of this line go on?"""
        line = self.waiting.get(model)
        if line is None:
            return False
        for waiter in line.heads(ASKED):
            place = self._places[waiter]
            if waiter.try_again():
                if self._places.get(waiter) is place:  # it may have come back already, at another place
                    del self._places[waiter]
                    line.go(place.client, waiter, now)
                    self._close_if_empty(model)
                return True
        return False

    def _close_if_empty(self, model: str) -> None:
        line = self.waiting.get(model)
        if line is not None and not line.size:
            del self.waiting[model]
