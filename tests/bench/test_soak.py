"""What a soak is stored as."""

import pytest

from bench.proxy.soak import Counts, Sample, figures

MIB = 1 << 20


def test_growth_is_told_by_the_second_and_by_the_million_requests_without_the_warm_up() -> None:
    samples = [Sample(0.0, 10 * MIB, 0, 5 * MIB, 3 * MIB)]
    samples += [
        Sample(second, 90 * MIB + second * 100, second * 10_000, 60 * MIB + second * 100, 20 * MIB)
        for second in range(100, 700, 6)
    ]
    told = figures(samples, Counts(json=6_900_000, streams=40_000, chunks=2_000_000, errors=0))
    assert told["rss_slope_bytes_per_second"] == pytest.approx(100)
    assert told["worker_slope_bytes_per_million_requests"] == pytest.approx(10_000)
    assert told["control_slope_bytes_per_second"] == 0
    assert told["rss_slope_error_bytes_per_second"] == pytest.approx(0, abs=0.1)
    assert told["requests"] == 6_940_000
    assert told["samples"][0] == [0.0, 10 * MIB, 0, 5 * MIB, 3 * MIB]
