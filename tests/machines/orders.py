"""Each machine as something that is told events in any order that can happen.

Owns what can happen next to a machine, given what it has commanded (`possible`), and the machines' table of players.
May not live here: what must hold (`test_any_order`), single stories (the machines' own tests).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from enginehouse.core.config.babysitter import BabysitterLimits
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.machines import child, exchange, health, lease
from enginehouse.policy.choose import Busy, Choice, Refusal
from enginehouse.policy.retry import Retries

#: Seconds that may pass before an event: none, a moment, longer than any of the machines' times.
PAUSES = (0.0, 0.4, 70.0)


class Player(Protocol):
    """A machine under test."""

    table: Mapping[Any, Any]
    """Its own: (state, kind of event) -> step."""
    rng: random.Random
    """All chance in it."""

    @property
    def state(self) -> Any:
        """Where it is."""

    def possible(self, now: float) -> Sequence[Any]:
        """Events that can happen now, kinds as they stand in the table first in each."""

    def tell(self, event: Any, now: float) -> list[Any]:
        """One of them happens. Returns what it commands."""

    def kind(self, event: Any) -> Any:
        """What the table calls it."""

    def rest(self, now: float) -> Any:
        """Whatever may still be coming comes and nothing new does; the state in the end."""


class ChildPlayer:
    """A process: time passes only while something is waited for."""

    table: Mapping[Any, Any] = child.TABLE

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.machine = child.Child(BabysitterLimits(max_restarts=rng.choice((0, 1))))

    @property
    def state(self) -> Any:
        return self.machine.state

    def possible(self, now: float) -> Sequence[Any]:
        events = [event for state, event in child.TABLE if state is self.machine.state]
        return [e for e in events if e is not child.Event.TIME_ELAPSED or self.machine.wake_at is not None]

    def kind(self, event: Any) -> Any:
        return event

    def tell(self, event: Any, now: float) -> list[Any]:
        return list(self.machine.handle(event, now, "for a reason"))

    def rest(self, now: float) -> Any:
        """It is asked to stop; the time passes that it gives; at SIGKILL the process ends."""
        if self.state is not child.State.STOPPED:
            commands = self.tell(child.Event.STOP_REQUESTED, now)
            while self.state is not child.State.STOPPED:
                killed = any(isinstance(command, child.Kill) for command in commands)
                waits = self.machine.wake_at is not None
                assert waits or killed or self.state is child.State.STOPPING
                commands = self.tell(child.Event.TIME_ELAPSED if waits else child.Event.EXITED, now)
        return self.state


class HealthPlayer:
    """A service: anything may happen to it at any time."""

    table: Mapping[Any, Any] = health.TABLE

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.machine = health.Health(max_errors=3)

    @property
    def state(self) -> Any:
        return self.machine.state

    def possible(self, now: float) -> Sequence[Any]:
        return [
            health.ProbePassed(),
            health.ProbeFailed("no answer"),
            health.ProbeFailed("refused", refused=True),
            health.RequestsFailed(),
            health.Ejected(now + 30.0),
            health.Confirmed(),
            health.Withdrawn("stopped"),
        ]

    def kind(self, event: Any) -> Any:
        return type(event)

    def tell(self, event: Any, now: float) -> list[Any]:
        return list(self.machine.handle(event, now))

    def rest(self, now: float) -> Any:
        """It is registered and answers every probe, for as long as an ejection may last."""
        self.tell(health.Confirmed(), now)
        self.tell(health.ProbePassed(), max(now, self.machine.until))
        return self.state


class LeasePlayer:
    """A registration: one call at a time, and only a call is answered."""

    table: Mapping[Any, Any] = lease.TABLE

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.machine = lease.Lease(30.0, rng=rng.random)

    @property
    def state(self) -> Any:
        return self.machine.state

    def possible(self, now: float) -> Sequence[Any]:
        outside: list[Any] = [lease.Offered(f"l{self.rng.random()}"), lease.Changed(), lease.Withdrawn(), lease.Woken()]
        answers: list[Any] = [lease.Accepted(), lease.Unknown(), lease.Superseded(), lease.Failed("busy")]
        late = self.state is lease.State.SUPERSEDED  # the answer to a call that was under way may still come
        return outside + answers if self.machine.busy or late else outside

    def kind(self, event: Any) -> Any:
        return type(event)

    def tell(self, event: Any, now: float) -> list[Any]:
        return list(self.machine.handle(event, now))

    def rest(self, now: float) -> Any:
        """It is taken back, and the registry answers everything."""
        self.tell(lease.Withdrawn(), now)
        for _ in range(10):
            if self.machine.busy:
                self.tell(lease.Accepted(), now)
            elif self.machine.wake_at is not None:
                now = max(now, self.machine.wake_at)
                self.tell(lease.Woken(), now)
        return self.state


class ExchangePlayer:
    """A request, with the attempts that run for it: only what runs can fail, only who waits is woken."""

    table: Mapping[Any, Any] = exchange.TABLE

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        config = RouterConfig(max_attempts=rng.choice((1, 2, 3, 5)), retry_timeouts=rng.random() < 0.5)
        self.machine = exchange.Exchange(self._choose, Retries(config))
        self.max_attempts = config.max_attempts
        self._services = rng.choice((0, 1, 2, 4, 8))
        self.asked_for: list[tuple[str, ...]] = []
        """What had been tried, at each choice."""

    def _choose(self, tried: tuple[str, ...]) -> Choice | Busy | Refusal:
        self.asked_for.append(tried)
        left = [name for name in map(str, range(self._services)) if name not in tried]
        refusal = Refusal(Outcome.NO_SERVICE_FOR_MODEL, "m")
        if not left or self.rng.random() < 0.1:
            return refusal
        if self.rng.random() < 0.2:
            return Busy(self.rng.choice(("", "m")), refusal)
        return Choice(service(self.rng.choice(left)), "round_robin")

    @property
    def state(self) -> Any:
        return self.machine.state

    def possible(self, now: float) -> Sequence[Any]:
        """(event, how the attempt ended, whether its connection had been used before)."""
        kinds = [kind for state, kind in exchange.TABLE if state is self.machine.state]
        fresh = [(kind, outcome, False) for kind in kinds for outcome in ENDINGS.get(kind, (Outcome.ANSWERED,))]
        used = [(kind, outcome, True) for kind, outcome, _ in fresh if outcome is Outcome.BROKE_BEFORE_HEAD]
        return fresh + used

    def kind(self, event: Any) -> Any:
        return event[0]

    def tell(self, event: Any, now: float) -> list[Any]:
        return [self.machine.handle(*event)]

    def rest(self, now: float) -> Any:
        """The client leaves."""
        self.machine.handle(exchange.Event.CLIENT_LEFT, Outcome.CLIENT_LEFT)
        return self.state


_E = exchange.Event
#: How attempts end that end with an event; everything else ends none.
ENDINGS: dict[exchange.Event, tuple[Outcome, ...]] = {
    _E.CONNECT_FAILED: (Outcome.CONNECT_FAILED, Outcome.CONNECT_TIMEOUT),
    _E.BROKE_EARLY: (Outcome.BROKE_BEFORE_HEAD, Outcome.BAD_RESPONSE),
    _E.TIMED_OUT_EARLY: (Outcome.FIRST_BYTE_TIMEOUT,),
    _E.REJECTED: (Outcome.REJECTED, Outcome.UNFIT),
    _E.WON: (Outcome.ANSWERED,),
    _E.BROKE_STREAM: (Outcome.BROKE_MIDWAY, Outcome.IDLE_TIMEOUT),
    _E.BROKE_LATE: (Outcome.BROKE_MIDWAY, Outcome.IDLE_TIMEOUT),
    _E.ENDED: (Outcome.ANSWERED,),
    _E.CLIENT_LEFT: (Outcome.CLIENT_LEFT, Outcome.CLIENT_STALLED),
    _E.STOPPED: (Outcome.CUT_AT_STOP, Outcome.BUG),
}


def service(name: str) -> Service:
    """One that does not matter but for its name."""
    return Service(name=name, slot=0, generation=1, host="h", addresses=("127.0.0.1",), port=1, up=True)


#: By the name of its module. `rests`: the states in which it may come to rest.
MACHINES: dict[str, tuple[Callable[[random.Random], Player], set[Any]]] = {
    "child": (ChildPlayer, {child.State.STOPPED}),
    "exchange": (ExchangePlayer, {exchange.State.DONE}),
    "health": (HealthPlayer, {health.State.UP}),
    "lease": (LeasePlayer, {lease.State.UNREGISTERED, lease.State.SUPERSEDED}),
}
