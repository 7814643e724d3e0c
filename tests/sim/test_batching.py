"""The simulated engine as a calculation: whose turn it is, how long it takes, what is told."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.sim.batching import FINISHED, FIRST_TOKEN, PREEMPTED, TOKENS, EngineModel, Event, Request
from enginehouse.sim.constants import DYNAMO_MOCKER, H100_8B, EngineConstants
from enginehouse.sim.growing import Growing

MS = 0.001
SMALL = replace(H100_8B, kv_tokens=40 * 16, chunk=64, max_running=4, max_waiting=1000)
"""Forty blocks: small enough for everything to be short."""


def drain(engine: EngineModel) -> list[Event]:
    """Let everything that the engine has come to its end."""
    events: list[Event] = []
    while (at := engine.next_event()) is not None:
        events += engine.advance(at)
    return events


def told(events: list[Event]) -> list[tuple[int, float, int]]:
    return [(each.kind, round(each.at, 9), each.tokens) for each in events]


def assert_empty(engine: EngineModel) -> None:
    assert (engine.running, engine.waiting, engine.cache.used) == (0, 0, 0)
    assert engine._growing.count == engine._growing.context == 0
    assert not any(engine._growing._needy)
    assert not engine._prefilling
    assert not any(engine.cache.table.values())
    assert set(engine.cache.table) == set(engine.cache.idle)


# worked out by hand


def test_a_request_alone_takes_one_step_for_its_prompt_and_one_for_each_further_token() -> None:
    engine = EngineModel(H100_8B)
    engine.arrive(Request(1000, 3), 10.0)
    prefill = (7 + 0.033 * 1000 + 0.0044) * MS
    second = (7 + 7.6e-5 * 1000 + 0.0044) * MS
    third = (7 + 7.6e-5 * 1001 + 0.0044) * MS
    assert engine.next_event() == pytest.approx(10 + prefill)
    first_token, finished = drain(engine)
    assert (first_token.kind, finished.kind) == (FIRST_TOKEN, FINISHED)
    assert first_token.at == pytest.approx(10 + prefill)
    assert finished.at == pytest.approx(10 + prefill + second + third)
    assert (first_token.tokens, finished.tokens) == (1, 3)
    assert_empty(engine)


def test_a_prompt_longer_than_a_chunk_takes_several_steps() -> None:
    engine = EngineModel(H100_8B)
    engine.arrive(Request(10_000, 1), 0.0)
    chunks = (7 + 0.033 * 8192 + 0.0044) + (7 + 0.033 * 1808 + 7.6e-5 * 8192 + 0.0044)
    first_token, finished = drain(engine)
    assert first_token.at == finished.at == pytest.approx(chunks * MS)


def test_answers_go_on_while_prompts_are_computed_and_take_their_part_of_the_chunk() -> None:
    engine = EngineModel(replace(H100_8B, chunk=100))
    first, second = Request(50, 3, every=1), Request(150, 1)
    engine.arrive(first, 0.0)
    engine.arrive(second, 0.0)  # the step with the first one has begun
    events = drain(engine)
    one = (7 + 0.033 * 50 + 0.0044) * MS
    two = (7 + 0.033 * 99 + 7.6e-5 * 50 + 0.0044 * 2) * MS
    three = (7 + 0.033 * 51 + 7.6e-5 * (51 + 99) + 0.0044 * 2) * MS
    assert told(events) == [
        (FIRST_TOKEN, round(one, 9), 1),
        (TOKENS, round(one + two, 9), 2),
        (FINISHED, round(one + two + three, 9), 3),
        (FIRST_TOKEN, round(one + two + three, 9), 1),
        (FINISHED, round(one + two + three, 9), 1),
    ]


def test_a_prefix_that_was_computed_before_is_not_computed_again() -> None:
    engine = EngineModel(H100_8B)
    engine.arrive(Request(160, 1, range(10)), 0.0)
    drain(engine)
    again = Request(160, 1, range(10))
    longer = Request(200, 1, [*range(10), 99, 98])
    other = Request(160, 1, [0, 1, 2, *range(100, 107)])
    engine.arrive(again, 1.0)
    assert drain(engine)[0].at == pytest.approx(1.0 + (7 + 0.033 * 16 + 7.6e-5 * 144 + 0.0044) * MS)
    for request, found in ((again, 144), (longer, 160), (other, 48)):
        if request is not again:
            engine.arrive(request, 2.0)
            drain(engine)
        assert request.cached_tokens == found, "the last token is computed in any case"


def test_an_answer_is_found_by_the_next_turn_of_its_conversation() -> None:
    engine = EngineModel(H100_8B)
    engine.arrive(Request(24, 25, [1, 2, 3]), 0.0)  # 48 tokens in the cache, the last one is not: three blocks
    drain(engine)
    turn = Request(100, 1, [1, 2, 3, 4, 5, 6])
    engine.arrive(turn, 1.0)
    drain(engine)
    assert turn.cached_tokens == 48


def test_without_room_the_one_taken_last_gives_way_and_is_computed_again() -> None:
    engine = EngineModel(replace(SMALL, kv_tokens=4 * 16))
    first, second = Request(16, 40), Request(16, 20)
    engine.arrive(first, 0.0)
    engine.arrive(second, 0.0)
    events = drain(engine)
    assert [(each.kind, each.request is first, each.tokens) for each in events] == [
        (FIRST_TOKEN, True, 1),
        (FIRST_TOKEN, False, 1),
        (PREEMPTED, False, 16),
        (FINISHED, True, 40),
        (FINISHED, False, 20),
    ]
    assert second.preemptions == engine.preemptions == 1
    assert_empty(engine)


def test_who_gave_way_comes_back_before_others_and_not_in_the_same_step() -> None:
    engine = EngineModel(replace(H100_8B, kv_tokens=4 * 16))
    first, second, third = Request(16, 40, [1]), Request(16, 20, [1], every=1), Request(40, 1)
    for request in (first, second, third):
        engine.arrive(request, 0.0)
    events = drain(engine)
    gave_way = next(number for number, each in enumerate(events) if each.kind == PREEMPTED)
    # Its first block was computed twice; now it shares that of the first one, so it fits again at once.
    step = (7 + 7.6e-5 * 32 + 0.0044) * MS
    again = (7 + 0.033 * 16 + 7.6e-5 * (16 + 33) + 0.0044 * 2) * MS
    assert (events[gave_way].tokens, events[gave_way + 1].tokens) == (16, 17)
    assert events[gave_way + 1].at - events[gave_way].at == pytest.approx(step + again)
    assert first.finished_at is not None
    assert second.finished_at is not None
    assert third.first_token_at is not None
    assert first.finished_at < second.finished_at < third.first_token_at
    assert_empty(engine)


def test_nobody_is_taken_whose_prompt_needs_the_blocks_into_which_others_are_about_to_grow() -> None:
    engine = EngineModel(replace(H100_8B, kv_tokens=4 * 16))
    first, second = Request(16, 40), Request(32, 1)
    engine.arrive(first, 0.0)
    (first_token,) = engine.advance(0.01)
    engine.arrive(second, first_token.at + H100_8B.step.decode(16, 1, 16))  # 32 tokens: the next one needs a block
    drain(engine)
    assert first.finished_at is not None
    assert second.first_token_at is not None
    assert second.first_token_at > first.finished_at
    assert engine.preemptions == 0


def test_what_can_never_fit_is_refused_and_so_is_whoever_comes_when_too_many_wait() -> None:
    engine = EngineModel(replace(SMALL, max_running=1, max_waiting=1))
    with pytest.raises(ValueError, match="do not fit"):
        engine.arrive(Request(600, 41), 0.0)
    assert engine.arrive(Request(600, 40), 0.0)
    assert engine.arrive(Request(1, 1), 0.0)
    assert not engine.arrive(Request(1, 1), 0.0)
    assert (engine.running, engine.waiting) == (1, 1)


def test_whoever_comes_during_a_step_is_in_the_next_one() -> None:
    engine = EngineModel(H100_8B)
    engine.arrive(Request(1, 1000), 0.0)
    step = 7.01 * MS
    late = Request(1, 1)
    engine.arrive(late, 100.5 * step)
    events = engine.advance(104 * step)
    assert [each.request is late for each in events] == [False, True, True]
    assert late.first_token_at == pytest.approx(102 * step, rel=0.01)


def test_prompts_wait_while_answers_take_all_of_the_chunk() -> None:
    engine = EngineModel(replace(H100_8B, chunk=1))
    first, second = Request(1, 5), Request(2, 1)
    engine.arrive(first, 0.0)
    engine.arrive(second, 0.0)
    assert [each.request is first for each in drain(engine)] == [True, True, False, False]
    assert first.finished_at == pytest.approx(0.03505, rel=0.001)
    assert second.first_token_at == pytest.approx(0.0491, rel=0.001), "two steps of one token each"


def test_a_step_in_progress_takes_what_it_takes_and_those_after_it_are_slower() -> None:
    engine = EngineModel(H100_8B)
    request = Request(1, 10)
    engine.arrive(request, 0.0)
    step = 7.0044 * MS
    assert [each.kind for each in engine.advance(0.01)] == [FIRST_TOKEN]
    engine.slow_down(3.0, 0.033 * MS + 4.5 * step)
    drain(engine)
    assert request.finished_at == pytest.approx(0.033 * MS + (5 + 3 * 5) * step, rel=1e-4)


def test_who_leaves_is_told_of_no_more_and_whoever_waited_for_its_place_is_in_the_next_step() -> None:
    engine = EngineModel(replace(H100_8B, max_running=1))
    first, second = Request(1, 1000, every=1), Request(1, 1)
    engine.arrive(first, 0.0)
    engine.arrive(second, 0.0)
    step = 7.0044 * MS
    told_of_first = engine.advance(10.5 * step)
    engine.cancel(first, 10.5 * step)
    engine.cancel(first, 10.5 * step)
    assert (len(told_of_first), engine.running) == (10, 1), "its step goes on"
    events = drain(engine)
    assert [each.request for each in events] == [second, second]
    assert second.first_token_at == pytest.approx(12 * step, rel=0.01)
    assert (first.generated, first.finished_at) == (11, None)
    assert engine.generated(1.0) == 12
    assert_empty(engine)


def test_when_the_one_that_all_wait_for_gives_up_the_next_is_taken_at_once() -> None:
    engine = EngineModel(SMALL)
    running, large, little = Request(320, 100), Request(600, 1), Request(16, 1)
    for request in (running, large, little):
        engine.arrive(request, 0.0)
    engine.advance(0.1)
    assert (engine.running, engine.waiting) == (1, 2)
    engine.cancel(large, 0.1)
    engine.advance(0.12)
    assert little.finished_at is not None
    assert large.first_token_at is None


def test_an_engine_that_has_nothing_to_do_has_no_next_event() -> None:
    engine = EngineModel(H100_8B)
    assert engine.next_event() is None
    assert engine.advance(5.0) == []
    engine.slow_down(2.0, 6.0)
    assert engine.next_event() is None
    request = Request(1, 1)
    engine.arrive(request, 7.0)
    assert drain(engine)[0].at == pytest.approx(7 + 2 * 7.0374 * MS)
    with pytest.raises(ValueError, match="once"):
        engine.arrive(request, 8.0)


def test_what_was_found_is_told_of_the_first_turn_only() -> None:
    engine = EngineModel(replace(SMALL, kv_tokens=5 * 16))
    first, second = Request(32, 40, [1, 2]), Request(32, 20, [3, 4])
    engine.arrive(first, 0.0)
    engine.arrive(second, 0.0)
    drain(engine)
    assert second.preemptions > 0
    assert second.cached_tokens == 0
    assert (engine.prompt_tokens, engine.cached_tokens) == (64, 0)


def test_who_comes_at_the_very_end_of_a_step_is_in_the_next_one() -> None:
    step = H100_8B.step
    for steps in (5, 9):  # in the middle of what is planned, and at its end
        engine = EngineModel(H100_8B)
        engine.arrive(Request(1, 100, every=9), 0.0)
        began = engine.advance(1e-2)[0].at
        now = began + step.decode(steps, 1, 1)
        late = Request(1, 1)
        engine.arrive(late, now)
        drain(engine)
        assert late.first_token_at == now + step.mixed(1, 1, 0, 1, 1 + steps)


def test_tokens_are_counted_while_many_steps_are_in_progress() -> None:
    engine = EngineModel(H100_8B)
    engine.arrive(Request(1, 1000), 0.0)
    (first_token,) = engine.advance(0.01)
    after = [first_token.at + H100_8B.step.decode(steps, 1, 1) for steps in (500, 600)]
    assert [engine.generated(at + 1e-6) for at in after] == [501, 601]
    assert [engine.generated(at - 1e-6) for at in after] == [500, 600]


# whatever happens


class Coming(NamedTuple):
    """A request, and what else happens when it comes."""

    prompt: int
    output: int
    family: int
    """Whose prefix it has."""
    every: int
    gap: float
    """Seconds after the one before."""
    leaves: float | None
    """Seconds after which its client goes."""
    change: float | str | None
    """The engine becomes so many times slower, or forgets its cache."""


plans = st.lists(
    st.builds(
        Coming,
        prompt=st.integers(1, 300),
        output=st.integers(1, 60),
        family=st.integers(0, 3),
        every=st.sampled_from([0, 1, 7]),
        gap=st.sampled_from([0.0, 0.0, 0.003, 0.02, 0.5]),
        leaves=st.sampled_from([None, None, None, 0.0, 0.01, 0.1]),
        change=st.sampled_from([None, None, None, None, 1.0, 0.3, 3.0, "drop"]),
    ),
    max_size=30,
)


def stepwise(constants: EngineConstants) -> EngineModel:
    """An engine that plans no more than one step at a time."""

    class Stepwise(Growing):
        def that_fit(self, steps: int, free: int) -> int:
            return 1

    engine = EngineModel(constants)
    engine._growing = Stepwise(constants.block_size)
    return engine


def play(engine: EngineModel, plan: list[Coming]) -> list[Event]:
    """Let requests come and go; the engine is looked at after each step of its own."""
    actions: list[tuple[float, int, Coming | None, Request]] = []
    now = 0.0
    for number, each in enumerate(plan):
        now += each.gap
        hashes = [each.family * 1000 + i for i in range((each.prompt + each.output) // 16)]
        request = Request(each.prompt, each.output, hashes, each.every, number)
        actions.append((now, number, each, request))
        if each.leaves is not None:
            actions.append((now + each.leaves, number, None, request))
    events: list[Event] = []
    for at, _, coming, request in sorted(actions, key=lambda each: (each[0], each[1], each[2] is None)):
        while (due := engine.next_event()) is not None and due < at:
            events += engine.advance(due)
            assert_sound(engine)
        if coming is None:
            engine.cancel(request, at)
        else:
            if coming.change == "drop":
                engine.cache.drop()
            elif coming.change is not None:
                engine.slow_down(float(coming.change), at)
            assert engine.arrive(request, at)
        assert_sound(engine)
    while (due := engine.next_event()) is not None:
        events += engine.advance(due)
        assert_sound(engine)
    return events


def assert_sound(engine: EngineModel) -> None:
    cache = engine.cache
    assert cache.used >= 0
    assert cache.used + len(cache.idle) <= cache.capacity
    assert engine.running <= engine.constants.max_running
    growing = engine._growing
    assert growing.count + len(engine._prefilling) == engine.running
    assert sum(growing._needy) == growing.count
    assert all(each >= 0 for each in growing._needy)


@given(plans)
def test_every_request_that_stays_ends_with_all_its_tokens_and_nothing_is_left_behind(plan: list[Coming]) -> None:
    engine = EngineModel(SMALL)
    events = play(engine, plan)
    assert_empty(engine)
    finished = {each.request.tag: each.tokens for each in events if each.kind == FINISHED}
    stayed = {number: each.output for number, each in enumerate(plan) if each.leaves is None}
    assert stayed.items() <= finished.items()
    assert [each.at for each in events] == sorted(each.at for each in events)
    if len(stayed) == len(plan):
        assert engine.generated(1e9) == sum(stayed.values()), "tokens are neither lost nor generated twice"


@given(plans)
def test_many_steps_at_once_are_the_same_as_one_after_the_other(plan: list[Coming]) -> None:
    assert_same(play(EngineModel(SMALL), plan), play(stepwise(SMALL), plan))


@given(plans)
def test_many_steps_at_once_are_the_same_with_squares_in_the_formula(plan: list[Coming]) -> None:
    mocker = replace(DYNAMO_MOCKER, kv_tokens=40 * 16, block_size=16)
    assert_same(play(EngineModel(mocker), plan), play(stepwise(mocker), plan))


def assert_same(ours: list[Event], theirs: list[Event]) -> None:
    assert [(each.kind, each.request.tag, each.tokens) for each in ours] == [
        (each.kind, each.request.tag, each.tokens) for each in theirs
    ]
    assert [each.at for each in ours] == pytest.approx([each.at for each in theirs], abs=1e-9)


@given(plans)
def test_the_same_arrivals_give_the_same_times_to_the_last_bit_however_often_one_looks(plan: list[Coming]) -> None:
    class Watched(EngineModel):
        def arrive(self, request: Request, now: float) -> bool:
            self.generated(now)
            self._events += super().advance(now - 0.001)
            self.next_event()
            return super().arrive(request, now)

    assert told(play(EngineModel(SMALL), plan)) == told(play(Watched(SMALL), plan))
