"""One request from asking to its end: which service is tried, when another one is, and how it ends.

Owns: the `Exchange` machine. Events in, one command out; the table says which states may follow. On the first
attempt of a request it takes two events. May not live here: bytes, connections, clocks, the choice itself (`policy`,
injected as `choose`), the rule of repetition (`policy.retry`).

    NEW --asked--> TRYING --ended--> DONE               nobody free: NEW, TRYING --> QUEUED --freed--> TRYING
    TRYING --connect_failed / broke_early / rejected--> TRYING (another service, or a fresh connection)
    TRYING --slow--> RACING (two attempts at once) --one of them failed / won--> TRYING
    TRYING --broke_stream--> RESUMING (another service goes on with the answer), which may wait, too: PARKED
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, NamedTuple

from enginehouse.core.outcome import Outcome, Retry
from enginehouse.policy.choose import Busy, Choice, Refusal
from enginehouse.policy.retry import MAX_BROKEN, Retries


class _Word(enum.Enum):
    """A state or an event. Each is one object, so its identity is its hash: cheaper than that of its name."""

    __hash__ = object.__hash__


class State(_Word):
    """Where the request is."""

    NEW = "new"
    QUEUED = "queued"
    """Waits for a service to become free or ready; nothing of an answer was sent."""
    TRYING = "trying"
    RACING = "racing"
    """Two attempts run: the first was slow."""
    RESUMING = "resuming"
    """A part of the answer was sent and its engine is gone: another one goes on with it."""
    PARKED = "parked"
    """Waits for one that can."""
    DONE = "done"


class Event(_Word):
    """What happened. The phase is in the event: before or after the head was passed on to the client."""

    ASKED = "asked"
    FREED = "freed"
    TURNED_AWAY = "turned_away"
    """There is no place to wait."""
    LATE = "late"
    """It waited as long as it may."""
    CONNECT_FAILED = "connect_failed"
    BROKE_EARLY = "broke_early"
    TIMED_OUT_EARLY = "timed_out_early"
    REJECTED = "rejected"
    SLOW = "slow"
    WON = "won"
    """One of two attempts answers; the other was ended."""
    BROKE_STREAM = "broke_stream"
    """A streamed answer broke off that another engine can go on with."""
    BROKE_LATE = "broke_late"
    ENDED = "ended"
    CLIENT_LEFT = "client_left"
    STOPPED = "stopped"


class Connect(NamedTuple):
    """Try this service. `fresh`: not on a connection that was used before. `rejections`: how many have rejected it."""

    choice: Choice
    fresh: bool
    rejections: int = 0


class Reconnect(NamedTuple):
    """Try the same service again, on a fresh connection."""


class Race(NamedTuple):
    """Try this service, too; whichever answers first is heard."""

    choice: Choice


class Wait(NamedTuple):
    """Nobody can take it now. `line`: where to wait; None: apart, because every service of its model has failed it."""

    line: str | None


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

    outcome: Outcome


class Finish(NamedTuple):
    """All is told; release and count."""

    outcome: Outcome


class Ignore(NamedTuple):
    """A late event: nothing to do."""


Command = Connect | Reconnect | Race | Wait | Refuse | Answer | Break | PassOn | Finish | Ignore
Choose = Callable[[tuple[str, ...]], Choice | Busy | Refusal]

IGNORE: Final = Ignore()
RECONNECT: Final = Reconnect()
# Members of an enumeration are looked up by name each time; these are on the way of every request.
_TRYING: Final = State.TRYING
_QUEUED: Final = State.QUEUED
_RESUMING: Final = State.RESUMING
_PARKED: Final = State.PARKED
_DONE: Final = State.DONE
_ANSWERED: Final = Outcome.ANSWERED
FINISHED: Final = Finish(_ANSWERED)


def _nobody(_tried: tuple[str, ...]) -> Refusal:
    """The chooser of a request that is over."""
    return Refusal(Outcome.NO_SERVICE, "")


class Exchange:
    """The machine. `choose(tried)` picks a service not among `tried`, says that waiting is worth it, or refuses."""

    __slots__ = ("_choose", "_instead", "_rejections", "_retries", "attempts", "broken", "state", "tried")

    def __init__(self, choose: Choose, retries: Retries) -> None:
        self.state = State.NEW
        self.attempts = 0
        self.tried: tuple[str, ...] = ()
        """Names of services that had their attempt."""
        self.broken = 0
        """Services that broke off while they worked on it."""
        self._choose = choose
        self._retries = retries
        self._rejections = 0
        self._instead: Command = IGNORE
        """What to do when waiting is not possible or was in vain."""

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

    @property
    def poisonous(self) -> bool:
        """It broke as many services as one may: none of them is to blame."""
        return self.broken >= MAX_BROKEN

    def _next(self, fresh: bool) -> Connect | Busy | Refusal | None:
        """The next attempt; None where enough were made."""
        if self.attempts >= self._retries.max_attempts:
            return None
        found = self._choose(self.tried)
        if not isinstance(found, Choice):
            return found
        self.attempts += 1
        self.tried = (*self.tried, found.service.name)
        return Connect(found, fresh, self._rejections)

    def _end(self) -> None:
        """Nobody is asked any more: whoever gave `choose` holds this machine, and a cycle would outlive both."""
        self.state = _DONE
        self._choose = _nobody

    # -- before the first attempt --------------------------------------------------------------------------------------

    def _asked(self, outcome: Outcome, reused: bool) -> Command:
        found = self._next(fresh=False)
        if isinstance(found, Connect):
            self.state = _TRYING
            return found
        if isinstance(found, Busy):
            return self._wait(_QUEUED, found.line, Refuse(found.refusal))
        self._end()
        assert found is not None
        return Refuse(found)

    def _wait(self, state: State, line: str | None, instead: Command) -> Command:
        self.state, self._instead = state, instead
        return Wait(line)

    def _freed(self, outcome: Outcome, reused: bool) -> Command:
        """There may be room: again from the start, among those that were not tried yet."""
        found = self._next(fresh=False)
        if isinstance(found, Connect):
            self.state = _TRYING if self.state is _QUEUED else _RESUMING
            return found
        if isinstance(found, Busy):
            return Wait(found.line)
        if isinstance(found, Refusal) and isinstance(self._instead, Refuse):
            self._instead = Refuse(found)
        return self._in_vain(outcome, reused)

    def _in_vain(self, outcome: Outcome, reused: bool) -> Command:
        self._end()
        return self._instead

    def _late(self, outcome: Outcome, reused: bool) -> Command:
        instead = self._in_vain(outcome, reused)
        if isinstance(instead, Refuse) and instead.refusal.outcome is Outcome.QUEUE_FULL:
            return Refuse(Refusal(Outcome.QUEUE_TIMEOUT, instead.refusal.model))
        return instead

    # -- before the first byte -----------------------------------------------------------------------------------------

    def _rejected(self, outcome: Outcome, reused: bool) -> Command:
        """The engine is busy or loading, or unfit: somebody else may not be."""
        self._note_rejection(outcome)
        found = None if self._retries.again(outcome, reused, self.broken) is Retry.NO else self._next(fresh=False)
        if isinstance(found, Connect):
            self._retries.book(outcome)
            return found
        if isinstance(found, Busy):
            return self._wait(_QUEUED, found.line, Refuse(found.refusal))
        self._end()
        return PassOn(outcome)

    def _note_rejection(self, outcome: Outcome) -> None:
        """Busy engines are asked after a back-off. Where one is unfit, there is nothing to wait for."""
        if outcome is Outcome.REJECTED:
            self._rejections += 1

    def _failed_early(self, outcome: Outcome, reused: bool) -> Command:
        """Nothing reached the client: the outcome's row says whether and where to try again."""
        if outcome.row.retry is Retry.FRESH and not reused:
            self.broken += 1
        retry = self._retries.again(outcome, reused, self.broken)
        if retry is Retry.FRESH:
            self.attempts += 1
            return RECONNECT
        answer = Answer(Outcome.POISONOUS if self.poisonous else outcome)
        found = None if retry is Retry.NO else self._next(fresh=True)
        if isinstance(found, Connect):
            self._retries.book(outcome)
            return found
        if isinstance(found, Busy):
            return self._wait(_QUEUED, found.line, answer)
        if found is not None:
            # All were tried. One of them may come back: what happened to it was no verdict on the request.
            self.tried = ()
            return self._wait(_QUEUED, None, answer)
        self._end()
        return answer

    def _slow(self, outcome: Outcome, reused: bool) -> Command:
        """The first byte takes long: a second attempt, if there is a service that is free and the budget allows."""
        if self.attempts >= self._retries.max_attempts:
            return IGNORE
        found = self._choose(self.tried)
        if not isinstance(found, Choice) or not self._retries.hedge():
            return IGNORE
        self.attempts += 1
        self.tried = (*self.tried, found.service.name)
        self.state = State.RACING
        return Race(found)

    def _one_left(self, outcome: Outcome, reused: bool) -> Command:
        """Of two attempts one has ended: the other goes on."""
        if outcome.row.retry is Retry.FRESH and not reused:
            self.broken += 1
        self.state = _TRYING
        return IGNORE

    # -- after the first byte ------------------------------------------------------------------------------------------

    def _resume(self, outcome: Outcome, reused: bool) -> Command:
        """The engine broke off: another one goes on, unless this request breaks every engine it meets."""
        self.broken += 1
        return self._go_on(outcome)

    def _resume_again(self, outcome: Outcome, reused: bool) -> Command:
        """Whoever was to go on could not even begin."""
        if outcome.row.retry is Retry.FRESH:
            self.broken += 1
        self._note_rejection(outcome)
        return self._go_on(Outcome.BROKE_MIDWAY)

    def _go_on(self, outcome: Outcome) -> Command:
        found = None if self.poisonous else self._next(fresh=True)
        if isinstance(found, Connect):
            self.state = _RESUMING
            return found
        if isinstance(found, Busy):
            return self._wait(_PARKED, found.line, Break(outcome))
        self._end()
        return Break(outcome)

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


