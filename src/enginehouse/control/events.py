"""What happened to the fleet, in order, with reasons: a bounded journal in memory.

Owns `Kind`, `Event` and `Journal`. May not live here: noticing that something happened (`roster`, `run`), HTTP
(`live_api`). Nothing of a request, a prompt or a key is ever an event.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from itertools import islice

import msgspec

from enginehouse.machines.health import State

#: Events kept; older ones are forgotten.
KEPT = 10_000
#: Characters of a reason; engines and registries may be talkative.
MAX_REASON = 500


@enum.unique
class Kind(enum.Enum):
    """What happened. The value is its stable name; `MEANINGS` has the words."""

    CONTROL_STARTED = "control_started"
    SYNCED = "synced"
    SOURCE_LOST = "source_lost"
    SOURCE_BACK = "source_back"
    JOINED = "joined"
    LEFT = "left"
    MISSING = "missing"
    FOUND = "found"
    REJECTED = "rejected"
    UP = "up"
    DOWN = "down"
    EJECTED = "ejected"
    RETURNED = "returned"
    DRAINING = "draining"
    DRAINED = "drained"
    WITHDRAWN = "withdrawn"
    RESUMED = "resumed"
    ENGINE_RESTARTED = "engine_restarted"
    WORKER_STARTED = "worker_started"
    WORKER_RESTARTED = "worker_restarted"


#: For the reference.
MEANINGS: dict[Kind, str] = {
    Kind.CONTROL_STARTED: "the router's control was started; what happened before is forgotten",
    Kind.SYNCED: "registry and static file, as far as there are any, have told which services there are",
    Kind.SOURCE_LOST: "one of them cannot be used now; what it said before stays",
    Kind.SOURCE_BACK: "it can be used again",
    Kind.JOINED: "a service is in, or it is at another place than before",
    Kind.LEFT: "it is out: taken back, taken out of the file, missing for too long",
    Kind.MISSING: "the registry does not know it any more; it stays for `service_removal_grace_period`",
    Kind.FOUND: "the registry knows it again",
    Kind.REJECTED: "something was registered that cannot be used",
    Kind.UP: "its probes pass: it gets requests",
    Kind.DOWN: "its probes fail: it gets none",
    Kind.EJECTED: "too many of its requests failed: it gets none for a while",
    Kind.RETURNED: "its ejection is over and its probe passed",
    Kind.DRAINING: "it was told to finish what it has",
    Kind.DRAINED: "nothing is in flight on it any more: it may be stopped",
    Kind.WITHDRAWN: "it is registered with a status in which it takes no requests",
    Kind.RESUMED: "it takes requests again",
    Kind.ENGINE_RESTARTED: "its babysitter has started the engine again",
    Kind.WORKER_STARTED: "a worker of the router reported for the first time",
    Kind.WORKER_RESTARTED: "a worker reported in place of one that had ended",
}

Tell = Callable[[Kind, str, str], None]
"""Takes what happened, to which service ("" for none), and why."""


class Event(msgspec.Struct, frozen=True):
    """One line of the journal."""

    id: int
    """Rises by one from event to event, and from one control process to the next."""
    time: float
    """Unix seconds."""
    kind: Kind
    service: str = ""
    reason: str = ""


class Journal:
    """The last `KEPT` events. `wall` gives Unix seconds."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._events: deque[Event] = deque(maxlen=KEPT)
        # Milliseconds, so that who follows over a restart of control misses nothing and is told nothing twice: there
        # are never as many events as milliseconds.
        self._next = int(wall() * 1000)
        self._news = asyncio.Event()

    def add(self, kind: Kind, service: str = "", reason: str = "") -> None:
        """Something happened, now."""
        self._events.append(Event(self._next, self._wall(), kind, service, reason[:MAX_REASON]))
        self._next += 1
        self._news.set()
        self._news = asyncio.Event()

    @property
    def next(self) -> int:
        """The id that the next event will have."""
        return self._next

    def since(self, first: int, limit: int = KEPT) -> list[Event]:
        """The oldest `limit` events from id `first` on. One that no event has yet was given by another clock: all."""
        events = self._events
        if not events or first > self._next:
            first = 0
        skipped = max(0, first - events[0].id) if events else 0
        return list(islice(events, skipped, skipped + limit))

    def last(self, count: int) -> list[Event]:
        """The newest `count`, in order."""
        return list(islice(self._events, max(0, len(self._events) - count), None))

    async def wait(self, first: int, timeout: float) -> None:
        """Until there is an event with id `first` or later, for at most `timeout` seconds."""
        news = self._news
        if first >= self._next:
            try:
                async with asyncio.timeout(timeout):
                    await news.wait()
            except TimeoutError:
                pass


def kind_of(before: State, after: State, draining: bool) -> Kind | None:
    """What a change of a service's health is called; None where it is told in another way, or does not concern people.

    `draining`: it is withdrawn because it is to finish what it has.
    """
    if after is before:
        return None
    if after is State.UP:
        return _WELL_AFTER[before]
    if after is State.DOWN:
        return Kind.DOWN
    if after is State.WITHDRAWN:
        return Kind.DRAINING if draining else Kind.WITHDRAWN
    return None


_WELL_AFTER = {
    State.UNKNOWN: Kind.UP,
    State.DOWN: Kind.UP,
    State.EJECTED: Kind.RETURNED,
    State.WITHDRAWN: Kind.RESUMED,
}
