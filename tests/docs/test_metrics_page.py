"""The page about reading metrics asks for metrics that there are, by labels that they have."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from enginehouse.core.metrics import METRICS, Metric
from enginehouse.core.outcome import Outcome

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "read-the-metrics.md").read_text()
EXPRESSIONS = re.findall(r"`([^`]*enginehouse_[^`]*)`", PAGE)
#: What a histogram adds to a name, and the label of its buckets.
BUCKET, BOUND = "_bucket", "le"
BY_NAME = {metric.full_name: metric for metric in METRICS.values()}


def metric_of(name: str) -> Metric:
    found = BY_NAME.get(name) or BY_NAME[name.removesuffix(BUCKET)]
    assert name.endswith(BUCKET) is (found.kind == "histogram"), name
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_is_about_metrics_that_there_are_and_labels_that_they_have(expression: str) -> None:
    assert expression.count("(") == expression.count(")")
    asked = re.findall(r"(enginehouse_\w+)(?:\{([^}]*)\})?", expression)
    metrics = [metric_of(name) for name, _ in asked]
    for (_, matchers), metric in zip(asked, metrics, strict=True):
        named = re.findall(r"(\w+)(?:=~|!=|=)\"([^\"]*)\"", matchers)
        assert {label for label, _ in named} <= set(metric.labels)
        outcomes = [value for label, values in named if label == "outcome" for value in values.split("\\|")]
        assert set(outcomes) <= {outcome.value for outcome in Outcome}
    grouped = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(",")}
    assert grouped <= {BOUND, *(label for metric in metrics for label in metric.labels)}
    counters = [
        name for name, metric in zip((name for name, _ in asked), metrics, strict=True) if metric.kind != "gauge"
    ]
    assert all(re.search(rf"(?:rate|increase)\({name}[{{\[]", expression) for name in counters)


def test_the_page_has_most_of_the_metrics() -> None:
    named = {metric_of(name) for expression in EXPRESSIONS for name in re.findall(r"enginehouse_\w+", expression)}
    assert len(named) > 0.7 * len(METRICS)


def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    rules = [{"record": f"page:{at}", "expr": each.replace("\\|", "|")} for at, each in enumerate(EXPRESSIONS)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "page", "rules": rules}]}))
    said = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert f"{len(EXPRESSIONS)} rules found" in said.stdout
