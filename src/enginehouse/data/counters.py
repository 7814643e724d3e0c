"""What a worker counts, and what attempts that begin and end mean for the health of their services.

Owns: load rows (taken and released here only), cumulative counts per service, the failures to report. May not live
here: what follows for a service (`passive_health`), probes and verdicts (control).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Failure, Report, Service, ServiceCount
from enginehouse.core.glimpse import Glimpse
from enginehouse.core.metrics import Series
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import CONTROL_SLOT, Shared
from enginehouse.data.measures import Measures, Tries
from enginehouse.data.passive_health import PassiveHealth
from enginehouse.policy.outliers import TICK, Tally, Window

_ANSWERED: Final = Outcome.ANSWERED
_REJECTED: Final = Outcome.REJECTED
#: Failures kept for one report; control probes once, however many there were.
MAX_FAILURES: Final = 64
#: What control is told of an ejection, in place of an outcome.
EJECTED: Final = "ejected"


class _Count:
    """Counts of one service incarnation since the worker started."""

    __slots__ = (
        "answered",
        "ejections",
        "errors",
        "failed",
        "first_byte_seconds",
        "generation",
        "neutral",
        "noted",
        "rejections",
        "requests",
        "tells_cached",
        "tries",
        "window",
    )

    def __init__(self, generation: int, tries: Tries) -> None:
        self.generation = generation
        self.requests = 0
        self.errors = 0
        self.answered = 0
        self.first_byte_seconds = 0.0
        self.rejections = 0
        self.failed = 0
        self.ejections = 0
        self.neutral = 0
        """Requests that ended without showing how the service does."""
        self.tells_cached = False
        """It has told how much of a prompt it had in its cache."""
        self.window = Window()
        self.noted = Tally(0, 0)
        self.tries = tries
        """The same attempts as the metrics count them: for all incarnations together."""

    def tally(self) -> Tally:
        """Requests that showed how the service does, and those that showed it badly."""
        return Tally(self.requests - self.neutral, self.errors + self.failed)


class Counters:
    """All counts of one worker. `row`, `queued` and `held` are its rows of loads, of tokens still to be computed and of
    tokens of prompts in flight, its own to write. `clock`: as in `PassiveHealth`."""

    def __init__(
        self, shared: Shared, index: int, config: RouterConfig, clock: Callable[[], float], measures: Measures
    ) -> None:
        self._measures = measures
        self._pid = os.getpid()
        self._shared = shared
        self._index = index
        self._levels = shared.levels
        self._streaks = shared.streaks
        self._counts: dict[int, _Count] = {}
        self._failures: list[Failure] = []
        self._clock = clock
        self._health = PassiveHealth(shared, config, clock, self._ejected)
        self._ticked = 0.0
        self._bad = False
        """Something failed since the services were compared."""
        self.trials = self._health.trials
        """Slots of the services that this worker has on trial; mostly empty, for one look to tell."""
        self.row = shared.loads[index]
        self.queued = shared.queued[index]
        self.held = shared.held[index]
        self.changed = False

    # -- attempts ------------------------------------------------------------------------------------------------------

    def take(self, service: Service) -> None:
        """An attempt begins: counted before anything is awaited. It may be the trial of a service that was out."""
        slot = service.slot
        self.row[slot] += 1
        if self._levels[slot]:
            self._health.taken(slot)

    def queue(self, service: Service, tokens: int) -> None:
        """So many tokens of prompts are to be computed, or (negative) no longer."""
        self.queued[service.slot] += tokens

    def hold(self, service: Service, tokens: int) -> None:
        """A prompt of so many tokens is in flight, or (negative) no longer."""
        self.held[service.slot] += tokens

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
        engine's answer tells of a defect (5xx). Without `charge` the blame is held back until `charge()` is
        called, if ever. Returns whether the outcome blames the service: a reason for control to look, charged or not.
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
            count.tries.answered += 1
            if failed:
                count.failed += 1
                self._bad = True
            elif self._streaks[slot]:
                self._streaks[slot] = 0
            if self.trials and slot in self.trials:
                self._health.decided(service, not failed, now)
            return False
        count.tries.add(outcome)
        if outcome.row.blames:
            self._tell(service, outcome.value)
            if charge:
                count.errors += 1
                self._bad = True
                self._health.blamed(service, now)
            else:
                count.neutral += 1
            return True
        count.neutral += 1
        if outcome is _REJECTED:
            count.rejections += 1
        if slot in self.trials:
            self._health.undecided(slot, now)
        return False

    def answers(self, service: Service, now: float) -> None:
        """An answer that is no error has begun. Need only be called while there are `trials`: a long one is decided."""
        if service.slot in self.trials:
            self._health.decided(service, True, now)

    def charge(self, service: Service, outcome: Outcome, now: float) -> None:
        """The blame for an attempt released without it is due now."""
        if outcome.row.blames:
            self.changed = True
            count = self._count(service)
            count.errors += 1
            count.neutral -= 1
            self._bad = True
            self._health.blamed(service, now)

    def release_uncounted(self, service: Service) -> None:
        """The attempt met a connection that the engine had already closed: not a request, not a failure."""
        slot = service.slot
        self.row[slot] -= 1
        if slot in self.trials:
            self._health.undecided(slot, self._clock())

    def rest(self, service: Service, seconds: float, now: float) -> None:
        """The engine answered that it can take nothing now: others go first for a while, at most `MAX_REST`.

        `seconds`: its `Retry-After`, negative where it named none.
        """
        self._health.rest(service.slot, seconds, now)

    def told_cached(self, service: Service) -> None:
        """An answer tells how much of the prompt was in the service's cache."""
        self._count(service).tells_cached = True

    def tells_cached(self, service: Service) -> bool:
        """Has an answer of this incarnation ever told it? Then one that does not had nothing to tell."""
        return self._count(service).tells_cached

    # -- the sweep, reports, fleets ------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Called with every sweep: where requests fail, and once a second, compare the services' shares of failures.

        Every worker notes in the shared memory what it saw, and looks at what all saw if it saw a failure itself.
        """
        ticks = now - self._ticked >= TICK
        if not (ticks or self._bad):
            return
        if ticks:
            self._ticked = now
        bad, self._bad = self._bad, False
        undecided_until = self._shared.undecided_until
        for slot, count in self._counts.items():
            tally = count.tally()
            if undecided_until[slot] > now:
                count.window.clear(tally)
            elif ticks:
                count.window.tick(tally)
            noted = count.window.total(tally)
            if noted != count.noted:
                count.noted = noted
                self._shared.note(self._index, slot, noted.ended, noted.failed)
            bad = bad or noted.failed > 0
        if bad:
            self._health.compare(now)

    def report(
        self,
        epoch: int,
        fleet_version: int,
        mended: dict[str, int] | None = None,
        glimpse: Glimpse | None = None,
        traced: bytes = b"",
        gauges: tuple[Series, ...] = (),
    ) -> Report:
        """Everything so far, the failures since the last report, and the metrics that changed since then; with
        `glimpse`, `traced` and `gauges`, if there are any."""
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
        measures, self.changed = self._measures.tell()
        return Report(
            worker=self._index,
            epoch=epoch,
            fleet_version=fleet_version,
            counts=counts,
            failures=failures,
            mended=mended or {},
            glimpse=glimpse,
            traced=traced,
            measures=tuple(measures),
            gauges=gauges,
            pid=self._pid,
        )

    def use(self, services: dict[int, Service]) -> None:
        """A new fleet, by slot. Counts of incarnations that are gone are dropped, so that the table stays bounded."""
        for slot in [s for s, c in self._counts.items() if s not in services or services[s].generation != c.generation]:
            del self._counts[slot]
            self._shared.note(self._index, slot, 0, 0)
        self._health.use(services)

    def _count(self, service: Service) -> _Count:
        count = self._counts.get(service.slot)
        if count is None or count.generation != service.generation:
            # The router's own paths are no service, though one may bear the same name.
            own = service.slot == CONTROL_SLOT
            tries = Tries(service.name) if own else self._measures.tries(service.name)
            count = self._counts[service.slot] = _Count(service.generation, tries)
        return count

    def _tell(self, service: Service, what: str) -> None:
        if len(self._failures) < MAX_FAILURES:
            self._failures.append(Failure(service.slot, service.generation, what))

    def _ejected(self, service: Service) -> None:
        count = self._count(service)
        count.ejections += 1
        count.tries.ejections += 1
        self._tell(service, EJECTED)
        self.changed = True
