"""Answers that grow together: blocks they will need, and what is to be told of them when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.sim import growing
from enginehouse.sim.batched import Request
from enginehouse.sim.growing import Growing

answers = st.lists(st.tuples(st.integers(1, 70), st.integers(0, 20)), min_size=1, max_size=6)


def joined(group: Growing, tokens: int, output: int = 1000, every: int = 0) -> Request:
    """A request whose prompt of so many tokens is complete."""
    request = Request(tokens, output, every=every)
    request.target, request.generated = tokens, 1
    group.join(request)
    group.note(request)
    return request


@given(st.sampled_from([1, 4, 16]), answers, st.integers(1, 70))
def test_the_blocks_that_steps_need_are_those_that_answers_run_into(
    size: int, plan: list[tuple[int, int]], steps: int
) -> None:
    group = Growing(size)
    there = []
    for tokens, before in plan:
        there.append(joined(group, tokens))
        group.step(before)
    had = [request.target + group.steps - request.joined for request in there]
    expected = sum(-(-(tokens + steps) // size) - -(-tokens // size) for tokens in had)
    assert group.blocks_for(steps) == expected
    assert group.context == sum(had)
    for free in (group.blocks_for(1), group.blocks_for(1) + 3, 1000):
        fit = group.that_fit(steps, free)
        assert group.blocks_for(fit) <= free
        assert fit == steps or group.blocks_for(fit + 1) > free
    assert [group.leave(request) for request in there] == had
    assert (group.count, group.context, any(group._needy)) == (0, 0, False)


def test_of_an_answer_every_so_many_tokens_and_the_end_are_told() -> None:
    group = Growing(16)
    request = joined(group, 10, output=12, every=4)
    told = []
    while request.generated < 12:
        group.step(group.until_due())
        assert group.due() is request
        assert group.due() is None
        told.append((group.steps, request.generated))
        group.note(request)
    assert told == [(4, 5), (8, 9), (11, 12)]


def test_who_has_left_is_told_of_no_more_and_takes_no_room_on_the_agenda() -> None:
    group = Growing(16)
    stays = joined(group, 10, output=100)
    for _ in range(5 * growing.COMPACT_AFTER):
        group.leave(joined(group, 10, output=100_000))
        assert group.until_due() == 99
    assert len(group._agenda) <= 2 * growing.COMPACT_AFTER + 2
    group.leave(joined(group, 10, output=3))
    assert group.until_due() == 99
    group.step(99)
    assert group.due() is stays
    assert group.due() is None
