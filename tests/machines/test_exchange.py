"""A request's exchange, as transcripts: what happened, and what is done about it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome, Retry
from enginehouse.machines.exchange import (
    IGNORE,
    MAX_ATTEMPTS,
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
    Refuse,
    State,
)
from enginehouse.policy.choose import Choice, Refusal


def service(name: str) -> Service:
    return Service(name=name, slot=0, generation=1, host="h", addresses=("127.0.0.1",), port=1, up=True)


def exchange(*names: str) -> Exchange:
    """An exchange whose policy offers these services in this order."""

    def choose(tried: tuple[str, ...]) -> Choice | Refusal:
        for name in names:
            if name not in tried:
                return Choice(service(name), "round_robin")
        return Refusal(Outcome.NO_SERVICE_FOR_MODEL, "m")

    return Exchange(choose)


def told(command: Command) -> tuple[Any, ...]:
    """A command in the short form that the transcripts use."""
    if isinstance(command, Connect):
        return ("connect", command.choice.service.name, "fresh" if command.fresh else "any")
    if isinstance(command, Refuse):
        return ("refuse", command.refusal.outcome)
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
        ("connect", "a", "fresh"),
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
        ("answer", Outcome.BROKE_BEFORE_HEAD),
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


def test_when_all_services_failed_the_last_failure_is_the_answer() -> None:
    play(
        exchange("a", "b"),
        ASKED,
        ("connect", "a", "any"),
        (Event.CONNECT_FAILED, Outcome.CONNECT_FAILED),
        ("connect", "b", "fresh"),
        (Event.CONNECT_FAILED, Outcome.CONNECT_TIMEOUT),
        ("answer", Outcome.CONNECT_TIMEOUT),
    )


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


EARLY = {
    Event.CONNECT_FAILED: [Outcome.CONNECT_FAILED, Outcome.CONNECT_TIMEOUT],
    Event.BROKE_EARLY: [Outcome.BROKE_BEFORE_HEAD, Outcome.BAD_RESPONSE],
    Event.TIMED_OUT_EARLY: [Outcome.FIRST_BYTE_TIMEOUT],
    Event.REJECTED: [Outcome.REJECTED],
    Event.BROKE_LATE: [Outcome.BROKE_MIDWAY, Outcome.IDLE_TIMEOUT],
    Event.ENDED: [Outcome.ANSWERED],
    Event.CLIENT_LEFT: [Outcome.CLIENT_LEFT],
    Event.STOPPED: [Outcome.BUG],
}
events = st.sampled_from([(event, outcome) for event, outcomes in EARLY.items() for outcome in outcomes])


@given(st.integers(0, 8), st.lists(st.tuples(events, st.booleans()), max_size=30))
def test_in_any_order_of_events_it_ends_once_and_tries_no_service_twice_but_for_a_fresh_connection(
    services: int, happened: list[tuple[tuple[Event, Outcome], bool]]
) -> None:
    machine = exchange(*(f"s{n}" for n in range(services)))
    commands = [machine.handle(Event.ASKED)]
    reused = isinstance(commands[0], Connect)
    for (event, outcome), was_reused in happened:
        command = machine.handle(event, outcome, was_reused and reused)
        reused = False  # every later connection is a fresh one
        if commands[-1] is not IGNORE and not isinstance(commands[-1], Connect):
            assert command is IGNORE
        commands.append(command)
    ends = [c for c in commands if isinstance(c, Refuse | Answer | Break | PassOn | Finish)]
    connects = [c.choice.service.name for c in commands if isinstance(c, Connect)]
    assert len(ends) <= 1
    assert (machine.state is State.DONE) == bool(ends)
    assert len(connects) - len(set(connects)) <= 1
    assert len(machine.tried) <= MAX_ATTEMPTS
    assert machine.attempts == len(connects)


def test_the_table_knows_every_event_that_can_happen_while_trying() -> None:
    assert {event for state, event in TABLE if state is State.TRYING} == set(Event) - {Event.ASKED}


def test_only_outcomes_before_the_head_may_be_retried() -> None:
    for outcome in Outcome:
        if outcome.row.retry is not Retry.NO:
            assert outcome.termination in ("EC", "EH")
