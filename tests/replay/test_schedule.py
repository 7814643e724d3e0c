"""Times: faster arrivals, and arrivals spread over the ticks of a coarse clock."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.replay.schedule import faster, jittered
from enginehouse.replay.traces import Session, Trace, Turn


def trace(times: list[float]) -> Trace:
    return Trace("t", [Session(at, (Turn(at_ + 1, 1, (at_,)),)) for at_, at in enumerate(sorted(times))])


def times(of: Trace) -> list[float]:
    return [session.at for session in of.sessions]


def test_twice_the_rate_is_half_the_time_between_sessions_but_not_between_their_turns() -> None:
    turns = (Turn(1, 1, (1,)), Turn(1, 1, (2,), delay=4.0))
    quick = faster(Trace("t", [Session(0, turns), Session(10, turns)]), 2.5)
    assert times(quick) == [0, 4]
    assert quick.sessions[1].turns == turns


def test_arrivals_on_ticks_are_spread_evenly_over_them() -> None:
    on_ticks = trace([3.0 * (number // 100) for number in range(1000)])
    spread = times(jittered(on_ticks, Random(1)))
    per_second = [sum(second <= at < second + 1 for at in spread) for second in range(30)]
    assert sum(per_second) == 1000
    assert min(per_second) > 15  # about 33 each


@given(st.lists(st.integers(0, 50).map(lambda tick: tick * 3.0), min_size=1, max_size=60), st.integers(0, 9))
def test_nothing_moves_back_nor_past_the_next_time_nor_by_more_than_a_tick(at: list[float], seed: int) -> None:
    before = trace(at)
    after = jittered(before, Random(seed))
    assert times(after) == sorted(times(after))
    moved = {session.turns[0].blocks: session.at for session in after.sessions}
    distinct = sorted(set(at))
    for session in before.sessions:
        later = [other for other in distinct if other > session.at]
        new = moved[session.turns[0].blocks]
        assert session.at <= new
        assert not later or new <= later[0]


def test_a_lull_is_not_filled() -> None:
    after = jittered(trace([0.0, 3.0, 6.0, 600.0, 603.0]), Random(3))
    assert times(after)[2] <= 9.0


def test_the_same_seed_gives_the_same_times() -> None:
    ticks = trace([0.0, 0.0, 3.0, 3.0])
    assert jittered(ticks, Random(5)) == jittered(ticks, Random(5)) != jittered(ticks, Random(6))
