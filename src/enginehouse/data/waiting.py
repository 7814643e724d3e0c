"""The waiting room of a worker: requests for which no service is free now, a bounded line for each model.

Owns: who waits in which line until when, and waking whoever's turn it is, here or in another worker. May not live here:
the order within a line (`policy.line`) and among workers (`turns`), what a request does when it is woken (`driver`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from enginehouse.core.ask import Ask
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Service
from enginehouse.core.shared import Shared
from enginehouse.data.turns import Turns
from enginehouse.machines.exchange import Event
from enginehouse.policy.choose import LoadView, has_room
from enginehouse.policy.line import UNKNOWN, Line, apart, picky

#: In a line of those that not every service helps, so many clients in turn are asked before the others have to wait.
ASKED: Final = 4
#: With each so many sweeps those are asked whom every service has failed: they have few attempts left, and an engine
#: takes its time to come back.
APART: Final = 4
_FREED: Final = Event.FREED


class Waiter(Protocol):
    """A request that waits."""

    def woken(self, event: Event) -> bool:
        """FREED: there may be room, so choose again; False: it keeps its place, else it goes on (or is over).

        Or it has lost its place, whatever it returns. LATE: it waited as long as it may. TURNED_AWAY: the line is full,
        and another client has fewer requests in it.
        """


class _Place(NamedTuple):
    """Where a request waits."""

    line: str
    client: str


class WaitingRoom:
    """All lines of one worker. `ring(worker, slot, hops)` tells another one that it may have a place at a service."""

    def __init__(
        self, config: RouterConfig, shared: Shared, index: int, view: LoadView, ring: Callable[[int, int, int], None]
    ) -> None:
        self._size = config.queue_size
        self._timeout = config.queue_timeout
        self._index = index
        self._view = view
        self._ring = ring
        self.turns = Turns(shared, index)
        self.waiting: dict[str, Line[Waiter]] = {}
        """By model (or whatever `Busy.line` says); none is empty, so an empty dict means that nobody waits."""
        self._places: dict[Waiter, _Place] = {}
        self._sweeps = 0

    def join(self, line: str, waiter: Waiter, client: str, now: float, waited: float = 0.0) -> int:
        """Wait at the end of a line, as one of `client`'s requests. Returns the position from 1; 0: there is no place.

        `waited`: seconds for which it has waited before, of those that it may wait in all.
        """
        self.leave(waiter)
        found = self.waiting.get(line)
        loser: Waiter | None = None
        if found is None:
            if not self._size:
                return 0
            found = self.waiting[line] = Line()
            self.turns.began(line, now)
        elif found.size >= self._size:
            loser = found.spare(client)
            if loser is None:
                return 0
            found.leave(self._places.pop(loser).client, loser)
        self._places[waiter] = _Place(line, client)
        position = found.join(client, waiter, now + self._timeout - waited)
        self.turns.count(len(self._places))
        if loser is not None:
            loser.woken(Event.TURNED_AWAY)  # last: what follows from it may come back here
        return position

    def leave(self, waiter: Waiter) -> None:
        """It waits no longer. Nothing for one that does not wait."""
        place = self._places.get(waiter)
        if place is not None:
            del self._places[waiter]
            self.waiting[place.line].leave(place.client, waiter)
            self._close_if_empty(place.line)

    def behind(self, ask: Ask) -> bool:
        """Do others wait for what a newcomer asks for, so that it has to wait behind them?"""
        return ask.remembered < 0 and (ask.model in self.waiting or self.turns.elsewhere(ask.model))

    def offer(self, service: Service, now: float, hops: int = 0) -> None:
        """A place at this service was freed: those whose turn it is may have it, as long as there is one.

        `hops`: so many workers could not use it already. When none can, it stays free until the sweep.
        """
        in_vain: set[str] = set()
        while has_room(service, self._view):
            turn = self.turns.next(service, in_vain)
            if turn is None:
                return
            if turn.worker != self._index:
                if hops <= self.turns.others:
                    self._ring(turn.worker, service.slot, hops + 1)
                return
            if self._serve_one(turn.line, now):
                hops = 0
            else:
                in_vain.add(turn.line)
            if turn.line in self.waiting:
                self.turns.had(turn.line, now)

    def offer_all(self, now: float) -> None:
        """Anything may have changed, and whoever can use it may."""
        for name in tuple(self.waiting):
            self._serve(name, now)

    def sweep(self, now: float) -> None:
        """Called a few times a second: deadlines, and room that was made without a word."""
        for name, line in tuple(self.waiting.items()):
            for waiter in line.late(now):
                place = self._places.pop(waiter, None)
                if place is not None:  # one that was told before may have ended others
                    line.leave(place.client, waiter)
                    waiter.woken(Event.LATE)
            self._close_if_empty(name)
        self._sweeps += 1
        for name in tuple(self.waiting):
            if not apart(name) or not self._sweeps % APART:
                self._serve(name, now)
        self.turns.sweep(len(self._places), now)

    def retry_after(self, line: str, now: float) -> int:
        """Seconds after which it is worth asking again for what is waited for in this line, 1 to 60."""
        found = self.waiting.get(line)
        return found.retry_after(now) if found is not None else UNKNOWN

    def _serve(self, name: str, now: float) -> None:
        while self._serve_one(name, now):
            pass

    def _serve_one(self, name: str, now: float) -> bool:
        """Did anybody of this line go on?"""
        line = self.waiting.get(name)
        if line is None:
            return False
        for waiter in line.heads(ASKED if picky(name) else 1):
            place = self._places.get(waiter)
            if place is not None and waiter.woken(_FREED):
                if self._places.get(waiter) is place:  # it may have come back already, at another place
                    del self._places[waiter]
                    line.go(place.client, waiter, now)
                    self._close_if_empty(name)
                return True
        return False

    def _close_if_empty(self, name: str) -> None:
        line = self.waiting.get(name)
        if line is not None and not line.size:
            del self.waiting[name]
            self.turns.ended(name, self.waiting)
        self.turns.count(len(self._places))
