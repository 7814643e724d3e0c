"""What must hold is judged on sound runs only, and never held for want of data."""

from __future__ import annotations

from typing import Any

import pytest

from bench.report.results import Results
from bench.report.verdicts import TARGETS, Held, Verdict, judge
from tests.bench import invented

JSON_NGINX = "JSON at 64 connections, all features on: CPU a request, against nginx"


def verdict(results: Results, what: str) -> Verdict:
    (found,) = (each for each in judge(results) if each.what == what)
    return found


def with_cpu(case: str, contestant: str, *values: float) -> list[dict[str, Any]]:
    """The invented measurements, with these of one case and contestant, run by run."""
    kept = [row for row in invented.measurements() if (row["case"], row["contestant"]) != (case, contestant)]
    own = [invented.measurement(case, contestant, run, 1, cpu_us_per_unit=value) for run, value in enumerate(values, 1)]
    return kept + own


def test_every_target_has_a_verdict_in_its_order() -> None:
    found = judge(invented.results())
    assert [each.what for each in found] == [target.what for target in TARGETS]
    assert {each.held for each in found} == {Held.YES}


def test_without_any_measurement_nothing_is_held_and_nothing_fails() -> None:
    found = judge(invented.results(measurements=[], soak=None))
    assert {each.held for each in found} == {Held.UNKNOWN}
    assert all(each.note for each in found)


def test_a_ratio_is_shown_run_by_run_and_of_medians() -> None:
    found = verdict(invented.results(), JSON_NGINX)  # 18 µs and 10 µs
    assert (found.target, found.measured, found.of_medians) == ("at most 2.00×", "1.80×", "1.80×")


def test_exactly_at_the_limit_is_held_and_over_it_is_not() -> None:
    for ours, held in (([20.0] * 5, Held.YES), ([20.1] * 5, Held.NO)):
        rows = with_cpu("json-64", "enginehouse", *ours)
        rows = [{**row, "cpu_us_per_unit": 10.0} if row["contestant"] == "nginx" else row for row in rows]
        assert verdict(invented.results(measurements=rows), JSON_NGINX).held is held


def test_below_a_router_means_below_it() -> None:
    what = "SSE: CPU a chunk, 64 connections, against vllm-router"
    theirs = [invented.wobble(7.5, run) for run in range(1, 6)]
    equal = invented.results(measurements=with_cpu("sse-64", "enginehouse", *theirs))
    assert verdict(equal, what).held is Held.NO
    assert verdict(equal, what).target == "below 1.00×"


@pytest.mark.parametrize(
    ("ours", "nginx", "by_run", "of_medians", "held"),
    [
        ((19, 19, 19, 40, 40), (10, 10, 10, 10, 10), "1.90×", "1.90×", Held.YES),
        ((19, 19, 19, 40, 40), (1, 9.4, 10, 10, 10), "4.00×", "1.90×", Held.NO),
        ((10, 10, 30, 30, 30), (5, 5, 15, 10, 10), "2.00×", "3.00×", Held.NO),
    ],
)
def test_a_target_is_held_only_where_both_ways_of_dividing_are_within_it(
    ours: tuple[float, ...], nginx: tuple[float, ...], by_run: str, of_medians: str, held: Held
) -> None:
    rows = with_cpu("json-64", "enginehouse", *ours)
    for row in rows:
        if (row["case"], row["contestant"]) == ("json-64", "nginx"):
            row["cpu_us_per_unit"] = nginx[row["run"] - 1]
    found = verdict(invented.results(measurements=rows), JSON_NGINX)
    assert (found.measured.partition(" ")[0], found.of_medians, found.held) == (by_run, of_medians, held)


def test_fewer_than_five_runs_are_shown_but_decide_nothing() -> None:
    found = verdict(invented.results(measurements=invented.measurements(runs=4)), JSON_NGINX)
    assert found.held is Held.UNKNOWN
    assert found.measured.startswith("1.80×")
    assert found.note == "4 of the 5 runs it takes"


def test_a_run_with_errors_is_left_out_and_said_to_be() -> None:
    rows = invented.measurements()
    for row in rows:
        if (row["case"], row["contestant"], row["run"]) == ("json-64", "nginx", 2):
            row["errors"] = 900  # of 80,000
    found = verdict(invented.results(measurements=rows), JSON_NGINX)
    assert found.held is Held.UNKNOWN
    assert found.note == "1 run failed, 4 of the 5 runs it takes"


def test_a_run_that_the_bench_itself_threw_out_is_named_too() -> None:
    failed = [invented.measurement("json-64", "enginehouse", 6, 18, errors=3)]
    found = verdict(invented.results(failed=failed), JSON_NGINX)
    assert (found.held, found.note) == (Held.YES, "1 run failed")


def test_who_failed_in_a_case_is_named() -> None:
    rows = [row for row in invented.measurements() if (row["case"], row["contestant"]) != ("json-64", "nginx")]
    results = invented.results(
        measurements=rows, failed=[{"case": "json-64", "contestant": "nginx", "why": "it ended"}]
    )
    found = verdict(results, JSON_NGINX)
    assert (found.held, found.note) == (Held.UNKNOWN, "nginx failed in json-64")


def test_a_peer_that_was_skipped_is_named_with_its_reason() -> None:
    rows = [row for row in invented.measurements() if row["contestant"] != "vllm-router"]
    results = invented.results(measurements=rows, skipped={"vllm-router": "no wheel for this machine"})
    found = verdict(results, JSON_NGINX.replace("nginx", "vllm-router"))
    assert found.held is Held.UNKNOWN
    assert found.note == "vllm-router was skipped: no wheel for this machine"


def test_a_case_that_was_left_out_is_named() -> None:
    rows = [row for row in invented.measurements() if row["case"] != "services-2"]
    found = verdict(invented.results(measurements=rows), "CPU a request, 1,000 services against 2")
    assert (found.held, found.note) == (Held.UNKNOWN, "Enginehouse has no services-2")


@pytest.mark.parametrize(("stalls", "held"), [([0] * 5, Held.YES), ([0, 0, 0, 0, 1], Held.NO)])
def test_one_stall_in_any_run_is_a_stall(stalls: list[int], held: Held) -> None:
    rows = invented.measurements()
    for row in rows:
        if (row["case"], row["contestant"]) == ("streams-1000", "enginehouse"):
            row["stalls"] = stalls[row["run"] - 1]
    assert verdict(invented.results(measurements=rows), "1,000 streams on one core: stalls").held is held


@pytest.mark.parametrize(("grows_by", "held"), [(0, Held.YES), (20_000, Held.NO)])
def test_memory_must_not_grow_over_the_soak(grows_by: float, held: Held) -> None:
    found = verdict(invented.results(soak=invented.soak(grows_by)), "Memory over the soak: slope zero")
    assert found.held is held
