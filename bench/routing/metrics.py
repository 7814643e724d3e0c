"""What a run was like for those who asked.

Owns `Record` and the figures made of them. May not live here: intervals over seeds (`bench.report`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

#: Seconds to the first token, and for each further one, that count as good service.
GOOD_FIRST, GOOD_EACH = 2.0, 0.1


class Record(NamedTuple):
    """One request as it went. Times in seconds from the start of the load."""

    asked: float
    first: float
    ended: float
    tokens: int
    cached: int
    output: int
    engine: int
    attempts: int = 1

    @property
    def to_first(self) -> float:
        """Seconds to the first token."""
        return self.first - self.asked

    @property
    def each(self) -> float:
        """Seconds for each further token."""
        return (self.ended - self.first) / max(1, self.output - 1)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def figures(records: Sequence[Record], sent: int, engines: int) -> dict[str, float]:
    """Figures of a run; `sent` requests were asked, on so many engines."""
    first = sorted(record.to_first for record in records)
    each = sorted(record.each for record in records)
    good = sum(record.to_first <= GOOD_FIRST and record.each <= GOOD_EACH for record in records)
    work = Counter[int]()
    for record in records:
        work[record.engine] += record.tokens - record.cached + record.output
    span = max(record.ended for record in records) - min(record.asked for record in records)
    found = {
        "ttft_mean": fmean(first),
        **{f"ttft_p{share}": quantile(first, share / 100) for share in (50, 90, 99)},
        "tpot_mean": fmean(each),
        "tpot_p99": quantile(each, 0.99),
        "goodput": good / span,
        "good": good / sent,
        "hit": sum(record.cached for record in records) / sum(record.tokens for record in records),
        "balance": max(work.values()) * engines / sum(work.values()),
        "rejects": sent - len(records),
        "span": span,
    }
    return {name: round(value, 5) for name, value in found.items()}
