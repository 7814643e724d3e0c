"""The shared memory: who sees what, and which races are harmless."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.shared import CONTROL_SLOT, ID_ENTRIES, SIZE, Shared, Standing, WorkerState
from enginehouse.core.units import MAX_SERVICES, MAX_WORKERS


@pytest.fixture
def shared() -> Shared:
    return Shared(memoryview(mmap.mmap(-1, SIZE)))


def test_two_views_of_one_mapping_see_the_same() -> None:
    buffer = memoryview(mmap.mmap(-1, SIZE))
    one, other = Shared(buffer), Shared(buffer)
    one.loads[3][7] = 5
    one.put(7, Standing(1, 12.5))
    one.beats[3] = 1.25
    one.remember(99, 7, 3)
    assert (other.load(7, 4), other.ejected_until[7], other.beats[3], other.recall(99)) == (5, 12.5, 1.25, (7, 3))


def test_every_row_and_slot_has_a_place_of_its_own(shared: Shared) -> None:
    for worker in range(MAX_WORKERS):
        shared.loads[worker][CONTROL_SLOT] = worker + 1
        shared.beats[worker] = worker
        shared.states[worker] = WorkerState.SERVING
    shared.ejected_until[CONTROL_SLOT] = 7.0
    assert [row[CONTROL_SLOT] for row in shared.loads] == list(range(1, MAX_WORKERS + 1))
    assert shared.load(0, MAX_WORKERS) == 0
    assert shared.ejected_until[0] == 0
    assert CONTROL_SLOT < MAX_SERVICES


def test_a_load_is_the_sum_over_the_workers_and_a_dead_workers_share_is_dropped(shared: Shared) -> None:
    for worker in range(3):
        shared.loads[worker][5] = 10**worker
    assert shared.load(5, 3) == 111
    assert shared.load(5, 2) == 11
    shared.beats[1], shared.states[1] = 3.0, WorkerState.SERVING
    shared.forget_worker(1)
    assert shared.load(5, 3) == 101
    assert (shared.beats[1], shared.states[1]) == (0.0, WorkerState.ABSENT)


def test_a_standing_is_read_as_it_was_put_and_readmission_leaves_nothing(shared: Shared) -> None:
    standing = Standing(3, 20.0, 30.0, 1.0, 2.0)
    shared.put(1, standing)
    shared.rest(1, 25.0)
    assert shared.standing(1) == standing
    assert shared.standing(0) == shared.standing(2) == Standing()
    shared.readmit(1)
    assert shared.standing(1) == Standing()
    assert shared.rest_until[1] == 0.0


def test_of_two_rests_the_longer_one_is_meant(shared: Shared) -> None:
    shared.rest(1, 20.0)
    shared.rest(1, 10.0)
    assert shared.rest_until[1] == 20.0


@given(st.lists(st.tuples(st.sampled_from(["out", "slow", "rest"]), st.floats(0.0, 100.0)), min_size=1, max_size=8))
def test_the_one_look_tells_of_everything_that_concerns_choosing(changes: list[tuple[str, float]]) -> None:
    shared = Shared(memoryview(mmap.mmap(-1, SIZE)))
    for slot, (what, until) in enumerate(changes):
        if what == "rest":
            shared.rest(slot, until)
        else:
            shared.put(slot, Standing(ejected_until=until) if what == "out" else Standing(slow_until=until))
    assert shared.latest_ejection[0] == max(until for _, until in changes)


def test_what_ended_early_is_settled_and_what_was_missed_is_made_up_for(shared: Shared) -> None:
    shared.put(1, Standing(1, 500.0))
    shared.put(2, Standing(slow_until=80.0))
    shared.rest(3, 90.0)
    shared.readmit(1)
    assert shared.latest_ejection[0] == 500.0
    shared.settle()
    assert shared.latest_ejection[0] == 90.0
    shared.latest_ejection[0] = 0.0
    shared.settle()
    assert shared.latest_ejection[0] == 90.0


@given(
    st.lists(st.tuples(st.integers(1, 2**64 - 1), st.integers(0, CONTROL_SLOT), st.integers(0, 2**32 - 1)), max_size=50)
)
def test_an_id_is_recalled_unless_another_one_took_its_place(made: list[tuple[int, int, int]]) -> None:
    shared = Shared(memoryview(mmap.mmap(-1, SIZE)))
    last: dict[int, tuple[int, int, int]] = {}
    for digest, slot, generation in made:
        shared.remember(digest, slot, generation)
        last[digest % ID_ENTRIES] = (digest, slot, generation)
    for digest, _, _ in made:
        newest = last[digest % ID_ENTRIES]
        assert shared.recall(digest) == (newest[1:] if newest[0] == digest else None)
