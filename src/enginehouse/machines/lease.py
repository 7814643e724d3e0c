"""A registration and its lease: when to register, renew, repeat and release. Decides only; the babysitter carries out.

Owns: `Lease`, its events (past tense) and its commands (imperative). One call to the registry is under way at a time,
so an answer always belongs to the last command. May not live here: what is registered, HTTP, clocks (`now` is an
argument, monotonic seconds) and chance (`rng` is an argument).

Take-over: whoever registers a name with a new lease is its successor and gets the record. The old instance learns it
by a 409 and stops for good; were it to register again, two instances would take the name from each other for ever.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

#: Seconds before the first repetition of a failed call; doubles up to `LONGEST_DELAY`.
FIRST_DELAY = 0.5
#: Seconds: a registry that comes back is found again within this. There is no last try.
LONGEST_DELAY = 15.0


class Offered(NamedTuple):
    """There is something to register now. `lease` is fresh: made for this incarnation by the caller, never reused."""

    lease: str


class Changed(NamedTuple):
    """The record to register is another one than before (a new model list, a new status)."""


class Withdrawn(NamedTuple):
    """There is nothing to register any more: the engine died, or we stop."""


class Accepted(NamedTuple):
    """The registry carried out the last command."""


class Unknown(NamedTuple):
    """The registry answered 404: it does not know the name."""


class Superseded(NamedTuple):
    """The registry answered 409: the name belongs to another lease."""


class Failed(NamedTuple):
    """No answer, or any other one: unreachable, too slow, 5xx, or refused (400, 401)."""

    message: str = ""


class Woken(NamedTuple):
    """The time `wake_at` has come. Earlier ones are ignored, so a caller may wake too often."""


Event = Offered | Changed | Withdrawn | Accepted | Unknown | Superseded | Failed | Woken


class Register(NamedTuple):
    """POST the record as it is now, with this lease. Also carries a changed record: the call is an upsert."""

    lease: str


class Heartbeat(NamedTuple):
    """POST a heartbeat with this lease."""

    lease: str


class Release(NamedTuple):
    """DELETE the record with this lease."""

    lease: str


Command = Register | Heartbeat | Release


class State(enum.Enum):
    """Where the registration is."""

    UNREGISTERED = "unregistered"
    REGISTERING = "registering"
    REGISTERED = "registered"
    CONFIRMING = "confirming"
    """A heartbeat is under way."""
    BACKING_OFF = "backing off"
    """The last call failed and is repeated at `wake_at`."""
    RELEASING = "releasing"
    SUPERSEDED = "superseded"
    """Another instance has the name. Final."""


class Step(NamedTuple):
    """What to do on an event, and which states may follow."""

    action: Callable[[Lease, Event, float], list[Command]]
    to: frozenset[State]


class Lease:
    """One registration of one incarnation.

    `handle` returns at most one command. While `busy`, the next event that carries an answer is the answer to it.
    """

    def __init__(self, heartbeat_interval: float, rng: Callable[[], float]) -> None:
        """`heartbeat_interval` in seconds; `rng` returns numbers in [0, 1) that spread the calls of many instances."""
        self.state = State.UNREGISTERED
        self.wake_at: float | None = None
        """When `Woken` is expected (monotonic seconds), None while there is nothing to wait for."""
        self.reason = ""
        """Why the last call failed; "" after one that did not."""
        self._interval = heartbeat_interval
        self._rng = rng
        self._wanted = ""  # the lease that should be registered, "" for none
        self._lease = ""  # the lease the registry may know of
        self._changed = False
        self._failures = 0
        self._repeat: type[Register | Heartbeat] = Register

    @property
    def busy(self) -> bool:
        """A command was given and its answer has not been handled yet."""
        return self.state in _BUSY

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event. `now`: monotonic seconds. Raises `KeyError` for a pair that cannot happen (a bug)."""
        step = TABLE[self.state, type(event)]
        commands = step.action(self, event, now)
        assert self.state in step.to, f"{event} led to {self.state}, not one of {sorted(s.value for s in step.to)}"
        return commands

    # actions

    def _stay(self, event: Event, now: float) -> list[Command]:
        return []

    def _offer(self, event: Event, now: float) -> list[Command]:
        assert isinstance(event, Offered)
        self._wanted = event.lease
        self._failures = 0
        return self._next(now)

    def _want(self, event: Event, now: float) -> list[Command]:
        """Offered while a call is under way: its answer decides. An offer on top of an offer keeps the lease."""
        assert isinstance(event, Offered)
        self._wanted = self._wanted or event.lease
        return self._change(event, now)

    def _change(self, event: Event, now: float) -> list[Command]:
        self._changed = True
        return []

    def _change_now(self, event: Event, now: float) -> list[Command]:
        self._changed = True
        return self._next(now)

    def _change_soon(self, event: Event, now: float) -> list[Command]:
        """While backing off: the repetition carries the change. A withdrawn service that is offered registers now."""
        if self._wanted:
            self._changed = True
            return []
        return self._offer(event, now) if isinstance(event, Offered) else []

    def _withdraw(self, event: Event, now: float) -> list[Command]:
        self._wanted = ""
        return []

    def _withdraw_now(self, event: Event, now: float) -> list[Command]:
        self._wanted = ""
        self._failures = 0
        return self._next(now)

    def _accept(self, event: Event, now: float) -> list[Command]:
        self._failures, self.reason = 0, ""
        if self._changed or self._wanted != self._lease:
            return self._next(now)
        self.state = State.REGISTERED
        self.wake_at = now + self._interval * (0.9 + 0.1 * self._rng())
        return []

    def _released(self, event: Event, now: float) -> list[Command]:
        self._failures, self.reason, self._lease = 0, "", ""
        return self._next(now)

    def _register_again(self, event: Event, now: float) -> list[Command]:
        self._changed = True
        return self._next(now)

    def _supersede(self, event: Event, now: float) -> list[Command]:
        self.state, self.wake_at, self.reason = State.SUPERSEDED, None, "another instance registered this name"
        return []

    def _fail(self, event: Event, now: float) -> list[Command]:
        self.reason = event.message if isinstance(event, Failed) else "the registry does not know the path"
        self._repeat = Heartbeat if self.state is State.CONFIRMING else Register
        delay = min(FIRST_DELAY * 2 ** min(self._failures, 16), LONGEST_DELAY)
        self._failures += 1
        self.state, self.wake_at = State.BACKING_OFF, now + delay * (0.5 + 0.5 * self._rng())
        return []

    def _wake(self, event: Event, now: float) -> list[Command]:
        assert self.wake_at is not None
        return self._next(now) if now >= self.wake_at else []

    # the one place that gives commands

    def _next(self, now: float) -> list[Command]:
        """Go from what the registry may know (`_lease`) towards what should be (`_wanted`)."""
        self.wake_at = None
        if self._lease and self._lease != self._wanted:
            self.state = State.RELEASING
            return [Release(self._lease)]
        if not self._wanted:
            self.state = State.UNREGISTERED
            return []
        repeats_heartbeat = self.state is State.BACKING_OFF and self._repeat is Heartbeat
        if self._lease and not self._changed and (self.state is State.REGISTERED or repeats_heartbeat):
            self.state = State.CONFIRMING
            return [Heartbeat(self._lease)]
        self.state, self._lease, self._changed = State.REGISTERING, self._wanted, False
        return [Register(self._lease)]


