"""How long something takes: CPU time of the process for one unit, in rounds.

Owns `Case`, `Figure` and the rounds. May not live here: what is measured (`decisions`, `passage`), how it is shown.

Rounds go over all cases in turn, so that a machine that slows down does so for all of them. What is counted is CPU time
of the whole process (user and system, every thread), and with it the loop's call of the operation: about 40 ns.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

Operation = Callable[[], object]

#: A round runs an operation this often at most: enough for the fastest, and the calibration ends.
MAX_COUNT = 10_000_000


class Case(NamedTuple):
    """One thing to measure. What it needs is made once, when it is first asked for."""

    name: str
    make: Callable[[], Operation]
    units: int = 1
    """Units of work in one call of the operation."""


class Figure(NamedTuple):
    """What a case came to: CPU nanoseconds for one unit."""

    rounds: tuple[float, ...]
    units: int
    """In each round."""

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """Half of what lies between the best and the worst round, as a part of the median."""
        return (max(self.rounds) - min(self.rounds)) / 2 / self.median if self.median else 0.0


def measure(cases: Sequence[Case], rounds: int, seconds: float) -> Iterator[tuple[int, Mapping[str, Figure]]]:
    """Yields the figures so far after each round. `seconds`: about how long a case runs in one round."""
    operations = {case.name: case.make() for case in cases}
    _settle()
    counts = {case.name: _calls_in(operations[case.name], seconds) for case in cases}
    taken: dict[str, list[float]] = {case.name: [] for case in cases}
    for number in range(rounds):
        for case in cases:
            calls = counts[case.name]
            taken[case.name].append(_run(operations[case.name], calls) / (calls * case.units))
        figures = {case.name: Figure(tuple(taken[case.name]), counts[case.name] * case.units) for case in cases}
        yield number + 1, figures


def _settle() -> None:
    """As a worker does once it serves (`data.worker`)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _run(operation: Operation, calls: int) -> int:
    """CPU nanoseconds of that many calls."""
    clock = time.process_time_ns
    start = clock()
    for _ in repeat(None, calls):
        operation()
    return clock() - start


def _calls_in(operation: Operation, seconds: float) -> int:
    """About as many calls as take that long; found by doubling, which warms up, too."""
    wanted = seconds * 1e9
    calls = 1
    while (used := _run(operation, calls)) < wanted / 4 and calls < MAX_COUNT:
        calls *= 2
    return max(1, min(MAX_COUNT, round(calls * wanted / max(used, 1))))
