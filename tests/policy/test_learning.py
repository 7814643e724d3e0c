"""What is learned of a service: small steps towards what was seen, within bounds; what shows nothing adds nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.policy import learning
from enginehouse.policy.learning import doubtful, rate_after, room_after, token_bytes_after

SECONDS = st.floats(1e-6, 1e6)
TOKENS = st.integers(1, 1 << 21)
SIZES = st.integers(0, 1 << 24)


def repeated(step: Callable[[float], float], figure: float, times: int = 1000) -> float:
    for _ in range(times):
        figure = step(figure)
    return figure


def test_the_same_seen_again_and_again_is_believed_in_the_end() -> None:
    assert repeated(lambda rate: rate_after(rate, 8000, 0.5), 30_000.0) == pytest.approx(16_000)
    assert repeated(lambda bpt: token_bytes_after(bpt, 12_000, 4000), 4.0) == pytest.approx(3.0)


def test_one_answer_changes_little() -> None:
    assert rate_after(30_000.0, 8000, 0.5) == pytest.approx(28_600)
    assert token_bytes_after(4.0, 12_000, 4000) == pytest.approx(3.9)


def test_a_few_tokens_show_no_rate_and_little_of_their_size() -> None:
    assert rate_after(30_000.0, 999, 1.0) == 30_000.0
    assert rate_after(30_000.0, 5000, 0.0) == 30_000.0
    assert token_bytes_after(4.0, 100, 50) == pytest.approx(4.0 - 0.1 * 0.05 * 2.0)


@given(st.floats(20, 1e6), TOKENS, SECONDS)
def test_a_rate_stays_within_its_bounds(rate: float, tokens: int, seconds: float) -> None:
    assert learning.LEAST_RATE <= rate_after(rate, tokens, seconds) <= learning.MOST_RATE


@given(st.floats(0.5, 32), SIZES, TOKENS)
def test_bytes_for_each_token_stay_within_their_bounds(token_bytes: float, size: int, tokens: int) -> None:
    assert learning.LEAST_BYTES <= token_bytes_after(token_bytes, size, tokens) <= learning.MOST_BYTES


@given(st.floats(1 / 16, 4), st.floats(0, 1e9), st.booleans())
def test_only_what_contradicts_changes_what_a_service_is_thought_to_keep(room: float, age: float, warm: bool) -> None:
    after = room_after(room, age, warm)
    assert 1 / 16 <= after <= 4
    if warm and age > 1:
        assert after > room or after == 4
    elif not warm and age < 1:
        assert after < room or after == 1 / 16
    else:
        assert after == room


def test_a_service_that_keeps_less_is_found_out_slowly_and_one_that_keeps_more_soon() -> None:
    assert room_after(1.0, 0.5, warm=False) == pytest.approx(0.995)
    assert room_after(1.0, 1.5, warm=True) == pytest.approx(1.1)
    assert room_after(1.0, 1e9, warm=True) == pytest.approx(1.2)
    assert repeated(lambda room: room_after(room, 0.2 / room, warm=False), 1.0, 2000) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize(
    ("share", "expected", "strange"), [(0.0, 0.51, True), (0.0, 0.5, False), (0.01, 1.0, False), (0.0, 1.0, True)]
)
def test_it_is_strange_if_nothing_was_warm_where_most_should_have_been(
    share: float, expected: float, strange: bool
) -> None:
    assert doubtful(share, expected) is strange
