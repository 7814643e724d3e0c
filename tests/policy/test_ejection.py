"""What being put out means: how long, what ends it, what is remembered of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.shared import Standing
from enginehouse.policy.ejection import TRIAL, Rules, is_undecided

NOW = 1000.0


def rules(**config: Any) -> Rules:
    return Rules(RouterConfig(**config))


def test_each_ejection_is_twice_as_long_as_the_one_before_up_to_the_longest() -> None:
    standing, now, lasted = Standing(), NOW, []
    for _ in range(6):
        standing = rules(ejection_time=30, max_ejection_time=300).put_out(standing, now)
        lasted.append(standing.ejected_until - now)
        now = standing.ejected_until
    assert lasted == [30, 60, 120, 240, 300, 300]


def test_a_service_that_was_well_for_as_long_as_the_longest_ejection_begins_anew() -> None:
    its = rules(ejection_time=30, max_ejection_time=300)
    back = its.back(its.put_out(its.put_out(Standing(), NOW), NOW), NOW)
    assert its.put_out(back, NOW + 299).ejected_until == NOW + 299 + 120
    assert its.put_out(back, NOW + 300).ejected_until == NOW + 300 + 30


def test_the_level_does_not_overflow_however_often_a_service_fails() -> None:
    standing = rules(ejection_time=30).put_out(Standing(level=100_000, undecided_until=NOW), NOW)
    assert standing.ejected_until == NOW + 300


def test_an_ejection_time_above_the_longest_is_kept() -> None:
    assert rules(ejection_time=600, max_ejection_time=300).put_out(Standing(), NOW).ejected_until == NOW + 600


def test_a_trial_keeps_the_service_from_others_until_it_is_decided_or_has_taken_too_long() -> None:
    out = rules(ejection_time=30).put_out(Standing(), NOW)
    trial = rules().on_trial(out, NOW + 30)
    assert trial.ejected_until == NOW + 30 + TRIAL
    assert is_undecided(trial, trial.ejected_until)
    assert trial.level == out.level
    assert rules().due(trial, NOW + 31).ejected_until == NOW + 31


def test_where_no_request_comes_a_service_is_no_longer_tried_after_a_while() -> None:
    out = rules(ejection_time=30).put_out(Standing(), NOW)
    assert is_undecided(out, NOW + 30)
    assert not is_undecided(out, NOW + 30 + TRIAL)


def test_a_service_that_is_back_starts_slowly_and_its_level_is_kept() -> None:
    back = rules(slow_start=10).back(Standing(3, NOW - 1, NOW + 9), NOW)
    assert back == Standing(3, slow_from=NOW, slow_until=NOW + 10)
    assert not is_undecided(back, NOW)


def test_never_more_than_the_share_is_out_but_always_one_may_be() -> None:
    half = rules(max_ejected=0.5)
    assert half.room([])
    assert half.room([False])
    assert not half.room([True])
    assert not half.room([True, False])
    assert half.room([True, False, False])
    assert not half.room([True, True, False])
    assert rules(max_ejected=1.0).room([True] * 9)
    assert not rules(max_ejected=0.0).room([False] * 9)


@given(st.lists(st.booleans(), max_size=40), st.floats(0.0, 1.0))
def test_after_one_more_the_share_is_kept(others: list[bool], share: float) -> None:
    if rules(max_ejected=share).room(others):
        assert sum(others) + 1 <= max(1, share * (len(others) + 1))


@given(
    st.lists(st.tuples(st.sampled_from(["put_out", "on_trial", "due", "back"]), st.floats(0.0, 50.0)), max_size=30),
    st.floats(0.1, 100.0),
    st.floats(0.1, 1000.0),
)
def test_whatever_happens_nobody_is_out_for_longer_than_the_longest_ejection(
    events: list[tuple[str, float]], first: float, longest: float
) -> None:
    its, standing, now = rules(ejection_time=first, max_ejection_time=longest), Standing(), NOW
    for name, later in events:
        now += later
        standing = getattr(its, name)(standing, now)
        bound = max(first, longest, TRIAL)
        assert standing.ejected_until <= now + bound * 1.001
        assert standing.undecided_until <= standing.ejected_until + TRIAL or not standing.undecided_until
        assert standing.level <= 1 + len(events)
