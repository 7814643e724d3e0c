"""What memory did over the soak: its slope, and whether that is zero.

Owns the fit and the bound under which a slope counts as none. May not live here: drawing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Final

from bench.report.results import number

# A process that has just started fills its pools and its interpreter's free lists: this first part is not fitted.
WARM_UP: Final = 0.1
# Allocators keep whole arenas, so memory moves in steps; what a leak of one byte a request adds is more than this.
ZERO: Final = 0.01
AT_LEAST_SAMPLES: Final = 20
MOST_SAMPLES: Final = 400  # fitted; all pairs are looked at

Sample = tuple[float, float, float]


@dataclass(frozen=True)
class Soak:
    """The soak read. Samples are (seconds, bytes of memory, requests so far)."""

    samples: tuple[Sample, ...]
    fitted_from: float  # seconds
    slope: float  # bytes a second
    level: float  # bytes: the median of the fitted part
    growth: float  # bytes: the slope over the fitted part
    requests: float  # in the fitted part

    @property
    def share(self) -> float:
        """The growth, as a share of the memory held."""
        return self.growth / self.level

    @property
    def steady(self) -> bool:
        return self.share <= ZERO

    @property
    def per_request(self) -> float | None:
        """Bytes of growth for each request; None where no request was counted."""
        return self.growth / self.requests if self.requests > 0 else None

    def fit(self, seconds: float) -> float:
        """The fitted line, in bytes: through the middle of the samples."""
        after = [sample for sample in self.samples if sample[0] >= self.fitted_from]
        return self.level + self.slope * (seconds - median(sample[0] for sample in after))


def read(told: Mapping[str, object] | None) -> Soak | None:
    """The soak of a results file; None where it is absent or has too few samples to say anything.

    The slope is Theil and Sen's: the median of the slopes of all pairs, which a few odd samples cannot bend.
    """
    samples = _samples((told or {}).get("samples"))
    if len(samples) < AT_LEAST_SAMPLES:
        return None
    start = samples[0][0] + WARM_UP * (samples[-1][0] - samples[0][0])
    fitted = [sample for sample in samples if sample[0] >= start]
    thinned = fitted[:: -(-len(fitted) // MOST_SAMPLES)]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(thinned, 2) if b[0] > a[0]]
    level = median(sample[1] for sample in fitted)
    if not slopes or level <= 0:
        return None
    slope, length = median(slopes), fitted[-1][0] - fitted[0][0]
    return Soak(samples, fitted[0][0], slope, level, slope * length, fitted[-1][2] - fitted[0][2])


def _samples(told: object) -> tuple[Sample, ...]:
    """Those that are three numbers, by time."""
    found: list[Sample] = []
    for sample in told if isinstance(told, list) else []:
        numbers = [number(value) for value in sample] if isinstance(sample, list) else []
        match numbers:
            case [float() as seconds, float() as memory, float() as requests, *_]:
                found.append((seconds, memory, requests))
    return tuple(sorted(found))
