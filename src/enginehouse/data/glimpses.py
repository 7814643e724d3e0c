"""What this worker shows of its requests, only while somebody watches.

Owns `Glimpses`: when a glimpse is due, and making one of what is under way and what has ended. May not live here: who
watches (control), sending (`control_link`). While nobody watches it costs two looks at a word of the shared memory per
sweep.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from enginehouse.core.glimpse import (
    ANSWERING,
    CONNECTING,
    GLIMPSE_INTERVAL,
    MAX_ENDED,
    MAX_UNDER_WAY,
    SENT,
    WAITING,
    Ended,
    Glimpse,
    UnderWay,
)
from enginehouse.core.outcome import termination
from enginehouse.core.shared import Shared
from enginehouse.wire.access_line import REASON, Record

if TYPE_CHECKING:
    from enginehouse.data.client_conn import ClientConn
    from enginehouse.data.driver import Driver
    from enginehouse.wire.access_line import Entry

#: Why requests for the router's own paths go where they go; nobody watches those who watch.
OWN = "own"


class Glimpses:
    """One worker's. Takes requests that are over (`ended.Taker`)."""

    def __init__(self, shared: Shared) -> None:
        self._watched = shared.watched
        self._made_at = 0.0
        self._ended: deque[Entry] = deque(maxlen=MAX_ENDED)

    def take(self, entries: list[Entry], now: float) -> None:
        """Keep the newest of them, if anybody watches."""
        if self._watched[0] > now:
            self._ended.extend([entry for entry in entries[-MAX_ENDED:] if entry[REASON] != OWN])
        elif self._ended:
            self._ended.clear()

    def due(self, now: float) -> bool:
        """Is one to be sent?"""
        return self._watched[0] > now and now - self._made_at >= GLIMPSE_INTERVAL

    def make(self, clients: Iterable[ClientConn], now: float) -> Glimpse:
        """What is under way now."""
        self._made_at = now
        under_way: list[UnderWay] = []
        waiting: dict[str, int] = {}
        for conn in clients:
            driver = conn.driver
            if driver is None or driver.plan.own:
                continue
            if driver.waits_since:
                model = driver.plan.ask.model
                waiting[model] = waiting.get(model, 0) + 1
            if len(under_way) < MAX_UNDER_WAY:
                under_way.append(_under_way(driver))
        ended = tuple([_ended(entry) for entry in self._ended])
        self._ended.clear()
        return Glimpse(tuple(under_way), ended, waiting)


def _under_way(driver: Driver) -> UnderWay:
    head, choice = driver.reply.head, driver.choice
    if driver.waits_since:
        phase = WAITING
    elif driver.reply.begun:
        phase = ANSWERING
    else:
        phase = SENT if driver.sent else CONNECTING
    return UnderWay(
        driver.plan.request_id.decode("latin-1"),
        driver.plan.ask.model,
        choice.service.name if choice is not None else "",
        driver.request.begun,
        head is not None and head.is_event_stream,
        phase,
    )


def _ended(entry: Entry) -> Ended:
    told = Record(*entry)
    usage, outcome = told.usage, told.outcome
    return Ended(
        told.id.decode("latin-1"),
        told.ended,
        told.model,
        told.service,
        told.status,
        outcome.value,
        termination(outcome, told.attempts, told.first_byte > 0),
        told.ended - told.begun,
        told.first_byte - told.begun if told.first_byte else None,
        usage.prompt if usage is not None else None,
        usage.completion if usage is not None else None,
        told.reason,
    )
