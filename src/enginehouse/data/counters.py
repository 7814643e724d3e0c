"""What a worker counts, and the passive side of health: what requests showed puts a service out, or brings it back.

Owns: load rows (taken and released here only), cumulative counts per service, which service this worker has on trial.
May not live here: probes and verdicts (control), what being put out means (`policy.ejection`), the memory itself
(`core.shared`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Failure, Report, Service, ServiceCount
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import CONTROL_SLOT, Shared, Standing
from enginehouse.policy.ejection import Rules, is_undecided

_ANSWERED: Final = Outcome.ANSWERED
_REJECTED: Final = Outcome.REJECTED
#: Failures kept for one report; control probes once, however many there were.
MAX_FAILURES = 64
#: Seconds that a service rests which does not say for how long, and the longest that one may ask for.
USUAL_REST = 1.0
MAX_REST = 10.0


class _Count:
    """Counts of one service incarnation since the worker started."""

    __slots__ = (
        "answered",
        "ejections",
        "errors",
        "failed",
        "first_byte_seconds",
        "generation",
        "rejections",
        "requests",
    )

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.requests = 0
        self.errors = 0
        self.answered = 0
        self.first_byte_seconds = 0.0
        self.rejections = 0
        self.failed = 0
        self.ejections = 0


class Counters:
    """All counts of one worker. `row` is this worker's line of loads, its own to write.

    `clock` gives the seconds of the ejections; it is read only where a service has been ejected.
    """

    def __init__(self, shared: Shared, index: int, config: RouterConfig, clock: Callable[[], float]) -> None:
        self._shared = shared
        self._index = index
        self._max_errors = config.max_errors
        self._rules = Rules(config)
        self._clock = clock
        self._levels = shared.levels
        self._streaks = shared.streaks
        self._counts: dict[int, _Count] = {}
        self._failures: list[Failure] = []
        self._members: tuple[int, ...] = ()
        self.trials: dict[int, float] = {}
        """Slots of services that this worker has on trial, with the deadline it has set; mostly empty."""
        self.row = shared.loads[index]
        self.changed = False

    def take(self, service: Service) -> None:
        """An attempt begins: counted before anything is awaited. It may be the trial of a service that was out."""
        slot = service.slot
        self.row[slot] += 1
        if self._levels[slot]:
            self._try_out(slot)

    def release(
        self,
        service: Service,
        outcome: Outcome,
        first_byte_after: float,
        now: float,
        failed: bool = False,
        charge: bool = True,
    ) -> bool:
        """The attempt ended: the one place that releases its slot and counts it.

        `now` is the clock of the ejections. `first_byte_after` is in seconds, negative when no byte came. `failed`: the
        engine's answer has a status of 500 or above. Without `charge` the blame is held back until `charge()` is
        called, if ever. Returns whether control should look at the service now, which no blame is needed for.
        """
        slot = service.slot
        self.row[slot] -= 1
        self.changed = True
        count = self._count(service)
        count.requests += 1
        if first_byte_after >= 0:
            count.answered += 1
            count.first_byte_seconds += first_byte_after
        if outcome is _ANSWERED:
            if failed:
                count.failed += 1
            elif self._streaks[slot]:
                self._streaks[slot] = 0
            if self.trials and slot in self.trials:
                self._decide(service, not failed, now)
            return False
        if outcome.row.blames:
            if len(self._failures) < MAX_FAILURES:
                self._failures.append(Failure(slot, service.generation, outcome.value))
            if charge:
                self._blame(service, count, now)
            return True
        if outcome is _REJECTED:
            count.rejections += 1
        if slot in self.trials:
            self._retry(slot, now)
        return False

    def charge(self, service: Service, outcome: Outcome, now: float) -> None:
        """The blame for an attempt released without it is due now."""
        if outcome.row.blames:
            self.changed = True
            self._blame(service, self._count(service), now)

    def release_uncounted(self, service: Service) -> None:
        """The attempt met a connection that the engine had already closed: not a request, not a failure."""
        slot = service.slot
        self.row[slot] -= 1
        if slot in self.trials:
            self._retry(slot, self._clock())

    def rest(self, service: Service, seconds: float, now: float) -> None:
        """The engine has answered that it can take nothing now: others go first for a while.

        `seconds`: its `Retry-After`, negative where it named none.
        """
        self._shared.rest(service.slot, now + (min(seconds, MAX_REST) if seconds >= 0 else USUAL_REST))

    def report(self, epoch: int, fleet_version: int) -> Report:
        """Everything so far, and the failures since the last report."""
        counts = tuple(
            ServiceCount(
                slot,
                c.generation,
                c.requests,
                c.errors,
                c.first_byte_seconds,
                c.answered,
                c.rejections,
                c.failed,
                c.ejections,
            )
            for slot, c in self._counts.items()
        )
        failures, self._failures = tuple(self._failures), []
        self.changed = False
        return Report(worker=self._index, epoch=epoch, fleet_version=fleet_version, counts=counts, failures=failures)

    def use(self, services: dict[int, Service]) -> None:
        """A new fleet, by slot. Counts of incarnations that are gone are dropped, so that the table stays bounded."""
        for slot in [s for s, c in self._counts.items() if s not in services or services[s].generation != c.generation]:
            del self._counts[slot]
            self.trials.pop(slot, None)
        self._members = tuple(
            [slot for slot, service in services.items() if service.up and service.inference and slot != CONTROL_SLOT]
        )

    # -- what requests show --------------------------------------------------------------------------------------------

    def _count(self, service: Service) -> _Count:
        count = self._counts.get(service.slot)
        if count is None or count.generation != service.generation:
            count = self._counts[service.slot] = _Count(service.generation)
        return count

    def _blame(self, service: Service, count: _Count, now: float) -> None:
        """A failure, which decides a trial; what was under way when the service was put out shows nothing new."""
        slot = service.slot
        count.errors += 1
        if slot in self.trials:
            self._decide(service, False, now)
        elif self._shared.ejected_until[slot] <= now:
            streak = self._streaks[slot] + 1
            self._streaks[slot] = streak
            if streak >= self._max_errors:
                self.eject(service, now)

    def eject(self, service: Service, now: float) -> None:
        """Put the service out, unless it is, or as many are as may be."""
        slot = service.slot
        self._streaks[slot] = 0
        others = [is_undecided(self._shared.standing(member), now) for member in self._members if member != slot]
        if slot in self._members and self._shared.ejected_until[slot] <= now and self._rules.room(others):
            self._put_out(service, self._shared.standing(slot), now)

    def _put_out(self, service: Service, standing: Standing, now: float) -> None:
        self._shared.put(service.slot, self._rules.put_out(standing, now))
        self._count(service).ejections += 1

    # -- trials --------------------------------------------------------------------------------------------------------

    def _try_out(self, slot: int) -> None:
        """A request goes to a service that was put out not long ago: the first one is its trial."""
        now, standing = self._clock(), self._shared.standing(slot)
        if not is_undecided(standing, now):
            if self._rules.forgotten(standing, now):
                self._levels[slot] = 0
        elif standing.ejected_until <= now:
            standing = self._rules.on_trial(standing, now)
            self._shared.put(slot, standing)
            self.trials[slot] = standing.ejected_until
        else:  # everybody is out, so all are used: what this one shows is as good as a trial
            self.trials.setdefault(slot, 0.0)

    def _decide(self, service: Service, well: bool, now: float) -> None:
        """The first attempt that ends on a service on trial decides, also one that began before."""
        slot = service.slot
        deadline = self.trials.pop(slot)
        standing = self._shared.standing(slot)
        if not is_undecided(standing, now):
            return
        if well:
            self._shared.put(slot, self._rules.back(standing, now))
        elif standing.ejected_until == deadline:
            self._put_out(service, standing, now)

    def _retry(self, slot: int, now: float) -> None:
        """The trial ended and showed nothing, as when its client left."""
        deadline = self.trials.pop(slot)
        standing = self._shared.standing(slot)
        if standing.ejected_until == deadline:
            self._shared.put(slot, self._rules.due(standing, now))
