"""Lines of one name stand in several workers; they take turns, so that none of them starves beside a busier one.

Owns: telling the other workers which lines this one has, and finding out whose turn it is, by the shared memory.
May not live here: the order within a line (`policy.line`), waking another worker (`bell`).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final, NamedTuple

from enginehouse.core.fleet import Service
from enginehouse.core.shared import Shared
from enginehouse.policy.line import lines_of, place_of

#: A worker that gave no sign of life for this long gets no turn: it may be frozen. Seconds.
SILENT: Final = 1.0


class Turn(NamedTuple):
    """Whose turn it is."""

    worker: int
    line: str


class Turns:
    """The lines of one worker as the others see them, and theirs as it sees them.

    Two names may share a place in the memory: they share their turn then, and a worker may be asked in vain.
    """

    def __init__(self, shared: Shared, index: int) -> None:
        self._shared = shared
        self._index = index
        self._row = shared.turns[index]
        self._others: list[int] = []
        """Other workers that live, as of the last sweep."""
        self._lines: dict[int, tuple[Service, list[tuple[str, int]]]] = {}
        """By slot: whom a place at its service may help."""

    @property
    def others(self) -> int:
        """How many other workers there are."""
        return len(self._others)

    def began(self, line: str, now: float) -> None:
        """The first of a line waits: its turn comes after those of lines that wait already."""
        place = place_of(line)
        if not self._row[place]:
            self._row[place] = now

    def had(self, line: str, now: float) -> None:
        """The line had its turn, whether it could use it or not."""
        self._row[place_of(line)] = now

    def ended(self, line: str, others: Iterable[str]) -> None:
        """Nobody waits in this line any more; `others` are the lines left in this worker."""
        place = place_of(line)
        if all(place_of(other) != place for other in others):
            self._row[place] = 0.0

    def count(self, waiting: int) -> None:
        """So many requests wait in this worker now."""
        self._shared.waiting[self._index] = waiting
        if waiting:
            self._shared.crowded[0] = 1

    def sweep(self, waiting: int, now: float) -> None:
        """Called a few times a second: who lives, and the one look is made true again."""
        shared, me = self._shared, self._index
        states, beats = shared.states.tolist(), shared.beats.tolist()
        self._others = [
            worker for worker, beat in enumerate(beats) if states[worker] and worker != me and now - beat < SILENT
        ]
        self.count(waiting)
        if shared.crowded[0] and not any(shared.waiting):
            shared.crowded[0] = 0

    def next(self, service: Service, in_vain: set[str]) -> Turn | None:
        """Of the lines in all workers whom a place at this service may help, the one whose last turn was longest ago;
        None where nobody waits.

        `in_vain`: those of this worker that could not use their turn just now.
        """
        waiting, turns = self._shared.waiting, self._shared.turns
        others = [(worker, turns[worker]) for worker in self._others if waiting[worker]]
        found, least = None, inf
        for line, place in self._lines_of(service):
            own = self._row[place]
            if own and own < least and line not in in_vain:
                found, least = Turn(self._index, line), own
            for worker, row in others:
                turn = row[place]
                if turn and turn < least:
                    found, least = Turn(worker, line), turn
        return found

    def _lines_of(self, service: Service) -> list[tuple[str, int]]:
        """Names and places of lines; a service may have thousands, and is asked about with every request that ends."""
        known = self._lines.get(service.slot)
        if known is None or known[0] is not service:
            known = self._lines[service.slot] = service, [(line, place_of(line)) for line in lines_of(service)]
        return known[1]

    def elsewhere(self, line: str) -> bool:
        """Does anybody wait in a line of this name in another worker?"""
        place, waiting, turns = place_of(line), self._shared.waiting, self._shared.turns
        return any(waiting[worker] and turns[worker][place] for worker in self._others)
