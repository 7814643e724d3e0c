"""A request's exchange, as transcripts: what happened, and what is done about it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome, Retry
from enginehouse.machines.exchange import (
    IGNORE,
    TABLE,
    Answer,
    Break,
    Command,
    Connect,
    Event,
    Exchange,
    Finish,
    Ignore,
    PassOn,
    Race,
    Reconnect,
    Refuse,
    State,
    Wait,
)
from enginehouse.policy.choose import Busy, Choice, Refusal
from enginehouse.policy.retry import RESERVE, Retries


def service(name: str) -> Service:
    return Service(name=name, slot=0, generation=1, host="h", addresses=("127.0.0.1",), port=1, up=True)


NOBODY = Refusal(Outcome.NO_SERVICE_FOR_MODEL, "m")
ALL_BUSY = Busy("m", Refusal(Outcome.QUEUE_FULL, "m"))


class Fleet:
    """A policy that offers these services in this order; those in `busy` are at their caps."""

    def __init__(self, *names: str, busy: tuple[str, ...] = ()) -> None:
        self.names = names
        self.busy = set(busy)

    def choose(self, tried: tuple[str, ...]) -> Choice | Busy | Refusal:
        left = [name for name in self.names if name not in tried]
        free = [name for name in left if name not in self.busy]
        return Choice(service(free[0]), "round_robin") if free else ALL_BUSY if left else NOBODY


def exchange(*names: str, **settings: Any) -> Exchange:
    """An exchange in front of these services, tried in this order."""
    return in_front_of(Fleet(*names), **settings)


def in_front_of(fleet: Fleet, **settings: Any) -> Exchange:
    return Exchange(fleet.choose, Retries(RouterConfig(**settings)))


def told(command: Command) -> tuple[Any, ...]:
    """A command in the short form that the transcripts use."""
    if isinstance(command, Connect):
        return ("connect", command.choice.service.name, "fresh" if command.fresh else "any")
    if isinstance(command, Refuse):
        return ("refuse", command.refusal.outcome)
    if isinstance(command, Race):
        return ("race", command.choice.service.name)
    if isinstance(command, Wait):
        return ("wait", command.line)
    if isinstance(command, Reconnect):
        return ("reconnect",)
    if isinstance(command, Ignore):
        return ("ignore",)
    if isinstance(command, PassOn):
        return ("pass on",)
    return (type(command).__name__.lower(), command.outcome)


def play(machine: Exchange, *script: Any) -> None:
    """Events (with arguments) and, after each, the command expected."""
    for (event, *arguments), expected in zip(script[::2], script[1::2], strict=True):
        assert told(machine.handle(event, *arguments)) == expected


ASKED = (Event.ASKED,)


def test_the_usual_request_takes_two_events() -> None:
    play(exchange("a"), ASKED, ("connect", "a", "any"), (Event.ENDED,), ("finish", Outcome.ANSWERED))


def test_a_connection_that_cannot_be_made_goes_to_another_service() -> None:
    play(
        exchange("a", "b"),
        ASKED,
        ("connect", "a", "any"),
        (Event.CONNECT_FAILED, Outcome.CONNECT_FAILED),
        ("connect", "b", "fresh"),
        (Event.ENDED,),
        ("finish", Outcome.ANSWERED),
    )


def test_a_reused_connection_that_dies_before_any_byte_is_repeated_once_on_a_fresh_one_to_the_same_service() -> None:
    play(
        exchange("a", "b"),
        ASKED,
        ("connect", "a", "any"),
        (Event.BROKE_EARLY, Outcome.BROKE_BEFORE_HEAD, True),
        ("reconnect",),
        (Event.CONNECT_FAILED, Outcome.CONNECT_FAILED),
        ("connect", "b", "fresh"),
    )


def test_a_request_that_broke_two_services_is_answered_and_not_tried_on_a_third() -> None:
    play(
        exchange("a", "b", "c"),
        ASKED,
        ("connect", "a", "any"),
        (Event.BROKE_EARLY, Outcome.BROKE_BEFORE_HEAD, False),
        ("connect", "b", "fresh"),
        (Event.BROKE_EARLY, Outcome.BROKE_BEFORE_HEAD, False),
        ("answer", Outcome.POISONOUS),
    )


def test_a_timeout_is_never_retried_because_the_engine_may_be_generating() -> None:
    """Defect: A 30-minute timeout is retried three times, so generations are duplicated."""
    play(
        exchange("a", "b"),
        ASKED,
        ("connect", "a", "any"),
        (Event.TIMED_OUT_EARLY, Outcome.FIRST_BYTE_TIMEOUT),
        ("answer", Outcome.FIRST_BYTE_TIMEOUT),
    )


def test_a_timeout_is_retried_elsewhere_where_the_owner_wants_it() -> None:
    play(
        exchange("a", "b", retry_timeouts=True),
        ASKED,
        ("connect", "a", "any"),
        (Event.TIMED_OUT_EARLY, Outcome.FIRST_BYTE_TIMEOUT),
        ("connect", "b", "fresh"),
    )


def test_when_all_services_failed_one_may_come_back_and_else_the_last_failure_is_the_answer() -> None:
    play(
        exchange("a", "b"),
        ASKED,
        ("connect", "a", "any"),
        (Event.CONNECT_FAILED, Outcome.CONNECT_FAILED),
        ("connect", "b", "fresh"),
        (Event.CONNECT_FAILED, Outcome.CONNECT_TIMEOUT),
        ("wait", None),
        (Event.LATE,),
        ("answer", Outcome.CONNECT_TIMEOUT),
    )


def test_a_service_that_comes_back_in_time_gets_the_request_that_waits() -> None:
    play(
        exchange("a"),
        ASKED,
        ("connect", "a", "any"),
        (Event.CONNECT_FAILED, Outcome.CONNECT_FAILED),
        ("wait", None),
        (Event.FREED,),
        ("connect", "a", "any"),
        (Event.ENDED,),
        ("finish", Outcome.ANSWERED),
    )


def test_there_are_as_many_attempts_as_configured_and_no_more() -> None:
    machine = exchange(*"abcdef", max_attempts=3)
    refused = (Event.CONNECT_FAILED, Outcome.CONNECT_FAILED)
    play(
        machine,
        ASKED,
        ("connect", "a", "any"),
        refused,
        ("connect", "b", "fresh"),
        refused,
        ("connect", "c", "fresh"),
        refused,
        ("answer", Outcome.CONNECT_FAILED),
    )


def test_repetitions_are_a_share_of_the_traffic_but_for_connections_that_could_not_be_made() -> None:
    retries = Retries(RouterConfig(retry_budget=0.2))
    retries.requests = 100
    for _ in range(RESERVE + 20):
        assert retries.again(Outcome.BROKE_BEFORE_HEAD, False, 1) is Retry.ELSEWHERE
        retries.book(Outcome.BROKE_BEFORE_HEAD)
    machine = Exchange(Fleet("a", "b").choose, retries)
    play(machine, ASKED, ("connect", "a", "any"), (Event.REJECTED, Outcome.REJECTED), ("pass on",))
    machine = Exchange(Fleet("a", "b").choose, retries)
    play(
        machine,
        ASKED,
        ("connect", "a", "any"),
        (Event.CONNECT_FAILED, Outcome.CONNECT_FAILED),
        ("connect", "b", "fresh"),
        (Event.BROKE_EARLY, Outcome.BROKE_BEFORE_HEAD),
        ("answer", Outcome.BROKE_BEFORE_HEAD),
    )


def test_when_all_are_at_their_caps_the_request_waits_for_whoever_frees_first() -> None:
    fleet = Fleet("a", "b", busy=("a", "b"))
    machine = in_front_of(fleet)
    play(machine, ASKED, ("wait", "m"), (Event.FREED,), ("wait", "m"))
    fleet.busy.remove("b")
    play(machine, (Event.FREED,), ("connect", "b", "any"), (Event.ENDED,), ("finish", Outcome.ANSWERED))


@pytest.mark.parametrize(
    ("event", "outcome"), [(Event.TURNED_AWAY, Outcome.QUEUE_FULL), (Event.LATE, Outcome.QUEUE_TIMEOUT)]
)
def test_a_full_line_and_a_long_wait_are_refused_honestly(event: Event, outcome: Outcome) -> None:
    play(in_front_of(Fleet("a", busy=("a",))), ASKED, ("wait", "m"), (event,), ("refuse", outcome))


def test_what_is_known_after_waiting_is_the_answer_not_what_was_thought_before() -> None:
    fleet = Fleet("a", busy=("a",))
    machine = in_front_of(fleet)
    play(machine, ASKED, ("wait", "m"))
    fleet.names = ()
    play(machine, (Event.FREED,), ("refuse", Outcome.NO_SERVICE_FOR_MODEL))


def test_a_request_that_one_service_rejected_waits_for_the_other_if_that_is_busy() -> None:
    fleet = Fleet("a", "b", busy=("b",))
    machine = in_front_of(fleet)
    play(machine, ASKED, ("connect", "a", "any"), (Event.REJECTED, Outcome.REJECTED), ("wait", "m"))
    fleet.busy.clear()
    play(machine, (Event.FREED,), ("connect", "b", "any"))


def test_of_two_attempts_the_first_that_answers_is_heard_and_a_failure_of_one_ends_nothing() -> None:
    slow = (Event.SLOW,)
    play(
        exchange("a", "b", "c"),
        ASKED,
        ("connect", "a", "any"),
        slow,
        ("race", "b"),
        (Event.BROKE_EARLY, Outcome.BROKE_BEFORE_HEAD),
        ("ignore",),
        slow,
        ("race", "c"),
        (Event.WON,),
        ("ignore",),
        (Event.ENDED,),
        ("finish", Outcome.ANSWERED),
    )


def test_impatience_has_a_budget_of_its_own_and_never_waits() -> None:
    busy = in_front_of(Fleet("a", "b", busy=("b",)))
    play(busy, ASKED, ("connect", "a", "any"), (Event.SLOW,), ("ignore",))
    retries = Retries(RouterConfig(hedge_budget=0.0))
    raced = []
    for _ in range(20):
        machine = Exchange(Fleet("a", "b").choose, retries)
        machine.handle(Event.ASKED)
        raced.append(isinstance(machine.handle(Event.SLOW), Race))
    assert raced == [True] * 10 + [False] * 10


def test_a_broken_stream_goes_on_elsewhere_and_ends_once() -> None:
    play(
        exchange("a", "b", "c"),
        ASKED,
        ("connect", "a", "any"),
        (Event.BROKE_STREAM, Outcome.BROKE_MIDWAY),
        ("connect", "b", "fresh"),
        (Event.REJECTED, Outcome.REJECTED),
        ("connect", "c", "fresh"),
        (Event.ENDED,),
        ("finish", Outcome.ANSWERED),
    )


def test_a_stream_that_broke_two_engines_is_told_so() -> None:
    machine = exchange("a", "b", "c")
    play(
        machine,
        ASKED,
        ("connect", "a", "any"),
        (Event.BROKE_STREAM, Outcome.BROKE_MIDWAY),
        ("connect", "b", "fresh"),
        (Event.BROKE_STREAM, Outcome.BROKE_MIDWAY),
        ("break", Outcome.BROKE_MIDWAY),
    )
    assert machine.poisonous


def test_a_broken_stream_waits_for_a_free_service_as_long_as_it_may() -> None:
    fleet = Fleet("a", "b", busy=("b",))
    for event, expected in ((Event.FREED, ("connect", "b", "any")), (Event.LATE, ("break", Outcome.BROKE_MIDWAY))):
        fleet.busy = {"b"}
        machine = in_front_of(fleet)
        play(machine, ASKED, ("connect", "a", "any"), (Event.BROKE_STREAM, Outcome.BROKE_MIDWAY), ("wait", "m"))
        fleet.busy.clear()
        play(machine, (event,), expected)


def test_an_engine_that_rejects_the_request_is_followed_by_others_and_its_answer_is_passed_on_at_the_end() -> None:
    """Defect: 429/5xx are never retried; no back-off."""
    machine = exchange("a", "b")
    play(
        machine,
        ASKED,
        ("connect", "a", "any"),
        (Event.REJECTED, Outcome.REJECTED),
        ("connect", "b", "any"),
        (Event.REJECTED, Outcome.REJECTED),
        ("pass on",),
    )
    assert machine.attempts == 2


def test_each_repetition_after_a_rejection_says_how_many_there_were_for_the_back_off() -> None:
    machine = exchange("a", "b", "c")
    first = machine.handle(Event.ASKED)
    second = machine.handle(Event.REJECTED, Outcome.REJECTED)
    third = machine.handle(Event.REJECTED, Outcome.REJECTED)
    assert [c.rejections for c in (first, second, third) if isinstance(c, Connect)] == [0, 1, 2]


def test_where_an_engine_is_unfit_the_next_is_asked_at_once() -> None:
    machine = exchange("a", "b", "c")
    machine.handle(Event.ASKED)
    second = machine.handle(Event.REJECTED, Outcome.UNFIT)
    third = machine.handle(Event.REJECTED, Outcome.REJECTED)
    assert [c.rejections for c in (second, third) if isinstance(c, Connect)] == [0, 1]
    assert machine.handle(Event.REJECTED, Outcome.UNFIT) == PassOn(Outcome.UNFIT)


def test_a_stream_that_an_engine_does_not_go_on_with_is_gone_on_with_by_the_next() -> None:
    machine = exchange("a", "b", "c")
    play(machine, ASKED, ("connect", "a", "any"), (Event.BROKE_STREAM, Outcome.BROKE_MIDWAY), ("connect", "b", "fresh"))
    third = machine.handle(Event.REJECTED, Outcome.UNFIT)
    assert isinstance(third, Connect)
    assert (third.choice.service.name, third.rejections) == ("c", 0)
    play(machine, (Event.REJECTED, Outcome.UNFIT), ("break", Outcome.BROKE_MIDWAY))
    assert not machine.poisonous


def test_without_any_candidate_the_request_is_refused_without_an_attempt() -> None:
    play(exchange(), ASKED, ("refuse", Outcome.NO_SERVICE_FOR_MODEL), (Event.CLIENT_LEFT,), ("ignore",))


def test_after_the_head_was_passed_on_nothing_is_tried_again() -> None:
    play(
        exchange("a", "b"),
        ASKED,
        ("connect", "a", "any"),
        (Event.BROKE_LATE, Outcome.BROKE_MIDWAY),
        ("break", Outcome.BROKE_MIDWAY),
    )


def test_a_client_that_left_ends_it_whatever_was_under_way() -> None:
    play(
        exchange("a"),
        ASKED,
        ("connect", "a", "any"),
        (Event.CLIENT_LEFT, Outcome.CLIENT_LEFT),
        ("finish", Outcome.CLIENT_LEFT),
        (Event.ENDED,),
        ("ignore",),
    )


def test_an_event_the_state_does_not_know_is_a_bug() -> None:
    with pytest.raises(KeyError):
        exchange("a").handle(Event.ENDED)


HAPPENS = {
    Event.FREED: [Outcome.ANSWERED],
    Event.TURNED_AWAY: [Outcome.ANSWERED],
    Event.LATE: [Outcome.ANSWERED],
    Event.CONNECT_FAILED: [Outcome.CONNECT_FAILED, Outcome.CONNECT_TIMEOUT],
    Event.BROKE_EARLY: [Outcome.BROKE_BEFORE_HEAD, Outcome.BAD_RESPONSE],
    Event.TIMED_OUT_EARLY: [Outcome.FIRST_BYTE_TIMEOUT],
    Event.REJECTED: [Outcome.REJECTED, Outcome.UNFIT],
    Event.SLOW: [Outcome.ANSWERED],
    Event.WON: [Outcome.ANSWERED],
    Event.BROKE_STREAM: [Outcome.BROKE_MIDWAY, Outcome.IDLE_TIMEOUT],
    Event.BROKE_LATE: [Outcome.BROKE_MIDWAY, Outcome.IDLE_TIMEOUT],
    Event.ENDED: [Outcome.ANSWERED],
    Event.CLIENT_LEFT: [Outcome.CLIENT_LEFT],
    Event.STOPPED: [Outcome.BUG],
}
happenings = st.tuples(
    st.sampled_from([(event, outcome) for event, outcomes in HAPPENS.items() for outcome in outcomes]),
    st.booleans(),
    st.sets(st.sampled_from("abcdefgh")),
)


@given(st.integers(0, 8), st.lists(happenings, max_size=40))
def test_in_any_order_of_events_it_ends_once_within_its_bounds(
    services: int, happened: list[tuple[tuple[Event, Outcome], bool, set[str]]]
) -> None:
    """Events that the state knows come in any order, while services get busy and free."""
    fleet = Fleet(*"abcdefgh"[:services])
    machine = in_front_of(fleet)
    commands = [machine.handle(Event.ASKED)]
    for (event, outcome), reused, fleet.busy in happened:
        if machine.state is State.DONE:
            assert machine.handle(event, outcome) is IGNORE
        elif (machine.state, event) in TABLE:
            commands.append(machine.handle(event, outcome, reused))
    ends = [c for c in commands if isinstance(c, Refuse | Answer | Break | PassOn | Finish)]
    tries = [c for c in commands if isinstance(c, Connect | Race | Reconnect)]
    assert len(ends) <= 1
    assert (machine.state is State.DONE) == bool(ends)
    assert not ends or commands[-1] is ends[0]
    assert machine.attempts == len(tries)
    assert sum(not isinstance(c, Reconnect) for c in tries) <= RouterConfig().max_attempts
    assert machine.broken <= RouterConfig().max_attempts


def test_while_an_attempt_runs_everything_is_known_that_an_attempt_can_end_with() -> None:
    ends = {Event.CONNECT_FAILED, Event.BROKE_EARLY, Event.TIMED_OUT_EARLY, Event.REJECTED}
    for state in (State.TRYING, State.RACING, State.RESUMING):
        assert ends <= {event for known, event in TABLE if known is state}
    for state in set(State) - {State.DONE}:
        assert {Event.CLIENT_LEFT, Event.STOPPED} <= {event for known, event in TABLE if known is state}


def test_only_outcomes_before_the_head_may_be_retried() -> None:
    for outcome in Outcome:
        if outcome.row.retry is not Retry.NO:
            assert outcome.termination in ("EC", "EH")