_S = State
_BUSY = frozenset({_S.REGISTERING, _S.CONFIRMING, _S.RELEASING})
_ANSWERED = frozenset({_S.REGISTERED, _S.REGISTERING, _S.RELEASING})


def _to(*states: State) -> frozenset[State]:
    return frozenset(states)


TABLE: dict[tuple[State, type[Event]], Step] = {
    (_S.UNREGISTERED, Offered): Step(Lease._offer, _to(_S.REGISTERING)),
    (_S.UNREGISTERED, Changed): Step(Lease._stay, _to(_S.UNREGISTERED)),
    (_S.UNREGISTERED, Withdrawn): Step(Lease._stay, _to(_S.UNREGISTERED)),
    (_S.UNREGISTERED, Woken): Step(Lease._stay, _to(_S.UNREGISTERED)),
    (_S.REGISTERING, Offered): Step(Lease._want, _to(_S.REGISTERING)),
    (_S.REGISTERING, Changed): Step(Lease._change, _to(_S.REGISTERING)),
    (_S.REGISTERING, Withdrawn): Step(Lease._withdraw, _to(_S.REGISTERING)),
    (_S.REGISTERING, Accepted): Step(Lease._accept, _ANSWERED),
    (_S.REGISTERING, Unknown): Step(Lease._fail, _to(_S.BACKING_OFF)),
    (_S.REGISTERING, Superseded): Step(Lease._supersede, _to(_S.SUPERSEDED)),
    (_S.REGISTERING, Failed): Step(Lease._fail, _to(_S.BACKING_OFF)),
    (_S.REGISTERING, Woken): Step(Lease._stay, _to(_S.REGISTERING)),
    (_S.REGISTERED, Offered): Step(Lease._change_now, _to(_S.REGISTERING)),
    (_S.REGISTERED, Changed): Step(Lease._change_now, _to(_S.REGISTERING)),
    (_S.REGISTERED, Withdrawn): Step(Lease._withdraw_now, _to(_S.RELEASING)),
    (_S.REGISTERED, Woken): Step(Lease._wake, _to(_S.REGISTERED, _S.CONFIRMING)),
    (_S.CONFIRMING, Offered): Step(Lease._want, _to(_S.CONFIRMING)),
    (_S.CONFIRMING, Changed): Step(Lease._change, _to(_S.CONFIRMING)),
    (_S.CONFIRMING, Withdrawn): Step(Lease._withdraw, _to(_S.CONFIRMING)),
    (_S.CONFIRMING, Accepted): Step(Lease._accept, _ANSWERED),
    (_S.CONFIRMING, Unknown): Step(Lease._register_again, _to(_S.REGISTERING, _S.RELEASING)),
    (_S.CONFIRMING, Superseded): Step(Lease._supersede, _to(_S.SUPERSEDED)),
    (_S.CONFIRMING, Failed): Step(Lease._fail, _to(_S.BACKING_OFF)),
    (_S.CONFIRMING, Woken): Step(Lease._stay, _to(_S.CONFIRMING)),
    (_S.BACKING_OFF, Offered): Step(Lease._change_soon, _to(_S.BACKING_OFF, _S.RELEASING)),
    (_S.BACKING_OFF, Changed): Step(Lease._change_soon, _to(_S.BACKING_OFF)),
    (_S.BACKING_OFF, Withdrawn): Step(Lease._withdraw_now, _to(_S.RELEASING)),
    (_S.BACKING_OFF, Woken): Step(Lease._wake, _to(_S.BACKING_OFF, _S.REGISTERING, _S.CONFIRMING, _S.RELEASING)),
    (_S.RELEASING, Offered): Step(Lease._want, _to(_S.RELEASING)),
    (_S.RELEASING, Changed): Step(Lease._stay, _to(_S.RELEASING)),
    (_S.RELEASING, Withdrawn): Step(Lease._withdraw, _to(_S.RELEASING)),
    (_S.RELEASING, Accepted): Step(Lease._released, _to(_S.UNREGISTERED, _S.REGISTERING)),
    (_S.RELEASING, Unknown): Step(Lease._released, _to(_S.UNREGISTERED, _S.REGISTERING)),
    (_S.RELEASING, Superseded): Step(Lease._supersede, _to(_S.SUPERSEDED)),
    (_S.RELEASING, Failed): Step(Lease._fail, _to(_S.BACKING_OFF)),
    (_S.RELEASING, Woken): Step(Lease._stay, _to(_S.RELEASING)),
} | {
    (_S.SUPERSEDED, kind): Step(Lease._stay, _to(_S.SUPERSEDED))
    for kind in (Offered, Changed, Withdrawn, Accepted, Unknown, Superseded, Failed, Woken)
}
