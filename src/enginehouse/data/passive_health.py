"""What a worker's requests show of the services: who is put out, who is on trial, who is back.

Owns `PassiveHealth`: this worker's trials, and every change of a standing that a worker makes. May not live here:
counts (`counters`), what being put out means (`policy.ejection`), when a share of failures is too large
(`policy.outliers`), the memory itself (`core.shared`), probes and verdicts (control).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Service
from enginehouse.core.shared import CONTROL_SLOT, Shared, Standing
from enginehouse.policy.ejection import Rules, is_undecided
from enginehouse.policy.outliers import Tally, outliers

#: Seconds that a service rests which does not say for how long, and the longest that one may ask for.
USUAL_REST: Final = 1.0
MAX_REST: Final = 10.0


class PassiveHealth:
    """One worker's part in the health of the services. What it changes, all workers see at once.

    `clock` gives the seconds of the ejections; it is read only where a service has been ejected. `ejected(service)` is
    called with each service that this worker puts out.
    """

    def __init__(
        self, shared: Shared, config: RouterConfig, clock: Callable[[], float], ejected: Callable[[Service], None]
    ) -> None:
        self._shared = shared
        self._rules = Rules(config)
        self._max_errors = config.max_errors
        self._margin = config.outlier_margin
        self._clock = clock
        self._ejected = ejected
        self._members: dict[int, Service] = {}
        self.trials: dict[int, float] = {}
        """Slots of services that this worker has on trial, with the deadline it has set; mostly empty."""

    def use(self, services: dict[int, Service]) -> None:
        """A new fleet, by slot."""
        self._members = {s: v for s, v in services.items() if v.up and v.inference and s != CONTROL_SLOT}
        for slot in [slot for slot in self.trials if slot not in services]:
            del self.trials[slot]

    # -- what attempts show --------------------------------------------------------------------------------------------

    def taken(self, slot: int) -> None:
        """A request goes to a service that was put out not long ago: the first one is its trial."""
        now, standing = self._clock(), self._shared.standing(slot)
        if not is_undecided(standing, now):
            if self._rules.forgotten(standing, now):
                self._shared.levels[slot] = 0
        elif standing.ejected_until <= now:
            standing = self._rules.on_trial(standing, now)
            self._shared.put(slot, standing)
            self.trials[slot] = standing.ejected_until
        else:  # everybody is out, so all are used: what this one shows is as good as a trial
            self.trials.setdefault(slot, 0.0)

    def blamed(self, service: Service, now: float) -> None:
        """An attempt failed. What was under way when its service was put out shows nothing new."""
        slot, streaks = service.slot, self._shared.streaks
        if slot in self.trials and self.decided(service, False, now):
            return
        if self._shared.ejected_until[slot] <= now:
            streaks[slot] += 1
            if streaks[slot] >= self._max_errors:
                self._eject(service, now)

    def decided(self, service: Service, well: bool, now: float) -> bool:
        """The first attempt that ends on a service on trial decides, also one that began before.

        False where nothing was left to decide: it took so long that the service counts as ordinary again.
        """
        slot = service.slot
        deadline = self.trials.pop(slot)
        standing = self._shared.standing(slot)
        if not is_undecided(standing, now):
            return False
        if well:
            self._shared.put(slot, self._rules.back(standing, now))
        elif standing.ejected_until == deadline:
            self._put_out(service, standing, now)
        return True

    def undecided(self, slot: int, now: float) -> None:
        """The trial ended and showed nothing, as when its client left: the next request is another one."""
        deadline = self.trials.pop(slot)
        standing = self._shared.standing(slot)
        if standing.ejected_until == deadline:
            self._shared.put(slot, self._rules.due(standing, now))

    def rest(self, slot: int, seconds: float, now: float) -> None:
        """Others go first for so long; `seconds` is negative where the engine named no time."""
        self._shared.rest(slot, now + (min(seconds, MAX_REST) if seconds >= 0 else USUAL_REST))

    # -- what all of them together show --------------------------------------------------------------------------------

    def compare(self, now: float) -> None:
        """Put out whose share of failures, in what all workers have noted, is too large."""
        found = outliers({slot: Tally(*self._shared.noted(slot)) for slot in self._members}, self._margin)
        for slot in found:
            self._eject(self._members[slot], now)

    def _eject(self, service: Service, now: float) -> None:
        """Put the service out, unless it is, or as many are as may be."""
        slot = service.slot
        if slot not in self._members or self._shared.ejected_until[slot] > now:
            return
        undecided_until = self._shared.undecided_until
        if self._rules.room([undecided_until[member] > now for member in self._members if member != slot]):
            self._put_out(service, self._shared.standing(slot), now)

    def _put_out(self, service: Service, standing: Standing, now: float) -> None:
        self._shared.put(service.slot, self._rules.put_out(standing, now))
        self._ejected(service)
