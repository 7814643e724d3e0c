"""Back-off before another attempt: jittered over the whole range, doubled, capped."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.policy.retry import CAP, FIRST, backoff


class Always:
    """A chance that always says the same."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


def test_the_first_attempt_waits_for_nothing() -> None:
    assert backoff(0, Always(0.9)) == 0


def test_the_bound_doubles_up_to_the_cap() -> None:
    bounds = [backoff(n, Always(1.0)) for n in range(1, 9)]
    assert bounds[0] == pytest.approx(FIRST)
    assert bounds[1] == pytest.approx(2 * FIRST)
    assert bounds[-1] == bounds[-2] == CAP


@given(st.integers(1, 20), st.randoms(use_true_random=False))
def test_any_wait_up_to_the_bound_may_come(repetitions: int, chance: random.Random) -> None:
    assert 0 <= backoff(repetitions, chance) <= min(CAP, FIRST * 2 ** (repetitions - 1))
