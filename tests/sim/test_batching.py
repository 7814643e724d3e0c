"""The simulated engine as a calculation: whose turn it is, how long it takes, what is told."""

from __future__ import annotations

from dataclasses import replace

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


# whatever happens

requests = st.tuples(
    st.integers(1, 300),  # tokens of the prompt
    st.integers(1, 60),  # of the answer
    st.integers(0, 3),  # whose prefix
    st.sampled_from([0, 1, 7]),  # every
    st.sampled_from([0.0, 0.0, 0.003, 0.02, 0.5]),  # seconds after the one before
    st.sampled_from([None, None, None, 0.0, 0.01, 0.1]),  # leaves after
)


def stepwise(constants: EngineConstants) -> EngineModel:
    """An engine that plans no more than one step at a time."""

    class Stepwise(Growing):
        def that_fit(self, steps: int, free: int) -> int:
            return 1

    engine = EngineModel(constants)
    engine._growing = Stepwise(constants.block_size)
    return engine


def play(engine: EngineModel, plan: list[tuple[int, int, int, int, float, float | None]]) -> list[Event]:
    """Let requests come and go; the engine is looked at after each step of its own."""
    actions: list[tuple[float, int, bool, Request]] = []
    now = 0.0
    for number, (prompt, output, family, every, gap, leaves) in enumerate(plan):
        now += gap
        request = Request(prompt, output, [family * 1000 + i for i in range((prompt + output) // 16)], every, number)
        actions.append((now, number, True, request))
        if leaves is not None:
            actions.append((now + leaves, number, False, request))
    events: list[Event] = []
    for at, _, comes, request in sorted(actions, key=lambda each: (each[0], each[1], not each[2])):
        while (due := engine.next_event()) is not None and due < at:
            events += engine.advance(due)
            assert_sound(engine)
        if comes:
            assert engine.arrive(request, at)
        else:
            engine.cancel(request, at)
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


@given(st.lists(requests, max_size=30))
def test_every_request_that_stays_ends_with_all_its_tokens_and_nothing_is_left_behind(
    plan: list[tuple[int, int, int, int, float, float | None]],
) -> None:
    engine = EngineModel(SMALL)
    events = play(engine, plan)
    assert_empty(engine)
    finished = {each.request.tag: each.tokens for each in events if each.kind == FINISHED}
    stayed = {number: each[1] for number, each in enumerate(plan) if each[5] is None}
    assert stayed.items() <= finished.items()
    assert [each.at for each in events] == sorted(each.at for each in events)
    if len(stayed) == len(plan):
        assert engine.generated(1e9) == sum(stayed.values()), "tokens are neither lost nor generated twice"


@given(st.lists(requests, max_size=30))
def test_many_steps_at_once_are_the_same_as_one_after_the_other(
    plan: list[tuple[int, int, int, int, float, float | None]],
) -> None:
    assert_same(play(EngineModel(SMALL), plan), play(stepwise(SMALL), plan))


@given(st.lists(requests, max_size=12))
def test_many_steps_at_once_are_the_same_with_squares_in_the_formula(
    plan: list[tuple[int, int, int, int, float, float | None]],
) -> None:
    mocker = replace(DYNAMO_MOCKER, kv_tokens=40 * 16, block_size=16)
    assert_same(play(EngineModel(mocker), plan), play(stepwise(mocker), plan))


def assert_same(ours: list[Event], theirs: list[Event]) -> None:
    assert [(each.kind, each.request.tag, each.tokens) for each in ours] == [
        (each.kind, each.request.tag, each.tokens) for each in theirs
    ]
    assert [each.at for each in ours] == pytest.approx([each.at for each in theirs], abs=1e-9)


@given(st.lists(requests, max_size=20))
def test_the_same_arrivals_give_the_same_times_to_the_last_bit_however_often_one_looks(
    plan: list[tuple[int, int, int, int, float, float | None]],
) -> None:
    class Watched(EngineModel):
        def arrive(self, request: Request, now: float) -> bool:
            self.generated(now)
            self._events += super().advance(now - 0.001)
            self.next_event()
            return super().arrive(request, now)

    assert told(play(EngineModel(SMALL), plan)) == told(play(Watched(SMALL), plan))
