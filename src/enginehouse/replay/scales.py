"""From values to places: axes with round ticks, linear and logarithmic, and labels kept apart.

Owns this arithmetic. May not live here: anything that draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

STEPS: Final = (1, 2, 5, 10)


@dataclass(frozen=True)
class Scale:
    """`low` … `high` of the values lie at `start` … `end` of the picture. Values beyond are held at the ends."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        return log_ticks(self.low, self.high, most) if self.log else linear_ticks(self.low, self.high, most)


def linear(highest: float, start: float, end: float) -> Scale:
    """From zero to a little over the highest value."""
    return Scale(0, highest * 1.02 if highest > 0 else 1, start, end)


def rounded(highest: float, start: float, end: float, unit: float = 1) -> Scale:
    """From zero to the next round tick. `unit`: what the ticks are written in, as 1 << 20 for MiB."""
    highest = highest / unit if highest > 0 else 1
    step = _step(highest, 5)
    return Scale(0, math.ceil(highest / step - 1e-9) * step * unit, start, end)


def logarithmic(values: Iterable[float], start: float, end: float, floor: float = 1e-3) -> Scale:
    """Around all values, from one round tick (1, 2, 5 times a power of ten) to another; none is below the floor."""
    kept = [max(value, floor) for value in values] or [1.0]
    low, high = _round_log(min(kept) * 0.999, math.floor), _round_log(max(kept) * 1.001, math.ceil)
    return Scale(low, high, start, end, log=True)


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    step = _step(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [at * step for at in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten with their 2 and 5 between them where there is room; else powers of ten, or every second one."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 3)):
        ticks = [step * 10.0**power for power in range(first, last + 1, every) for step in steps]
        kept = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(kept) <= most:
            return kept
    return kept[:most]


def _step(span: float, most: int) -> float:
    """The smallest round step that makes at most that many."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(step * power for step in STEPS if span / (step * power) <= most + 1e-9)


def _round_log(value: float, towards: object) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    below = max(step for step in STEPS if step * power <= value * (1 + 1e-9))
    above = min(step for step in STEPS if step * power >= value * (1 - 1e-9))
    return (below if towards is math.floor else above) * power


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places as near as can be to the wanted ones, in their order, at least `gap` from each other, within low … high.

    Where they do not all fit, they stand as far from each other as they can.
    """
    order = sorted(range(len(wanted)), key=lambda at: (wanted[at], at))
    if len(order) > 1:
        gap = min(gap, (high - low) / (len(order) - 1))
    placed = [0.0] * len(wanted)
    floor = low
    for at in order:  # down, then back up from the far end
        placed[at] = floor = max(wanted[at], floor)
        floor += gap
    ceiling = high
    for at in reversed(order):
        placed[at] = ceiling = min(placed[at], ceiling)
        ceiling -= gap
    return placed


def off_the_scale(values: Iterable[float], most: float = 8.0) -> float:
    """The highest value that an axis from zero should reach: one more than `most` times its next is left beyond it."""
    kept = sorted(values)
    while len(kept) > 1 and kept[-1] > most * kept[-2]:
        kept.pop()
    return kept[-1] if kept else 1.0
