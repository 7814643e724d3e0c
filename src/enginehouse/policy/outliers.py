"""Whose requests fail so much more often than those of the others that it is not the requests' fault.

Owns `Window` (what ended on one service lately) and `outliers`. May not live here: what happens to an outlier
(`ejection`), failures in a row (`data.counters`), where the numbers of other workers stand (`core.shared`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import sqrt
from typing import NamedTuple

#: Ticks that a window is long, and seconds between two of them.
TICKS = 10
TICK = 1.0
#: Requests within the window below which nothing is said, of the service and of the others together.
LEAST = 20
#: Standard deviations that chance is allowed: with four, a service like all others is suspected in 1 of 30000 looks.
DEVIATIONS = 4.0


class Tally(NamedTuple):
    """Requests that ended within a window, and those of them that failed."""

    ended: int
    failed: int


class Window:
    """The latest requests of one service, out of counts that only grow: as many ticks as `LEAST` requests took.

    Never more than `TICKS`, and the one that runs. So a service with many requests is judged by what happens now.
    """

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: deque[Tally] = deque((Tally(0, 0),), TICKS + 1)
        """Counts at the beginning of the longest window and at the end of each tick in it."""

    def tick(self, counted: Tally) -> None:
        """A tick is over; `counted` is everything up to now."""
        self._marks.append(counted)

    def total(self, counted: Tally) -> Tally:
        """What ended within the window; `counted` is everything up to now."""
        for mark in reversed(self._marks):
            if counted.ended - mark.ended >= LEAST:
                break
        return Tally(counted.ended - mark.ended, counted.failed - mark.failed)

    def clear(self, counted: Tally) -> None:
        """What was up to now is dealt with."""
        self._marks.clear()
        self._marks.append(counted)


def outliers(tallies: Mapping[int, Tally], margin: float) -> list[int]:
    """Keys of those whose share of failures is above that of all others together, the worst first.

    Above by `margin` (0…1), and by more than chance explains: `DEVIATIONS` of a binomial distribution with the others'
    share. So where all fail alike nobody is one, however many fail.
    """
    ended = sum([tally.ended for tally in tallies.values()])
    failed = sum([tally.failed for tally in tallies.values()])
    found: list[tuple[float, int]] = []
    for key, tally in tallies.items():
        rest = ended - tally.ended
        if tally.ended < LEAST or rest < LEAST:
            continue
        share, usual = tally.failed / tally.ended, (failed - tally.failed) / rest
        if share - usual > max(margin, DEVIATIONS * sqrt(usual * (1.0 - usual) / tally.ended)):
            found.append((-share, key))
    return [key for _, key in sorted(found)]
