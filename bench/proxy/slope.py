"""A straight line through points, and how sure its slope is. Pure.

Owns `fit()`. May not live here: what the points are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Slope(NamedTuple):
    """Of y over x."""

    value: float
    error: float
    """Standard error of ordinary least squares: taken as if points knew nothing of each other, so rather too small."""


def fit(points: Sequence[tuple[float, float]]) -> Slope:
    """Least squares through at least three points whose x are not all the same. Raises `ValueError` for others."""
    count = len(points)
    if count < 3:
        raise ValueError(f"a slope with an error needs three points, there are {count}")
    middle_x = sum(x for x, _ in points) / count
    middle_y = sum(y for _, y in points) / count
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    if not spread:
        raise ValueError("a slope needs points at different x")
    value = sum((x - middle_x) * (y - middle_y) for x, y in points) / spread
    rest = sum((y - middle_y - value * (x - middle_x)) ** 2 for x, y in points)
    return Slope(value, math.sqrt(rest / (count - 2) / spread))
