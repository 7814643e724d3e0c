"""A service's health, as router control judges it. Decides only; the prober and the roster carry out.

Owns: `Health`, its events (past tense) and its commands (imperative). What failed *requests* mean is judged by the
workers, who eject through shared memory (`policy.ejection`); here an ejection is an event. May not live here: probing,
clocks (`now` is an argument, monotonic seconds), membership in the fleet.

    UNKNOWN --probe passed, confirmed--> UP --max_errors probes failed, or one refused after a suspicion--> DOWN
    DOWN --probe passed--> UP            UP --ejected--> EJECTED --probe passed after its time--> UP
    EJECTED --probe failed--> DOWN       any --withdrawn--> WITHDRAWN --confirmed--> UP

A registry's opinion of a service's health is never an event: it would flap with every synchronisation.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

from enginehouse.core.record import DRAINING

#: Seconds until the probe after a failed one; grows by `GROWTH` with each further failure, up to the usual interval.
FIRST_DELAY = 0.5
#: A service is found again at the latest after half the time it was away.
GROWTH = 1.5

#: Why a service is ejected: failures in a row, or a share of failures far above that of the others.
TOO_MANY = "too many of its requests failed"


class ProbePassed(NamedTuple):
    """The engine answered that it is well."""


class ProbeFailed(NamedTuple):
    """It did not. `refused`: nobody listens there, which one probe is enough to know when there was a suspicion."""

    reason: str
    refused: bool = False


class RequestsFailed(NamedTuple):
    """A worker reported an attempt that blames the service. One is no verdict, but a reason to look."""


class Ejected(NamedTuple):
    """A worker ejected the service until then (monotonic seconds): too many of its requests failed."""

    until: float


class Confirmed(NamedTuple):
    """Its babysitter has just registered it, or says again that it runs."""


class Withdrawn(NamedTuple):
    """Its registration says that it does not run."""

    status: str


Event = ProbePassed | ProbeFailed | RequestsFailed | Ejected | Confirmed | Withdrawn


class Probe(NamedTuple):
    """Probe it now, not at its usual time."""


class Readmit(NamedTuple):
    """End an ejection: what it was for is over."""

    slowly: bool = False
    """It was away, so its caches are cold: it gets a growing part of its requests at first."""


Command = Probe | Readmit


class State(enum.Enum):
    """What control thinks of a service."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    EJECTED = "ejected"
    """Probes pass, requests fail. Shared memory keeps requests away until the deadline."""
    WITHDRAWN = "withdrawn"


class Step(NamedTuple):
    """What to do on an event, and which states may follow."""

    action: Callable[[Health, Event, float], list[Command]]
    to: frozenset[State]