def _to(*states: State) -> frozenset[State]:
    return frozenset(states)


_S, _E = State, Event
_END: Final = _to(_S.DONE)
_ON: Final = _to(_S.TRYING, _S.QUEUED, _S.DONE)
_GO_ON: Final = _to(_S.RESUMING, _S.PARKED, _S.DONE)
_ONE: Final = _to(_S.TRYING)
TABLE: Final[dict[tuple[State, Event], Step]] = {
    (_S.NEW, _E.ASKED): Step(Exchange._asked, _ON),
    (_S.QUEUED, _E.FREED): Step(Exchange._freed, _ON),
    (_S.QUEUED, _E.TURNED_AWAY): Step(Exchange._in_vain, _END),
    (_S.QUEUED, _E.LATE): Step(Exchange._late, _END),
    (_S.TRYING, _E.CONNECT_FAILED): Step(Exchange._failed_early, _ON),
    (_S.TRYING, _E.BROKE_EARLY): Step(Exchange._failed_early, _ON),
    (_S.TRYING, _E.TIMED_OUT_EARLY): Step(Exchange._failed_early, _ON),
    (_S.TRYING, _E.REJECTED): Step(Exchange._rejected, _ON),
    (_S.TRYING, _E.SLOW): Step(Exchange._slow, _to(_S.TRYING, _S.RACING)),
    (_S.TRYING, _E.BROKE_STREAM): Step(Exchange._resume, _GO_ON),
    (_S.TRYING, _E.BROKE_LATE): Step(Exchange._broke_late, _END),
    (_S.TRYING, _E.ENDED): Step(Exchange._finished, _END),
    (_S.RACING, _E.CONNECT_FAILED): Step(Exchange._one_left, _ONE),
    (_S.RACING, _E.BROKE_EARLY): Step(Exchange._one_left, _ONE),
    (_S.RACING, _E.TIMED_OUT_EARLY): Step(Exchange._one_left, _ONE),
    (_S.RACING, _E.REJECTED): Step(Exchange._one_left, _ONE),
    (_S.RACING, _E.WON): Step(Exchange._one_left, _ONE),
    (_S.RESUMING, _E.CONNECT_FAILED): Step(Exchange._resume_again, _GO_ON),
    (_S.RESUMING, _E.BROKE_EARLY): Step(Exchange._resume_again, _GO_ON),
    (_S.RESUMING, _E.TIMED_OUT_EARLY): Step(Exchange._resume_again, _GO_ON),
    (_S.RESUMING, _E.REJECTED): Step(Exchange._resume_again, _GO_ON),
    (_S.RESUMING, _E.BROKE_STREAM): Step(Exchange._resume, _END),  # the second service that it broke
    (_S.RESUMING, _E.BROKE_LATE): Step(Exchange._broke_late, _END),
    (_S.RESUMING, _E.ENDED): Step(Exchange._finished, _END),
    (_S.PARKED, _E.FREED): Step(Exchange._freed, _GO_ON),
    (_S.PARKED, _E.TURNED_AWAY): Step(Exchange._in_vain, _END),
    (_S.PARKED, _E.LATE): Step(Exchange._late, _END),
    **{
        (state, event): Step(Exchange._finished, _END)
        for state in State
        if state is not _S.DONE
        for event in (_E.CLIENT_LEFT, _E.STOPPED)
    },
}
