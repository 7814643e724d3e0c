"""The arithmetic of the report, beside figures computed by hand."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import medians, soak, words
from bench.report.medians import Spread
from bench.report.results import load, number, parse
from enginehouse.replay import scales
from tests.bench import invented


def test_a_spread_is_the_median_the_lowest_and_the_highest_of_the_runs() -> None:
    assert medians.spread([5.0, 1.0, 9.0]) == Spread(5, 1, 9, 3)
    assert medians.spread([4.0, 2.0]) == Spread(3, 2, 4, 2)
    assert medians.spread([]) is None


def test_a_ratio_is_taken_run_by_run_and_of_the_medians() -> None:
    top, bottom = {1: 10.0, 2: 30.0, 3: 20.0}, {1: 5.0, 2: 10.0, 3: 20.0}
    found = medians.ratio(top, bottom)  # quotients 2, 3, 1; medians 20 and 10
    assert found is not None
    assert found.by_run == Spread(2, 1, 3, 3)
    assert found.of_medians == 2
    assert medians.ratio({1: 10.0, 2: 10.0, 3: 90.0}, {1: 10.0, 2: 5.0, 3: 90.0}).worse == 1  # type: ignore[union-attr]


def test_only_runs_that_both_took_part_in_are_compared() -> None:
    found = medians.ratio({1: 2.0, 2: 8.0}, {2: 2.0, 3: 1.0})
    assert found is not None
    assert (found.by_run, found.of_medians) == (Spread(4, 4, 4, 1), 4)
    assert medians.ratio({1: 2.0}, {2: 2.0}) is None
    assert medians.differences({1: 2.0, 2: 8.0}, {2: 3.0, 3: 1.0}) == {2: 5.0}


def test_nothing_is_divided_by_zero_or_less() -> None:
    assert medians.ratio({1: 2.0, 2: 2.0}, {1: 0.0, 2: 1.0}) is None


@pytest.mark.parametrize("value", [True, None, "12", math.inf, math.nan, [1]])
def test_what_is_no_finite_number_is_no_figure(value: object) -> None:
    assert number(value) is None


def test_stalls_of_the_load_itself_and_of_the_backend_are_not_the_routers() -> None:
    row = invented.measurement("streams-1000", "nginx", 1, 8, stalls=12, own_stalls=7, backend_stalls=2)
    results = invented.results(measurements=[row, {**row, "run": 2, "own_stalls": None}])
    assert results.figure("streams-1000", "nginx", "router_stalls") == {1: 3, 2: 10}


def test_a_file_of_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="schema 2"):
        parse(json.dumps(invented.told(schema=2)).encode())


def test_the_same_run_told_twice_is_refused() -> None:
    row = invented.measurement("json-64", "nginx", 1, 10)
    with pytest.raises(ValueError, match=r"json-64 of nginx, run 1, twice"):
        invented.results(measurements=[row, row])


def test_a_measurement_without_a_run_is_refused() -> None:
    with pytest.raises(ValueError, match="without a case, a contestant or a run"):
        invented.results(measurements=[{"case": "json-64", "contestant": "nginx"}])


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "proxy.json").write_text("{")
    with pytest.raises(ValueError, match=r"proxy\.json"):
        load(tmp_path)


def test_two_files_of_one_bench_are_refused_and_none_is_no_error(tmp_path: Path) -> None:
    assert load(tmp_path / "absent") == {}
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_bytes(msgspec.json.encode(invented.told()))
    with pytest.raises(ValueError, match=r"b\.json is a second file"):
        load(tmp_path)


def test_steady_memory_has_a_slope_of_zero_whatever_it_did_while_warming_up() -> None:
    found = soak.read(invented.soak())
    assert found is not None
    assert found.fitted_from == 60
    assert found.slope == 0
    assert found.steady


def test_a_leak_of_a_few_bytes_a_request_is_seen_and_not_held_to_be_steady() -> None:
    found = soak.read(invented.soak(grows_by=20_000))  # bytes a second, at 5,000 requests a second: 4 bytes each
    assert found is not None
    assert found.slope == pytest.approx(20_000, rel=0.01)
    assert found.growth == pytest.approx(20_000 * 540, rel=0.01)
    assert found.per_request == pytest.approx(4, rel=0.01)
    assert not found.steady
    assert found.fit(600) - found.fit(60) == pytest.approx(found.growth)


def test_memory_that_shrinks_is_steady() -> None:
    found = soak.read(invented.soak(grows_by=-20_000))
    assert found is not None
    assert found.steady


def test_a_few_odd_samples_do_not_bend_the_slope() -> None:
    told = invented.soak()
    for at in (110, 115, 120):
        told["samples"][at][1] += 80_000_000
    found = soak.read(told)
    assert found is not None
    assert found.steady


@pytest.mark.parametrize(
    "told", [None, {}, {"samples": "none"}, {"samples": [[1, None, 2]] * 99}, invented.soak(samples=9)]
)
def test_a_soak_with_too_few_samples_says_nothing(told: dict[str, object] | None) -> None:
    assert soak.read(told) is None


def test_a_long_soak_is_read_within_bounds() -> None:
    found = soak.read(invented.soak(grows_by=5, samples=36_001))
    assert found is not None
    assert len(found.samples) == 36_001


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.0, "0"), (0.0004, "0"), (0.342, "0.342"), (1, "1.00"), (9.996, "10.0"), (18.23, "18.2"), (925.4, "925"),
     (999.6, "1,000"), (10_700, "10,700"), (-18.23, "-18.2"), (1_234_567, "1,230,000")],
)  # fmt: skip
def test_figures_have_three_significant_digits_and_no_exponent(value: float, written: str) -> None:
    assert words.figures(value) == written


def test_units_are_written_once_in_a_range() -> None:
    assert words.between(17.9, 18.6, words.micros) == "17.9–18.6 µs"
    assert words.between(18.21, 18.22, words.micros) == "18.2 µs"
    assert words.between(0.31, 0.4, words.times) == "0.31–0.40×"
    assert words.between(1000, 2_000_000, words.memory) == "1,000 bytes–1.91 MiB"
    assert words.between(3, 12, words.count) == "3–12"


@pytest.mark.parametrize(
    ("value", "written"), [(0.00171, "0.0017×"), (0.0234, "0.023×"), (0.34, "0.34×"), (1.634, "1.63×"), (840.2, "840×")]
)
def test_ratios_keep_two_digits_however_small(value: float, written: str) -> None:
    assert words.times(value) == written


def test_a_cell_holds_no_markup_and_is_one_line() -> None:
    assert words.cell("a|b\n<script> & c") == "a\\|b &lt;script&gt; &amp; c"


def test_ticks_are_round_and_few() -> None:
    assert scales.linear_ticks(0, 87, 5) == [0, 20, 40, 60, 80]
    assert scales.log_ticks(0.1, 10, 8) == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5, 10])
    assert scales.log_ticks(1, 100_000, 4) == pytest.approx([1, 100, 10_000])


@given(st.lists(st.floats(0.001, 1e7), min_size=1, max_size=8))
def test_a_logarithmic_axis_holds_every_value_between_its_ends(values: list[float]) -> None:
    scale = scales.logarithmic(values, 0, 100)
    assert scale.low <= min(values)
    assert max(values) <= scale.high
    assert all(0 <= scale(value) <= 100 for value in values)
    assert 1 <= len(scale.ticks(6)) <= 6


@given(st.lists(st.floats(0, 200), max_size=12), st.floats(1, 40))
def test_labels_keep_apart_in_their_order_and_within_their_room(wanted: list[float], gap: float) -> None:
    placed = scales.apart(wanted, gap, 0, 200)
    assert all(-1e-6 <= place <= 200 + 1e-6 for place in placed)
    gap = min(gap, 200 / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda at: (wanted[at], at))
    assert all(placed[b] - placed[a] >= gap - 1e-6 for a, b in pairwise(order))


def test_labels_that_have_room_stay_where_they_should_be() -> None:
    assert scales.apart([10.0, 90.0, 50.0], 18, 0, 100) == [10, 90, 50]


def test_an_axis_leaves_out_what_would_dwarf_the_rest() -> None:
    assert scales.off_the_scale([11, 18, 54, 78, 10_700]) == 78
    assert scales.off_the_scale([11, 18, 54, 78]) == 78
    assert scales.off_the_scale([]) == 1
