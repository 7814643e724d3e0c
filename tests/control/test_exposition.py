"""`/metrics` as Prometheus' own parsers read it, both formats."""

from __future__ import annotations

import math

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from enginehouse.control.exposition import OPENMETRICS, TEXT, Samples, expose, format_for, unit_of
from enginehouse.core.metrics import METRICS

HOSTILE = 'a"b\\c\nd{}, é 模型'
DURATION = METRICS["request_duration_seconds"]
assert DURATION.buckets is not None
BOUNDS = DURATION.buckets.bounds


PROMISED = """
requests_total request_duration_seconds time_to_first_byte_seconds time_between_chunks_seconds queue_seconds
overhead_seconds tokens_total in_flight queue_length service_state ejections_total retries_total failovers_total
cancellations_total prefix_matched_bytes_total connections loop_lag_seconds resident_memory_bytes
"""


def everything() -> dict[str, dict[tuple[str, ...], tuple[float, ...]]]:
    """One series of each metric, with labels as bad as they can be."""
    found: dict[str, dict[tuple[str, ...], tuple[float, ...]]] = {}
    for metric in METRICS.values():
        values = tuple([1.0] * metric.size) if metric.buckets is None else (*[2] * (metric.size - 1), 12.5)
        found[metric.name] = {tuple(HOSTILE for _ in metric.labels): values}
    return found


def text(samples: Samples, content_type: str = TEXT) -> str:
    return "".join(expose(samples, content_type))


@pytest.mark.parametrize(("parse", "content_type"), [(parse_text, TEXT), (parse_openmetrics, OPENMETRICS)])
def test_every_metric_is_read_back_as_it_is_with_labels_that_hold_anything(parse: object, content_type: str) -> None:
    assert callable(parse)
    families = {family.name: family for family in parse(text(everything(), content_type))}
    assert len(families) == len(METRICS)
    for metric in METRICS.values():
        family = families[metric.full_name.removesuffix("_total") if metric.kind == "counter" else metric.full_name]
        assert family.type == metric.kind
        assert family.documentation == metric.help
        labels = [{k: v for k, v in sample.labels.items() if k != "le"} for sample in family.samples]
        assert all(found == dict.fromkeys(metric.labels, HOSTILE) for found in labels)
        if metric.buckets is None:
            assert [(sample.name, sample.value) for sample in family.samples] == [(metric.full_name, 1.0)]


def test_a_histogram_is_told_with_cumulative_buckets_a_count_and_a_sum() -> None:
    values = (3, 0, 2, *[0] * 11, 1, 99.5)
    (family,) = parse_text(text({DURATION.name: {("m", "a"): values}}))
    buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
    assert [bound for bound, _ in buckets] == [*BOUNDS, math.inf]
    assert [count for _, count in buckets] == [3, 3, *[5] * 12, 6]
    others = {s.name: s.value for s in family.samples if not s.name.endswith("_bucket")}
    assert others == {DURATION.full_name + "_count": 6, DURATION.full_name + "_sum": 99.5}


def test_bounds_are_written_as_people_write_them() -> None:
    written = text({DURATION.name: {("m", "a"): (0,) * DURATION.size}})
    assert [f'le="{bound}"' in written for bound in ("0.01", "0.02", "0.64", "1.28", "81.92", "+Inf")] == [True] * 6


def test_what_there_is_nothing_of_is_not_told() -> None:
    assert text({"requests_total": {}}) == ""
    assert text({}, OPENMETRICS) == "# EOF\n"


def test_series_are_in_order_so_that_two_pages_can_be_compared() -> None:
    lines = text({"in_flight": {("b",): (2,), ("a",): (1,)}}).splitlines()
    assert lines[2:] == ['enginehouse_in_flight{service="a"} 1', 'enginehouse_in_flight{service="b"} 2']


def test_openmetrics_is_for_who_asks_for_it() -> None:
    prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
    assert format_for(prometheus) == OPENMETRICS
    for accept in ("", "*/*", "text/plain", "text/html,application/xhtml+xml"):
        assert format_for(accept) == TEXT


def test_units_are_told_where_a_name_ends_in_one() -> None:
    assert [unit_of(name) for name in ("a_seconds", "a_bytes", "a_tokens", "a_share", "seconds")] == [
        "seconds",
        "bytes",
        "tokens",
        "",
        "",
    ]


# the table


def test_names_follow_prometheus_conventions() -> None:
    for metric in METRICS.values():
        assert metric.full_name.isascii()
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert (metric.buckets is not None) == (metric.kind == "histogram"), metric.name
        assert not {"le", "job", "instance"} & set(metric.labels)
        assert metric.help.endswith("."), metric.name


def test_all_that_was_promised_is_there() -> None:
    assert set(PROMISED.split()) <= METRICS.keys()


def test_durations_have_the_buckets_of_the_field() -> None:
    assert BOUNDS == (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