class Health:
    """One service's health. Every pair of state and event is in the table."""

    __slots__ = ("_max_errors", "_suspected", "failures", "reason", "state", "until")

    def __init__(self, max_errors: int) -> None:
        """`max_errors`: failed probes in a row that take a service down."""
        self.state = State.UNKNOWN
        self.failures = 0
        """Failed probes in a row."""
        self.reason = "not probed yet"
        """Why it is not up, "" while nothing is wrong."""
        self.until = 0.0
        """End of the last ejection."""
        self._max_errors = max_errors
        self._suspected = False  # a failed request, or a confirmation that no probe has borne out yet

    @property
    def up(self) -> bool:
        """May it get requests? An ejected one, too: the workers keep its deadline, with or without control."""
        return self.state in (State.UP, State.EJECTED)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event at `now`, monotonic seconds."""
        step = TABLE[self.state, type(event)]
        commands = step.action(self, event, now)
        assert self.state in step.to, f"{event} led to {self.state}, not one of {sorted(s.value for s in step.to)}"
        return commands

    def probe_delay(self, now: float, interval: float) -> float:
        """Seconds until the next probe is due, at most the usual `interval`."""
        if self.failures:
            return min(interval, FIRST_DELAY * GROWTH ** min(self.failures - 1, 32))
        if self.state is State.EJECTED:
            return min(interval, max(FIRST_DELAY, self.until - now))
        return interval

    # actions

    def _stay(self, event: Event, now: float) -> list[Command]:
        return []

    def _look(self, event: Event, now: float) -> list[Command]:
        return [Probe()]

    def _suspect(self, event: Event, now: float) -> list[Command]:
        self._suspected = True
        return [Probe()]

    def _pass(self, event: Event, now: float) -> list[Command]:
        self.state, self.failures, self.reason, self._suspected = State.UP, 0, "", False
        return []

    def _return(self, event: Event, now: float) -> list[Command]:
        """Up at once, whatever the requests of its bad time led to."""
        return [*self._pass(event, now), Readmit(slowly=True)]

    def _serve_out(self, event: Event, now: float) -> list[Command]:
        """A passed probe does not end an ejection: the requests failed although probes passed."""
        self.failures = 0
        return self._pass(event, now) if now >= self.until else []

    def _fail(self, event: Event, now: float) -> list[Command]:
        """One failure is an accident, unless requests failed too and nobody listens there."""
        assert isinstance(event, ProbeFailed)
        self.failures += 1
        self.reason = event.reason
        if self.failures >= self._max_errors or (event.refused and self._suspected):
            self.state = State.DOWN
        return []

    def _fall(self, event: Event, now: float) -> list[Command]:
        assert isinstance(event, ProbeFailed)
        self.state, self.failures, self.reason = State.DOWN, self.failures + 1, event.reason
        return []

    def _eject(self, event: Event, now: float) -> list[Command]:
        assert isinstance(event, Ejected)
        self.state, self.reason = State.EJECTED, TOO_MANY
        self.until = max(self.until, event.until)
        return []

    def _trust(self, event: Event, now: float) -> list[Command]:
        """Its babysitter has seen the engine answer: requests now, and a probe to see that we reach it, too."""
        slowly = self.state is State.WITHDRAWN
        self.state, self.failures, self.reason, self._suspected = State.UP, 0, "", True
        return [Readmit(slowly), Probe()]

    def _withdraw(self, event: Event, now: float) -> list[Command]:
        assert isinstance(event, Withdrawn)
        self.state, self.failures = State.WITHDRAWN, 0
        drained = event.status == DRAINING
        self.reason = "draining: it finishes what it has" if drained else f"registered with status {event.status!r}"
        return []


_S = State


def _to(*states: State) -> frozenset[State]:
    return frozenset(states)


TABLE: dict[tuple[State, type[Event]], Step] = {
    (_S.UNKNOWN, ProbePassed): Step(Health._pass, _to(_S.UP)),
    (_S.UNKNOWN, ProbeFailed): Step(Health._fall, _to(_S.DOWN)),
    (_S.UNKNOWN, RequestsFailed): Step(Health._suspect, _to(_S.UNKNOWN)),
    (_S.UNKNOWN, Ejected): Step(Health._stay, _to(_S.UNKNOWN)),
    (_S.UNKNOWN, Confirmed): Step(Health._trust, _to(_S.UP)),
    (_S.UP, ProbePassed): Step(Health._pass, _to(_S.UP)),
    (_S.UP, ProbeFailed): Step(Health._fail, _to(_S.UP, _S.DOWN)),
    (_S.UP, RequestsFailed): Step(Health._suspect, _to(_S.UP)),
    (_S.UP, Ejected): Step(Health._eject, _to(_S.EJECTED)),
    (_S.UP, Confirmed): Step(Health._stay, _to(_S.UP)),
    (_S.DOWN, ProbePassed): Step(Health._return, _to(_S.UP)),
    (_S.DOWN, ProbeFailed): Step(Health._fall, _to(_S.DOWN)),
    (_S.DOWN, RequestsFailed): Step(Health._stay, _to(_S.DOWN)),
    (_S.DOWN, Ejected): Step(Health._stay, _to(_S.DOWN)),
    (_S.DOWN, Confirmed): Step(Health._look, _to(_S.DOWN)),
    (_S.EJECTED, ProbePassed): Step(Health._serve_out, _to(_S.EJECTED, _S.UP)),
    (_S.EJECTED, ProbeFailed): Step(Health._fall, _to(_S.DOWN)),
    (_S.EJECTED, RequestsFailed): Step(Health._suspect, _to(_S.EJECTED)),
    (_S.EJECTED, Ejected): Step(Health._eject, _to(_S.EJECTED)),
    (_S.EJECTED, Confirmed): Step(Health._look, _to(_S.EJECTED)),
    (_S.WITHDRAWN, ProbePassed): Step(Health._stay, _to(_S.WITHDRAWN)),
    (_S.WITHDRAWN, ProbeFailed): Step(Health._stay, _to(_S.WITHDRAWN)),
    (_S.WITHDRAWN, RequestsFailed): Step(Health._stay, _to(_S.WITHDRAWN)),
    (_S.WITHDRAWN, Ejected): Step(Health._stay, _to(_S.WITHDRAWN)),
    (_S.WITHDRAWN, Confirmed): Step(Health._trust, _to(_S.UP)),
} | {(state, Withdrawn): Step(Health._withdraw, _to(_S.WITHDRAWN)) for state in State}
