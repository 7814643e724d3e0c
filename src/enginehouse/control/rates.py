"""What happened in the last seconds, read off the sums that only ever rise: rates, and times to the first byte.

Owns `Window` and `Figures`. May not live here: the sums themselves (`measured`), whom they are shown to (`live`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from enginehouse.core.metrics import METRICS, Labels, Values
from enginehouse.core.outcome import Outcome, Who

Sums = Mapping[str, Mapping[Labels, Values]]

#: The sums that figures are made of; all of them have the labels model and service first.
READ: Final = (
    "requests_total",
    "tokens_total",
    "time_to_first_byte_seconds",
    "prefix_prompt_bytes_total",
    "prefix_matched_bytes_total",
)
_FIRST_BYTES: Final = METRICS["time_to_first_byte_seconds"].buckets
_PERCENTILES: Final = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
#: Not the client's doing, and not answered.
_TROUBLES: Final = frozenset(outcome.value for outcome in Outcome if outcome.row.who in (Who.ENGINE, Who.ROUTER))


class Figures:
    """Sums of some requests, or what was added to them in a while."""

    __slots__ = ("errors", "first_bytes", "matched_bytes", "prompt_bytes", "requests", "tokens")

    def __init__(self) -> None:
        self.requests: float = 0
        self.errors: float = 0
        """Ended by engine or router, or answered with a status of 500 or above."""
        self.tokens: dict[str, float] = {"input": 0, "output": 0, "cached": 0}
        self.first_bytes: list[float] = []
        """How many in each bucket of the histogram, and the sum; empty for none."""
        self.prompt_bytes: float = 0
        self.matched_bytes: float = 0

    def add(self, name: str, labels: Labels, values: Sequence[float]) -> None:
        """Take some values of a sum of this name."""
        if name == "requests_total":
            self.requests += values[0]
            if labels[2] in _TROUBLES or labels[3] == "5xx":
                self.errors += values[0]
        elif name == "tokens_total":
            self.tokens[labels[2]] += values[0]
        elif name == "time_to_first_byte_seconds":
            known = self.first_bytes or [0.0] * len(values)
            self.first_bytes = [a + b for a, b in zip(known, values, strict=True)]
        elif name == "prefix_prompt_bytes_total":
            self.prompt_bytes += values[0]
        else:
            self.matched_bytes += values[0]

    def plus(self, other: Figures) -> None:
        """Take those of other requests, too."""
        self.requests += other.requests
        self.errors += other.errors
        for kind, count in other.tokens.items():
            self.tokens[kind] += count
        if other.first_bytes:
            self.add("time_to_first_byte_seconds", (), other.first_bytes)
        self.prompt_bytes += other.prompt_bytes
        self.matched_bytes += other.matched_bytes

    @property
    def hit_share(self) -> float | None:
        """The part of the prompts that was thought to be in caches, 0 to 1; None where nobody looked."""
        return round(min(1.0, self.matched_bytes / self.prompt_bytes), 4) if self.prompt_bytes else None

    @property
    def ttft(self) -> dict[str, float] | None:
        """Percentiles of the time to the first byte in seconds, None where there was none."""
        counts = self.first_bytes[:-1]
        if sum(counts) <= 0:
            return None
        return {name: round(percentile(counts, share), 5) for name, share in _PERCENTILES}


NONE: Final = Figures()
"""Of whom nothing was asked. Not to be changed."""


class Added(NamedTuple):
    """What was added in the window."""

    seconds: float
    total: Figures
    by_service: dict[str, Figures]
    by_model: dict[str, Figures]

    def rate(self, value: float) -> float:
        """So many a second."""
        return round(value / self.seconds, 2) if self.seconds > 0 else 0.0

    def rates(self) -> dict[str, Any]:
        """All requests together, as they are told: of `totals`, what is about a while."""
        figures = self.total
        return {
            "rate": self.rate(figures.requests),
            "error_rate": self.rate(figures.errors),
            "tokens_in_rate": self.rate(figures.tokens["input"]),
            "tokens_out_rate": self.rate(figures.tokens["output"]),
            "ttft": figures.ttft,
            "hit_share": figures.hit_share,
        }


class Window:
    """Remembers the sums of the last `seconds`, one copy a step."""

    def __init__(self, seconds: int) -> None:
        self._steps: deque[tuple[float, dict[str, dict[Labels, Values]]]] = deque(maxlen=seconds + 1)

    def step(self, now: float, sums: Sums) -> Added:
        """What was added since the oldest step that is remembered. `now`: monotonic seconds."""
        self._steps.append((now, {name: dict(sums.get(name, {})) for name in READ}))
        began, before = self._steps[0]
        added = Added(now - began, Figures(), {}, {})
        for name, series in self._steps[-1][1].items():
            old_series = before[name]
            for labels, values in series.items():
                old = old_series.get(labels)
                if values is old or values == old:
                    continue  # most of them: nobody asked
                new = values if old is None else tuple([max(0, a - b) for a, b in zip(values, old, strict=True)])
                model, service = labels[:2]
                for key, found in ((service, added.by_service), (model, added.by_model)):
                    if (figures := found.get(key)) is None:
                        figures = found[key] = Figures()
                    figures.add(name, labels, new)
        for figures in added.by_model.values():
            added.total.plus(figures)
        return added

    def begin(self, other: Window) -> None:
        """Begin anew, with what another one remembers that has gone on meanwhile."""
        self._steps.clear()
        self._steps.extend(other._steps)


def total(sums: Sums) -> Figures:
    """All requests that ever were."""
    figures = Figures()
    for name in READ[:2]:
        for labels, values in sums.get(name, {}).items():
            figures.add(name, labels, values)
    return figures


def percentile(counts: Sequence[float], share: float) -> float:
    """Within the bucket that has it, as if its values were spread evenly. Seconds; above the last bound: that bound."""
    assert _FIRST_BYTES is not None
    bounds = _FIRST_BYTES.bounds
    wanted = share * sum(counts)
    for index, count in enumerate(counts[: len(bounds)]):
        if count and wanted <= count:
            lower = bounds[index - 1] if index else 0.0
            return lower + (bounds[index] - lower) * wanted / count
        wanted -= count
    return bounds[-1]
