"""Who runs when: interleaving and the time it takes. Pure.

Owns `turns()` and `Progress`. May not live here: running anything, clocks.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Turn(NamedTuple):
    """One measurement."""

    run: int
    """From 1."""
    position: int
    """From 1: after how many others of this run."""
    contestant: str


def turns(case: str, contestants: Sequence[str], runs: int, seed: int) -> Iterator[Turn]:
    """Every contestant once in each run, in an order that differs from run to run and repeats with the same seed."""
    rng = random.Random(f"{seed} {case}")
    for run in range(1, runs + 1):
        order = list(contestants)
        rng.shuffle(order)
        for position, contestant in enumerate(order, 1):
            yield Turn(run, position, contestant)


class Progress:
    """How far a bench is. Seconds expected are corrected by those it really took."""

    def __init__(self, expected: float) -> None:
        """`expected`: seconds of everything."""
        self._expected = expected
        self._planned = 0.0
        self._taken = 0.0

    def done(self, planned: float, taken: float) -> None:
        """Something for which `planned` seconds were expected took `taken`."""
        self._planned += planned
        self._taken += taken

    @property
    def left(self) -> float:
        """Seconds that remain, as far as can be said."""
        pace = self._taken / self._planned if self._planned else 1.0
        return max(0.0, self._expected - self._planned) * pace


def words(seconds: float) -> str:
    """`95.0` as `1 min 35 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
