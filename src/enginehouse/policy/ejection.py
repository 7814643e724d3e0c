"""What a service's requests bring it: put out, tried by one request, taken back slowly, out for longer the next time.

Owns `Rules`: from one `Standing` to the next, and how many may be out at once. May not live here: who has failed how
often (`data.counters`), whose share of failures is too large (`policy.outliers`), who gets a request (`candidates`).

    well --put out--> out (T, 2T, 4T, …) --time is over--> due --a request is let through--> on trial
    on trial --it was answered--> returning --slow start is over--> well, the level is forgotten after a while
    on trial --it failed--> out      on trial --nobody knows yet--> due      due --no request came--> well
"""

from __future__ import annotations

from collections.abc import Iterable

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.shared import Standing

#: Seconds that a trial has the service to itself; also how long one that is due waits for a request. Probes look after
#: an engine that hears everything and says nothing.
TRIAL = 10.0
#: Doublings beyond which a time is no longer doubled; it has met its bound long before.
MOST_DOUBLINGS = 30


class Rules:
    """The numbers of the configuration, and what follows from them. Every `now` is in seconds of one clock."""

    def __init__(self, config: RouterConfig) -> None:
        self._first = config.ejection_time
        self._longest = max(config.ejection_time, config.max_ejection_time)
        self._share = config.max_ejected
        self._slow_start = config.slow_start

    def put_out(self, standing: Standing, now: float) -> Standing:
        """Out, for twice as long as the last time, if that is not forgotten."""
        level = 1 if self.forgotten(standing, now) else standing.level + 1
        until = now + min(self._longest, self._first * 2.0 ** min(level - 1, MOST_DOUBLINGS))
        return Standing(level, until, until + TRIAL)

    def forgotten(self, standing: Standing, now: float) -> bool:
        """It has been well for so long that its next ejection is a first one."""
        return now - max(standing.undecided_until, standing.slow_from) >= self._longest

    def on_trial(self, standing: Standing, now: float) -> Standing:
        """A request is let through; nobody else lets one through before it is decided, or has taken too long."""
        return standing._replace(ejected_until=now + TRIAL, undecided_until=now + 2 * TRIAL)

    def due(self, standing: Standing, now: float) -> Standing:
        """The trial showed nothing: the next request is another one."""
        return standing._replace(ejected_until=now, undecided_until=now + TRIAL)

    def back(self, standing: Standing, now: float) -> Standing:
        """It is well again."""
        return Standing(standing.level, slow_from=now, slow_until=now + self._slow_start)

    def room(self, undecided: Iterable[bool]) -> bool:
        """May one more be put out? `undecided` says for each of the others, whether it is out or to be tried."""
        others = list(undecided)
        return bool(self._share) and sum(others) + 1 <= max(1, int(self._share * (len(others) + 1)))


def is_undecided(standing: Standing, now: float) -> bool:
    """Out, due or on trial: how it does is not known."""
    return now < standing.undecided_until
