"""Counts of the services, summed over all workers and over the deaths of workers.

Owns `Ledger` and `Count`. Workers send cumulative counts, so a lost report loses nothing, and a restarted control has
the sums again with the first reports. May not live here: transport (`publisher`), presentation (`views`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from enginehouse.core.fleet import Report, ServiceCount

Key = tuple[int, int]
"""Slot and generation."""


class Count(NamedTuple):
    """Sums of one service."""

    requests: int = 0
    errors: int = 0
    answered: int = 0
    first_byte_seconds: float = 0.0
    rejections: int = 0
    failed: int = 0
    ejections: int = 0

    @property
    def response_time(self) -> float:
        """Mean seconds to the first byte, 0 before the first answer."""
        return self.first_byte_seconds / self.answered if self.answered else 0.0

    def plus(self, count: ServiceCount) -> Count:
        """With a worker's counts added."""
        return Count(
            self.requests + count.requests,
            self.errors + count.errors,
            self.answered + count.answered,
            self.first_byte_seconds + count.first_byte_seconds,
            self.rejections + count.rejections,
            self.failed + count.failed,
            self.ejections + count.ejections,
        )


class Ledger:
    """Last counts of each worker, and what workers counted that are gone."""

    def __init__(self) -> None:
        self._gone: dict[Key, Count] = {}
        self._last: dict[int, tuple[int, dict[Key, ServiceCount]]] = {}
        self._mended: dict[int, dict[str, int]] = {}
        self._mended_before = Counter[str]()

    def add(self, report: Report) -> None:
        """Take a worker's report; a new epoch, or counts that begin anew, are added to what it counted before."""
        epoch, last = self._last.get(report.worker, (report.epoch, {}))
        if epoch != report.epoch:
            for key, count in last.items():
                self._fold(key, count)
            self._mended_before.update(self._mended.get(report.worker, {}))
            last = {}
        self._mended[report.worker] = report.mended
        for count in report.counts:
            key = (count.slot, count.generation)
            if (before := last.get(key)) is not None and count.requests < before.requests:
                self._fold(key, before)
            last[key] = count
        self._last[report.worker] = (report.epoch, last)

    def mended(self) -> dict[str, int]:
        """What all workers did so that clients did not see a failure, by name."""
        total = Counter(self._mended_before)
        for counts in self._mended.values():
            total.update(counts)
        return dict(total)

    def total(self, slot: int, generation: int) -> Count:
        """Sums of one service."""
        key = (slot, generation)
        total = self._gone.get(key, Count())
        for _, counts in self._last.values():
            if (count := counts.get(key)) is not None:
                total = total.plus(count)
        return total

    def forget_except(self, keys: Collection[Key]) -> None:
        """Drop the counts of services that are gone."""
        self._gone = {key: count for key, count in self._gone.items() if key in keys}
        self._last = {
            worker: (epoch, {key: count for key, count in counts.items() if key in keys})
            for worker, (epoch, counts) in self._last.items()
        }

    def _fold(self, key: Key, count: ServiceCount) -> None:
        self._gone[key] = self._gone.get(key, Count()).plus(count)
