"""A real Prometheus with the configuration and the alerts that are shipped, in front of a real router."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.contract.router import DEADLINE, engines, running, send, static, until
from tests.ports import Ports

PROMETHEUS = Path(__file__).parents[2] / "deploy" / "prometheus"


@contextmanager
def prometheus(folder: Path, port: int, target: str) -> Iterator[str]:
    """Its URL. It scrapes `target` five times a second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.fail("prometheus is needed: scripts/system installs it (Debian: apt-get install prometheus)")
    shutil.copy(PROMETHEUS / "alerts.yml", folder)
    config = (PROMETHEUS / "prometheus.yml").read_text()
    config = config.replace("localhost:8080", target).replace("15s", "200ms")
    (folder / "prometheus.yml").write_text(config)
    flags = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([program, *flags, f"--web.listen-address=127.0.0.1:{port}"], stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(DEADLINE)


def told(url: str, path: str) -> Any:
    answer = send(url, "GET", path)
    if answer.status == 503:
        raise LookupError("it has not read its data yet")
    found = answer.json
    assert found["status"] == "success", found
    return found["data"]


def values(url: str, expression: str) -> list[float]:
    return [float(found["value"][1]) for found in told(url, f"/api/v1/query?query={quote(expression)}")["result"]]


def test_it_scrapes_the_router_counts_its_requests_and_fires_the_alert_of_a_model_without_services(
    tmp_path: Path, ports: Ports
) -> None:
    with engines(a={}) as sims, running(tmp_path / "router", [static(sims["a"])], workers=2) as router:
        router.until_healthy("a")
        with prometheus(tmp_path, ports.one(), router.url.removeprefix("http://")) as url:
            for _ in range(10):
                assert router.chat().status == 200
            until(lambda: values(url, 'sum(enginehouse_requests_total{model="m"})') == [10], "ten requests counted")
            assert values(url, 'up{job="enginehouse"}') == [1]
            (target,) = told(url, "/api/v1/targets")["activeTargets"]
            assert (target["health"], target["lastError"]) == ("up", "")
            (group,) = told(url, "/api/v1/rules")["groups"]
            assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}, group
            sims["a"].kill9()
            router.chat()
            until(lambda: pending(url) == {"m"}, "the alert is about to fire, two minutes from now")


def pending(url: str) -> set[str]:
    """Models of which nobody is left, as far as the alerts know."""
    alerts = told(url, "/api/v1/alerts")["alerts"]
    return {each["labels"]["model"] for each in alerts if each["labels"]["alertname"] == "EnginehouseModelUnserved"}
