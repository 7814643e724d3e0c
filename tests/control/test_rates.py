"""Rates, tokens and times to the first byte of the last seconds, read off sums that only rise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.control.rates import Sums, Window, percentile, total
from enginehouse.core.metrics import METRICS, Values

BUCKETS = METRICS["time_to_first_byte_seconds"].buckets
assert BUCKETS is not None
BOUNDS = BUCKETS.bounds


def first_bytes(**buckets: int) -> Values:
    """Counts by index of the bucket (`b3=2`), and a sum that nobody reads."""
    counts = [0] * (len(BOUNDS) + 1)
    for name, count in buckets.items():
        counts[int(name[1:])] = count
    return (*counts, 0.0)


def asked(count: int, outcome: str = "answered", status: str = "2xx", service: str = "a", model: str = "m") -> Sums:
    return {"requests_total": {(model, service, outcome, status): (count,)}}


def test_a_rate_is_what_was_added_by_the_seconds_in_which_it_was() -> None:
    window = Window(10)
    assert window.step(100.0, asked(50)).rate(50) == 0.0, "nothing is known yet"
    added = window.step(104.0, asked(70))
    assert (added.total.requests, added.seconds) == (20, 4.0)
    assert added.rate(added.total.requests) == 5.0
    assert added.by_service["a"].requests == added.by_model["m"].requests == 20


def test_what_is_older_than_the_window_does_not_count() -> None:
    window = Window(2)
    for second, count in enumerate((0, 100, 101, 102)):
        added = window.step(float(second), asked(count))
    assert (added.seconds, added.total.requests) == (2.0, 2)


def test_a_service_that_is_new_began_with_nothing() -> None:
    window = Window(10)
    window.step(0.0, asked(5))
    both = {"requests_total": {**asked(5)["requests_total"], **asked(3, service="b")["requests_total"]}}
    added = window.step(1.0, both)
    assert {name: figures.requests for name, figures in added.by_service.items()} == {"b": 3}


def test_sums_that_begin_anew_are_no_negative_rate() -> None:
    window = Window(10)
    window.step(0.0, asked(50))
    assert window.step(1.0, asked(3)).total.requests == 0


@pytest.mark.parametrize(
    ("outcome", "status", "errors"),
    [
        ("answered", "2xx", 0),
        ("answered", "4xx", 0),
        ("answered", "5xx", 1),
        ("client_left", "none", 0),
        ("bad_json", "4xx", 0),
        ("broke_midway", "2xx", 1),
        ("no_service", "5xx", 1),
        ("connect_failed", "5xx", 1),
    ],
)
def test_an_error_is_what_engine_or_router_did_not_what_a_client_did(outcome: str, status: str, errors: int) -> None:
    assert total(asked(1, outcome, status)).errors == errors


def test_tokens_are_told_apart_and_the_hit_share_is_of_the_window() -> None:
    sums: Sums = {
        "tokens_total": {("m", "a", "input"): (100,), ("m", "a", "output"): (7,), ("m", "b", "cached"): (60,)},
        "prefix_prompt_bytes_total": {("m", "a"): (1000,)},
        "prefix_matched_bytes_total": {("m", "a"): (250.0,)},
    }
    window = Window(10)
    window.step(0.0, {})
    added = window.step(1.0, sums)
    assert added.total.tokens == {"input": 100, "output": 7, "cached": 60}
    assert added.by_service["a"].tokens["cached"] == 0
    assert (added.total.hit_share, added.by_service["b"].hit_share) == (0.25, None)
    assert added.total.ttft is None


def test_percentiles_are_of_the_window_only() -> None:
    window = Window(10)
    window.step(0.0, {"time_to_first_byte_seconds": {("m", "a"): first_bytes(b9=100)}})
    added = window.step(1.0, {"time_to_first_byte_seconds": {("m", "a"): first_bytes(b0=4, b9=100)}})
    assert added.total.ttft == {"p50": 0.00031, "p90": 0.00056, "p99": 0.00062}


def test_a_percentile_lies_within_its_bucket_as_far_as_it_is_through_it() -> None:
    counts = list(first_bytes(b0=10, b3=80, b5=10)[:-1])
    assert percentile(counts, 0.05) == pytest.approx(BOUNDS[0] / 2)
    assert percentile(counts, 0.5) == pytest.approx((BOUNDS[2] + BOUNDS[3]) / 2)
    assert BOUNDS[4] < percentile(counts, 0.95) < BOUNDS[5]


@given(st.lists(st.integers(0, 50), min_size=len(BOUNDS) + 1, max_size=len(BOUNDS) + 1).filter(any))
def test_percentiles_never_fall_and_stay_within_the_bounds(counts: list[int]) -> None:
    found = [percentile(counts, share / 100) for share in range(1, 101)]
    assert found == sorted(found)
    assert found[0] >= 0
    assert found[-1] <= BOUNDS[-1]
