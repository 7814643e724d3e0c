"""Who waits for a model, and whose turn it is: clients take turns, the requests of one keep their order.

Owns `Line` and the names of lines. May not live here: waking those that wait (`data.waiting`), clocks (times are
arguments, in seconds).
"""

from __future__ import annotations

from collections import deque
from math import ceil
from typing import Final, Generic, TypeVar
from zlib import crc32

from enginehouse.core.fleet import Service
from enginehouse.core.shared import LINES, Shared

T = TypeVar("T")

#: Departures that the pace of a line is measured by.
REMEMBERED: Final = 32
#: Bounds of an estimate, and what is said where nothing is known. Seconds.
LEAST, MOST, UNKNOWN = 1, 60, 5


def line_for(model: str, tried: bool) -> str:
    """The line of those that want a model, in which one is as good a next as any other; `tried`: of those that one of
    its services has failed already, so that not every place helps them. No model has a control character in its name.
    """
    return model + "\n" if tried else model


def line_apart(model: str) -> str:
    """The line of those that every service of the model has failed. A place that is freed is no help to them: they are
    asked now and then, and with each new fleet."""
    return model + "\r"


def apart(line: str) -> bool:
    """Is it a `line_apart`?"""
    return line.endswith("\r")


def line_at(service: Service) -> str:
    """The line of those whom this service alone can serve."""
    return "\n" + service.name


def lonely(line: str) -> bool:
    """Is it a `line_at`?"""
    return line.startswith("\n")


def model_of(line: str) -> str:
    """The model that is waited for in it; "" where requests name none, or wait for one service."""
    return "" if lonely(line) else line.rstrip("\r\n")


def picky(line: str) -> bool:
    """Does a place that helps nobody at the head of the line perhaps help those behind?"""
    return line.endswith("\n")


def lines_of(service: Service) -> list[str]:
    """Every line in which a place at this service may be waited for."""
    models = ("", *service.models)
    return [line_at(service), *models, *[line_for(model, True) for model in models]]


def place_of(line: str) -> int:
    """Where the turns of lines of this name stand in the shared memory: the same in every worker."""
    return crc32(line.encode("utf-8", "surrogatepass")) % LINES


def anybody_in(line: str, shared: Shared) -> bool:
    """Does anybody wait in a line of this name, in whichever worker? Two names that share a place are told as one."""
    if not shared.crowded[0]:
        return False
    place = place_of(line)
    return any(count and row[place] for count, row in zip(shared.waiting, shared.turns, strict=True))


class Line(Generic[T]):
    """The line for one model in one worker. A client that sends a hundred requests does not delay another's first."""

    __slots__ = ("_departures", "clients", "size")

    def __init__(self) -> None:
        self.size = 0
        self.clients: dict[str, dict[T, float]] = {}
        """Per client its requests in order, each with its deadline; the client whose turn it is comes first."""
        self._departures: deque[float] = deque(maxlen=REMEMBERED)

    def join(self, client: str, waiter: T, until: float) -> int:
        """Take the last place of `client`. Returns how many requests go on before and with it (1: it is the next)."""
        own = self.clients.setdefault(client, {})
        own[waiter] = until
        self.size += 1
        place, nth, behind = 0, len(own), False
        for name, others in self.clients.items():
            if name == client:
                behind = True
            place += min(len(others), nth - 1 if behind and name != client else nth)
        return place

    def leave(self, client: str, waiter: T) -> None:
        """Give up the place."""
        own = self.clients[client]
        del own[waiter]
        self.size -= 1
        if not own:
            del self.clients[client]

    def spare(self, client: str) -> T | None:
        """Who has to give up its place where there is none left for `client`: the last of the client that has most,
        unless `client` would then have as many. None: nobody."""
        most: dict[T, float] = max(self.clients.values(), key=len)
        return next(reversed(most)) if len(most) > len(self.clients.get(client, ())) + 1 else None

    def heads(self, count: int) -> list[T]:
        """The first request of each of the next `count` clients."""
        found: list[T] = []
        for own in self.clients.values():
            if len(found) == count:
                break
            found.append(next(iter(own)))
        return found

    def go(self, client: str, waiter: T, now: float) -> None:
        """It was served: its client's next turn comes after those of all others."""
        self.leave(client, waiter)
        self._departures.append(now)
        if client in self.clients:
            self.clients[client] = self.clients.pop(client)

    def late(self, now: float) -> list[T]:
        """Those whose deadline has passed."""
        return [waiter for own in self.clients.values() for waiter, until in own.items() if until <= now]

    def retry_after(self, now: float) -> int:
        """Whole seconds after which one more request would be served, at the pace of late."""
        departed = self._departures
        if not departed:
            return UNKNOWN
        each = (now - departed[0]) / len(departed)
        return min(MOST, max(LEAST, ceil((self.size + 1) * each)))
