"""Smooth weighted order: how a weighted round robin visits its services.

Owns `smooth`. May not live here: which services there are and who counts the turns.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import lru_cache
from math import gcd

#: Longest order, beyond four places a service: weights are scaled down to fit (their ratios are rounded then).
MAX_ORDER = 1024


@lru_cache(maxsize=256)
def smooth(weights: tuple[int, ...]) -> Sequence[int]:
    """Indexes of `weights` in an order in which each appears as often as its weight says, spread evenly.

    After any number t of places, index i has come t·w/W times to within less than one (W is the sum): the j-th
    appearance of i lies in places ⌊jW/w⌋ … ⌈(j+1)W/w⌉-1, and earliest deadline first keeps all of these windows
    (Baruah et al., "Proportionate progress", 1996). So 3:1 is AABA or the like, and 5:1:1 never AAAAABC.
    Cached: a snapshot that changes no weight costs nothing.
    """
    parts = _bounded(weights)
    if len(set(parts)) <= 1:
        return range(len(parts))
    total = sum(parts)
    coming = [(0, index, 0) for index in range(len(parts))]
    due: list[tuple[int, int, int]] = []
    order: list[int] = []
    for place in range(total):
        while coming and coming[0][0] <= place:
            _, index, nth = heapq.heappop(coming)
            heapq.heappush(due, (-(-(nth + 1) * total // parts[index]), index, nth))
        _, index, nth = heapq.heappop(due)
        order.append(index)
        if nth + 1 < parts[index]:
            heapq.heappush(coming, ((nth + 1) * total // parts[index], index, nth + 1))
    return tuple(order)


def _bounded(weights: tuple[int, ...]) -> list[int]:
    """Weights of at least 1, in lowest terms, with a sum that keeps the order short."""
    parts = [max(1, weight) for weight in weights]
    common = gcd(*parts)
    parts = [part // common for part in parts]
    limit = max(MAX_ORDER, 4 * len(parts))
    total = sum(parts)
    if total <= limit:
        return parts
    return [max(1, part * limit // total) for part in parts]
