"""Whose share of failures is too large, and what a window holds."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.policy.outliers import LEAST, TICKS, Tally, Window, outliers

MARGIN = 0.3


def found(*tallies: tuple[int, int], margin: float = MARGIN) -> list[int]:
    return outliers({key: Tally(*tally) for key, tally in enumerate(tallies)}, margin)


def test_one_that_fails_while_the_others_do_not_is_an_outlier() -> None:
    assert found((100, 0), (100, 60), (100, 1)) == [1]


def test_where_all_fail_alike_nobody_is_however_many_fail() -> None:
    assert found((100, 90), (100, 95), (100, 88)) == []
    assert found((100, 100), (100, 100)) == []


def test_fewer_requests_than_a_verdict_needs_give_none() -> None:
    assert found((LEAST - 1, LEAST - 1), (1000, 0)) == []
    assert found((LEAST, LEAST), (1000, 0)) == [0]


def test_without_others_to_compare_with_there_is_no_verdict() -> None:
    assert found((1000, 1000)) == []
    assert found((1000, 1000), (LEAST - 1, 0)) == []


def test_a_share_within_the_margin_is_borne() -> None:
    assert found((1000, 299), (1000, 0)) == []
    assert found((1000, 301), (1000, 0)) == [0]
    assert found((1000, 1000), (1000, 0), margin=1.0) == []


def test_of_several_the_worst_comes_first() -> None:
    assert found((100, 60), (100, 0), (100, 90), (100, 0), (100, 0)) == [2, 0]


def test_with_few_requests_and_a_shaky_fleet_more_than_the_margin_is_needed() -> None:
    assert found((LEAST, 13), (1000, 300)) == []
    assert found((LEAST, 15), (1000, 300)) == [0]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_chance_alone_makes_hardly_anybody_an_outlier(share: float) -> None:
    rng, alarms = Random(7), 0
    for _ in range(2000):
        tallies = [(ended, sum(rng.random() < share for _ in range(ended))) for ended in (20, 30, 60)]
        alarms += bool(found(*tallies))
    assert alarms <= 4


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=8).map(
        lambda pairs: [(max(pair), min(pair)) for pair in pairs]
    ),
    st.floats(0.05, 1.0),
)
def test_an_outlier_fails_more_often_than_all_together_and_never_are_all_outliers(
    tallies: list[tuple[int, int]], margin: float
) -> None:
    bad = found(*tallies, margin=margin)
    ended, failed = sum(t[0] for t in tallies), sum(t[1] for t in tallies)
    assert len(set(bad)) == len(bad)
    assert not bad or len(bad) < len(tallies)
    for key in bad:
        assert tallies[key][1] / tallies[key][0] > failed / ended


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from(["", "tick", "clear"])), max_size=60))
def test_a_window_is_the_last_ticks_that_hold_enough_requests_and_what_came_since(
    steps: list[tuple[int, int, str]],
) -> None:
    window, counted, running, kept = Window(), Tally(0, 0), Tally(0, 0), list[Tally]()
    for ended, failed, what in steps:
        counted = Tally(counted.ended + ended, counted.failed + failed)
        running = Tally(running.ended + ended, running.failed + failed)
        if what == "clear":
            window.clear(counted)
            kept, running = [], Tally(0, 0)
        elif what == "tick":
            window.tick(counted)
            kept, running = [*kept, running][-TICKS:], Tally(0, 0)
        spans = [[*kept[len(kept) - ticks :], running] for ticks in range(len(kept) + 1)]
        whole = next((span for span in spans if sum(k.ended for k in span) >= LEAST), spans[-1])
        assert window.total(counted) == (sum(k.ended for k in whole), sum(k.failed for k in whole))


def test_a_service_with_many_requests_is_judged_by_what_happens_now() -> None:
    window = Window()
    for second in range(1, TICKS + 1):
        window.tick(Tally(1000 * second, 0))
    before = 1000 * TICKS
    assert window.total(Tally(before + LEAST, LEAST)) == (LEAST, LEAST)


def test_a_service_with_few_requests_is_judged_by_those_of_the_last_ticks() -> None:
    window = Window()
    for second in range(1, TICKS + 6):
        window.tick(Tally(second, 0))
    assert window.total(Tally(TICKS + 5, 0)) == (TICKS, 0)
