"""What a worker counts, and the passive side of health: failures in a row eject a service for a while.

Owns: load rows (taken and released here only), cumulative counts per service, streaks. May not live here: probes and
verdicts (control), the deadlines' place (`core.shared`).
"""

from __future__ import annotations

from typing import Final

from enginehouse.core.fleet import Failure, Report, Service, ServiceCount
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import Shared

_ANSWERED: Final = Outcome.ANSWERED
#: Failures kept for one report; control probes once, however many there were.
MAX_FAILURES = 64


class _Count:
    """Counts of one service incarnation since the worker started."""

    __slots__ = ("answered", "errors", "first_byte_seconds", "generation", "requests", "streak")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.requests = 0
        self.errors = 0
        self.answered = 0
        self.first_byte_seconds = 0.0
        self.streak = 0


class Counters:
    """All counts of one worker. `row` is this worker's line of loads, its own to write."""

    def __init__(self, shared: Shared, index: int, max_errors: int, ejection_time: float) -> None:
        self._shared = shared
        self._index = index
        self._max_errors = max_errors
        self._ejection_time = ejection_time
        self._counts: dict[int, _Count] = {}
        self._failures: list[Failure] = []
        self.row = shared.loads[index]
        self.changed = False

    def take(self, service: Service) -> None:
        """An attempt begins: counted before anything is awaited."""
        self.row[service.slot] += 1

    def release(self, service: Service, outcome: Outcome, first_byte_after: float, now: float) -> bool:
        """The attempt ended: the one place that releases its slot and counts it. Returns whether it blames the service.

        `now` is the clock of the ejections. `first_byte_after` is in seconds, negative when no byte came.
        """
        slot = service.slot
        self.row[slot] -= 1
        self.changed = True
        count = self._counts.get(slot)
        if count is None or count.generation != service.generation:
            count = self._counts[slot] = _Count(service.generation)
        count.requests += 1
        if first_byte_after >= 0:
            count.answered += 1
            count.first_byte_seconds += first_byte_after
        if outcome is not _ANSWERED and outcome.row.blames:
            count.errors += 1
            count.streak += 1
            if len(self._failures) < MAX_FAILURES:
                self._failures.append(Failure(slot, service.generation, outcome.value))
            if count.streak >= self._max_errors:
                count.streak = 0
                self._shared.eject(slot, now + self._ejection_time)
            return True
        if first_byte_after >= 0:
            count.streak = 0
        return False

    def release_uncounted(self, service: Service) -> None:
        """The attempt met a connection that the engine had already closed: not a request, not a failure."""
        self.row[service.slot] -= 1

    def report(self, epoch: int, fleet_version: int) -> Report:
        """Everything so far, and the failures since the last report."""
        counts = tuple(
            ServiceCount(slot, c.generation, c.requests, c.errors, c.first_byte_seconds, c.answered)
            for slot, c in self._counts.items()
        )
        failures, self._failures = tuple(self._failures), []
        self.changed = False
        return Report(worker=self._index, epoch=epoch, fleet_version=fleet_version, counts=counts, failures=failures)

    def forget_except(self, services: dict[int, Service]) -> None:
        """A new fleet: counts of incarnations that are gone are dropped, so that the table stays bounded."""
        for slot in [s for s, c in self._counts.items() if s not in services or services[s].generation != c.generation]:
            del self._counts[slot]
