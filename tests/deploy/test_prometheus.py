"""Alerts, dashboard and scrape configuration: read by Prometheus' own tool, and naming metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enginehouse.control.exposition import TEXT, expose
from enginehouse.core.metrics import METRICS, PREFIX

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
ALERTS = (PROMETHEUS / "alerts.yml").read_text()
ALERTS_TEST = (PROMETHEUS / "alerts_test.yml").read_text()
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "enginehouse.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
VARIABLES = {item["name"] for item in DASHBOARD["templating"]["list"]}


def promtool(*arguments: str, given: str = "") -> None:
    """Run it; what it complains of fails the test. So does its absence."""
    program = shutil.which("promtool")
    if program is None:
        pytest.fail("promtool is needed: scripts/system installs it (Debian: apt-get install prometheus)")
    ended = subprocess.run([program, *arguments], input=given, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not ended.stderr, ended.stderr


def alert_expressions() -> list[str]:
    return [
        " ".join(line.strip() for line in found.split("\n"))
        for found in re.findall(r"^        expr: (?:\|\n)?((?:.|\n(?= {10}))+)", ALERTS, re.MULTILINE)
    ]


def panel_expressions() -> list[str]:
    """With the variables of the dashboard replaced by something that Prometheus reads, as Grafana does."""
    found = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
    return [re.sub(r"\$(model|service)\b", ".*", each).replace("$__rate_interval", "5m") for each in found]


EXPRESSIONS = [*alert_expressions(), *panel_expressions()]


def test_the_expressions_are_found() -> None:
    assert len(alert_expressions()) == ALERTS.count("- alert:") == ALERTS.count("expr:")
    assert len(panel_expressions()) > 30


def test_promtool_takes_the_alerts_and_the_scrape_configuration() -> None:
    promtool("check", "rules", str(PROMETHEUS / "alerts.yml"))
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", str(PROMETHEUS / "alerts_test.yml"))


def test_every_alert_is_tested() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS)
    assert sorted(alerts) == sorted(set(re.findall(r"alertname: (\w+)", ALERTS_TEST)))
    assert all(f"alertname: {alert}\n        exp_alerts:\n" in ALERTS_TEST for alert in alerts), "each fires once"


def test_promtool_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(panel_expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # JSON is YAML
    promtool("check", "rules", str(file))


def test_promtool_has_nothing_to_say_about_the_page_of_metrics() -> None:
    samples = {
        metric.name: {tuple("x" for _ in metric.labels): (*[1] * (metric.size - 1), 1)} for metric in METRICS.values()
    }
    promtool("check", "metrics", given="".join(expose(samples, TEXT)))


def series(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Every metric of ours in an expression, with the labels that are selected by."""
    for name, selector in re.findall(rf"\b({PREFIX}\w+)(?:\{{([^}}]*)\}})?", expression):
        yield name, set(re.findall(r"(\w+)\s*=?[=~!]", selector))


def labels_of(name: str) -> set[str]:
    """The labels of a series by its name, `LookupError` where there is none of that name."""
    plain = name.removeprefix(PREFIX)
    if plain in METRICS and METRICS[plain].kind != "histogram":
        return set(METRICS[plain].labels)
    found = METRICS[re.sub(r"_(bucket|count|sum)$", "", plain)]
    if found.kind != "histogram" or plain == found.name:
        raise LookupError(name)
    return {*found.labels, "le"} if plain.endswith("_bucket") else set(found.labels)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_metrics_and_labels_that_there_are(expression: str) -> None:
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    known = {"instance", "job"}
    for name, selected in series(expression):
        labels = labels_of(name)
        assert selected <= labels, f"{name} has no {selected - labels}"
        known |= labels
    assert grouped <= known
    assert PREFIX in expression or expression.startswith("up{")


@pytest.mark.parametrize(
    "name", ["enginehouse_invented_total", "enginehouse_queue_seconds", "enginehouse_in_flight_sum"]
)
def test_a_name_that_there_is_not_would_be_found(name: str) -> None:
    with pytest.raises(LookupError):
        labels_of(name)


def test_documentation_that_alerts_send_people_to_is_there() -> None:
    root = DEPLOY.parent
    pages = set(re.findall(r"docs/[\w/-]+\.md", ALERTS))
    assert len(pages) >= 4
    assert [page for page in pages if not (root / page).is_file()] == []


# the dashboard


def test_panels_have_their_own_numbers_and_do_not_cover_each_other() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_use_the_data_source_that_is_chosen_and_variables_that_there_are() -> None:
    shown = [panel for panel in PANELS if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in shown} == {"${datasource}"}
    text = json.dumps(PANELS)
    used = set(re.findall(r"\$\{?([a-z]\w*)", text)) - {"__rate_interval"}
    assert used <= VARIABLES
    assert {"datasource", "model", "service"} == VARIABLES
    for item in DASHBOARD["templating"]["list"][1:]:
        name, label = re.findall(r"label_values\((\w+), (\w+)\)", item["definition"])[0]
        assert label in labels_of(name)
