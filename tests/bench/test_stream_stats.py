"""The histogram of the streaming programs is bounded and errs by a bin at most."""

import random

import pytest

from bench.proxy.stream_stats import Histogram


@pytest.mark.parametrize("scale", [50_000, 5_000_000, 2_000_000_000])
def test_a_quantile_is_at_most_a_bin_above_the_true_one(scale: int) -> None:
    rng = random.Random(scale)
    values = sorted(int(rng.expovariate(1 / scale)) for _ in range(2_000))
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for share in (0.5, 0.99):
        true = values[round(len(values) * share) - 1]
        width = 5_000 if true < 60_000_000 else 5_000_000
        assert true / 1e6 <= histogram.quantile_ms(share) <= (true + width) / 1e6
    assert histogram.most_ms == values[-1] / 1e6
    assert histogram.count == 2_000


def test_extremes_are_kept_in_the_first_and_the_last_bin() -> None:
    histogram = Histogram()
    histogram.add(-5)
    histogram.add(10**15)
    assert histogram.count == 2
    assert histogram.most == 10**15


def test_nothing_counted_is_zero() -> None:
    assert Histogram().quantile_ms(0.99) == 0.0
