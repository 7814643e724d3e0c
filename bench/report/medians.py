"""Medians with their spread, and how many times as much one took as another.

Owns the arithmetic of the report. May not live here: which figures are compared, how a number is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """What several runs of the same measurement say. `runs` is how many they are."""

    median: float
    low: float
    high: float
    runs: int


@dataclass(frozen=True)
class Ratio:
    """Two things measured in the same runs, divided.

    `by_run` is over the quotients of each run: a drift of the machine over the session cancels out in it.
    `of_medians` is one median divided by the other: a single odd pair of runs cannot move it.
    """

    by_run: Spread
    of_medians: float

    @property
    def worse(self) -> float:
        return max(self.by_run.median, self.of_medians)


def spread(values: Iterable[float]) -> Spread | None:
    """None where there is no value."""
    kept = sorted(values)
    return Spread(median(kept), kept[0], kept[-1], len(kept)) if kept else None


def differences(top: Mapping[int, float], bottom: Mapping[int, float]) -> dict[int, float]:
    """run → top − bottom, for the runs that both have."""
    return {run: top[run] - bottom[run] for run in top if run in bottom}


def ratio(top: Mapping[int, float], bottom: Mapping[int, float]) -> Ratio | None:
    """top ÷ bottom over the runs that both have; None without such a run, or where the bottom is not above zero."""
    runs = [run for run in top if run in bottom]
    if not runs or min(bottom[run] for run in runs) <= 0:
        return None
    quotients = spread(top[run] / bottom[run] for run in runs)
    assert quotients is not None
    return Ratio(quotients, median(top[run] for run in runs) / median(bottom[run] for run in runs))
