"""One request from asking to its end: which service is tried, when another one is, and how it ends.

Owns: the `Exchange` machine. Events in, one command out; the table says which states may follow. On the first
attempt of a request it takes two events. May not live here: bytes, connections, clocks, the choice itself (`policy`,
injected as `choose`).

    NEW --asked--> TRYING --ended--> DONE
                   TRYING --connect_failed / broke_early / rejected--> TRYING (another service, or a fresh connection)
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, NamedTuple

from enginehouse.core.outcome import Outcome, Retry
from enginehouse.policy.choose import Choice, Refusal


class _Word(enum.Enum):
    """A state or an event. Each is one object, so its identity is its hash: cheaper than that of its name."""

    __hash__ = object.__hash__


class State(_Word):
    """Where the request is."""

    NEW = "new"
    TRYING = "trying"
    DONE = "done"


class Event(_Word):
    """What happened. The phase is in the event: before or after the head was passed on to the client."""

    ASKED = "asked"
    CONNECT_FAILED = "connect_failed"
    BROKE_EARLY = "broke_early"
    TIMED_OUT_EARLY = "timed_out_early"
    REJECTED = "rejected"
    BROKE_LATE = "broke_late"
    ENDED = "ended"
    CLIENT_LEFT = "client_left"
    STOPPED = "stopped"


class Connect(NamedTuple):
    """Try this service. `fresh`: not on a connection that was used before. `rejections`: how many have rejected it."""

    choice: Choice
    fresh: bool
    rejections: int = 0


class Refuse(NamedTuple):
    """No attempt was made, or none can be made any more: answer with an error that names the model."""

    refusal: Refusal


class Answer(NamedTuple):
    """The attempts failed before a byte reached the client: answer with this outcome's error."""

    outcome: Outcome


class Break(NamedTuple):
    """The answer broke off after its head was passed on: tell the client within the stream, or abort."""

    outcome: Outcome


class PassOn(NamedTuple):
    """Nobody else can take it: the client gets the rejecting engine's own answer."""


class Finish(NamedTuple):
    """All is told; release and count."""

    outcome: Outcome


class Ignore(NamedTuple):
    """A late event: nothing to do."""


Command = Connect | Refuse | Answer | Break | PassOn | Finish | Ignore
Choose = Callable[[tuple[str, ...]], Choice | Refusal]

# Members of an enumeration are looked up by name each time; these are on the way of every request.
_TRYING: Final = State.TRYING
_DONE: Final = State.DONE
_ANSWERED: Final = Outcome.ANSWERED

#: A request that broke this many services is answered, not tried on one more.
MAX_BROKEN: Final = 2
#: Attempts of one request, however many services there are.
MAX_ATTEMPTS: Final = 5


def _nobody(_tried: tuple[str, ...]) -> Refusal:
    """The chooser of a request that is over."""
    return Refusal(Outcome.NO_SERVICE, "")


class Exchange:
    """The machine. `choose(tried)` picks a service that is not among `tried`, or refuses."""

    __slots__ = ("_broken", "_choose", "_rejections", "attempts", "choice", "state", "tried")

    def __init__(self, choose: Choose) -> None:
        self.state = State.NEW
        self.attempts = 0
        self.choice: Choice | None = None
        self.tried: tuple[str, ...] = ()
        self._choose = choose
        self._broken = 0
        self._rejections = 0

    def handle(self, event: Event, outcome: Outcome = _ANSWERED, reused: bool = False) -> Command:
        """Take one event. `outcome` says how the attempt ended, `reused` whether its connection had been used before.

        Raises `KeyError` for an event that the state does not know: a bug of the caller.
        """
        if self.state is _DONE:
            return IGNORE
        action, allowed = TABLE[self.state, event]
        command = action(self, outcome, reused)
        assert self.state in allowed, (event, self.state)
        return command

    def _next(self, fresh: bool) -> Connect | Refusal | None:
        """The next attempt; a refusal where nobody is left, None where enough attempts were made."""
        if self.attempts >= MAX_ATTEMPTS:
            return None
        choice = self._choose(self.tried)
        if isinstance(choice, Refusal):
            return choice
        self.state, self.choice = _TRYING, choice
        self.attempts += 1
        self.tried = (*self.tried, choice.service.name)
        return Connect(choice, fresh, self._rejections)

    def _end(self) -> None:
        """Nobody is asked any more: whoever gave `choose` holds this machine, and a cycle would outlive both."""
        self.state = _DONE
        self._choose = _nobody

    def _asked(self, outcome: Outcome, reused: bool) -> Command:
        command = self._next(fresh=False)
        if isinstance(command, Connect):
            return command
        self._end()
        assert command is not None
        return Refuse(command)

    def _rejected(self, outcome: Outcome, reused: bool) -> Command:
        """The engine is busy or loading: somebody else may not be."""
        self._rejections += 1
        command = self._next(fresh=False)
        if isinstance(command, Connect):
            return command
        self._end()
        return PassOn()

    def _failed_early(self, outcome: Outcome, reused: bool) -> Command:
        """Nothing reached the client: the outcome's row says whether and where to try again."""
        retry = outcome.row.retry
        if retry is Retry.FRESH:
            if reused and self.choice is not None:
                # The engine may have closed an idle connection just as we used it: not its fault, nobody saw a byte.
                self.attempts += 1
                return Connect(self.choice, fresh=True)
            self._broken += 1
            if self._broken >= MAX_BROKEN:
                retry = Retry.NO
        if retry is Retry.NO:
            self._end()
            return Answer(outcome)
        command = self._next(fresh=True)
        if isinstance(command, Connect):
            return command
        self._end()
        return Answer(outcome)

    def _broke_late(self, outcome: Outcome, reused: bool) -> Command:
        self._end()
        return Break(outcome)

    def _finished(self, outcome: Outcome, reused: bool) -> Command:
        self._end()
        return FINISHED if outcome is _ANSWERED else Finish(outcome)


class Step(NamedTuple):
    """What to do on an event, and the states that may follow."""

    action: Callable[[Exchange, Outcome, bool], Command]
    allowed: frozenset[State]


IGNORE: Final = Ignore()
FINISHED: Final = Finish(_ANSWERED)
_ON: Final = frozenset((State.TRYING, State.DONE))
_END: Final = frozenset((State.DONE,))
TABLE: Final[dict[tuple[State, Event], Step]] = {
    (State.NEW, Event.ASKED): Step(Exchange._asked, _ON),
    (State.NEW, Event.CLIENT_LEFT): Step(Exchange._finished, _END),
    (State.NEW, Event.STOPPED): Step(Exchange._finished, _END),
    (State.TRYING, Event.CONNECT_FAILED): Step(Exchange._failed_early, _ON),
    (State.TRYING, Event.BROKE_EARLY): Step(Exchange._failed_early, _ON),
    (State.TRYING, Event.TIMED_OUT_EARLY): Step(Exchange._failed_early, _ON),
    (State.TRYING, Event.REJECTED): Step(Exchange._rejected, _ON),
    (State.TRYING, Event.BROKE_LATE): Step(Exchange._broke_late, _END),
    (State.TRYING, Event.ENDED): Step(Exchange._finished, _END),
    (State.TRYING, Event.CLIENT_LEFT): Step(Exchange._finished, _END),
    (State.TRYING, Event.STOPPED): Step(Exchange._finished, _END),
}
