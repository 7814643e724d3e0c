"""`/metrics` of a real router: all workers summed, under load, over the deaths of workers and of control."""

from __future__ import annotations

import concurrent.futures
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from enginehouse.core.metrics import METRICS, OTHER
from tests.contract.router import Router, engines, running, send, static, until, worker_of
from tests.e2e.engines import SimProcess

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 5}


@pytest.fixture(scope="module")
def sims() -> Iterator[dict[str, SimProcess]]:
    with engines(a={}, b={}) as started:
        yield started


@pytest.fixture
def router(sims: dict[str, SimProcess], tmp_path: Path) -> Iterator[Router]:
    with running(tmp_path / "router", [static(sim) for sim in sims.values()], workers=2) as started:
        started.until_healthy("a", "b")
        yield started


class Page:
    """One scrape, read by Prometheus' own parser."""

    def __init__(self, router: Router) -> None:
        answer = router.ask("GET", "/metrics")
        assert answer.status == 200
        assert answer.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
        self.samples = [sample for family in parse_text(answer.body.decode()) for sample in family.samples]

    def sum(self, name: str, **labels: str) -> float:
        """Over all series of this name that have these labels."""
        return sum(
            s.value for s in self.samples if s.name == "enginehouse_" + name and labels.items() <= s.labels.items()
        )

    def labels(self, name: str, label: str) -> set[str]:
        return {s.labels[label] for s in self.samples if s.name == "enginehouse_" + name}


def chats(page: Page) -> float:
    return page.sum("requests_total", model="m", outcome="answered", status="2xx")


def until_told(router: Router, holds: Callable[[Page], bool], what: str) -> Page:
    """The first page of which something holds; workers tell what they have counted a moment later."""
    pages: list[Page] = []

    def is_so() -> bool:
        pages.append(Page(router))
        return holds(pages[-1])

    until(is_so, what)
    return pages[-1]


def load(router: Router, requests: int, **fields: Any) -> set[str]:
    """Ask from many sides at once; the ids of the workers that answered."""

    def one(number: int) -> str:
        answer = send(router.url, "POST", "/v1/chat/completions", CHAT | {"stream": bool(number % 2)} | fields)
        assert answer.status == 200
        return worker_of(answer)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return set(pool.map(one, range(requests)))


def test_requests_through_all_workers_are_counted_once_each_with_their_times_and_tokens(router: Router) -> None:
    """Defect: No metrics, no tracing, no auth, no queue, no drain."""
    assert len(load(router, 200)) == 2, "both workers answered"
    page = until_told(router, lambda page: chats(page) == 200, "200 requests in the metrics")
    assert page.sum("requests_total", model="m") == 200
    assert page.labels("requests_total", "service") == {"a", "b"}
    for name in ("request_duration_seconds", "time_to_first_byte_seconds", "queue_seconds"):
        assert page.sum(name + "_count", model="m") == 200
        assert page.sum(name + "_bucket", model="m", le="+Inf") == 200
    assert page.sum("tokens_total", kind="output") > 0
    assert page.sum("attempts_total", outcome="answered") >= 200
    assert page.sum("own_requests_total") > 0
    assert page.sum("workers") == 2
    assert page.labels("connections", "worker") == {"0", "1"}
    assert page.labels("resident_memory_bytes", "process") == {"control", "worker-0", "worker-1"}
    assert page.sum("resident_memory_bytes") > 3 * 10**7
    assert page.sum("cpu_seconds_total") > 0
    assert page.sum("service_state", state="up") == page.sum("service_healthy") == 2
    assert page.sum("model_services", model="m") == 2


def test_killed_workers_and_a_killed_control_lose_no_counts_and_no_counter_falls(router: Router) -> None:
    load(router, 60)
    before = until_told(router, lambda page: chats(page) == 60, "60 requests in the metrics")
    for worker in router.workers():
        worker.send_signal(signal.SIGKILL)
    until(router.ready, "workers again")
    load(router, 20)
    until_told(router, lambda page: chats(page) == 80, "those of the dead workers and of their successors")
    control(router).send_signal(signal.SIGKILL)
    load(router, 20)
    after = until_told(router, lambda page: chats(page) >= 100, "those that control was told before it died, and since")
    assert chats(after) == 100
    counters = {name for name, metric in METRICS.items() if metric.kind == "counter"} - {"cpu_seconds_total"}
    assert all(after.sum(name) >= before.sum(name) for name in counters)


def control(router: Router) -> psutil.Process:
    (found,) = [child for child in psutil.Process(router.process.pid).children() if "control" in child.cmdline()]
    return found


def test_models_that_clients_invent_are_one_label(router: Router) -> None:
    for number in range(50):
        assert router.chat(f"invented-{number}").status == 503
    page = until_told(router, lambda page: page.sum("requests_total", model=OTHER) == 50, "50 of invented models")
    assert page.labels("requests_total", "model") == {OTHER, ""}, "none of their names"
    assert page.labels("queue_length", "model") == {"m"}


def test_an_engine_that_dies_is_seen_in_attempts_retries_ejections_and_states(
    sims: dict[str, SimProcess], tmp_path: Path
) -> None:
    with engines(c={}) as more:
        fleet = [static(sims["a"]), static(more["c"])]
        with running(tmp_path / "router", fleet, max_errors=2, policy="round_robin", health_interval=1) as router:
            router.until_healthy("a", "c")
            more["c"].kill9()
            load(router, 20)
            page = until_told(
                router,
                lambda page: page.sum("service_state", service="c", state="up") == 0 and chats(page) == 20,
                "a service that is out",
            )
    assert page.sum("attempts_total", service="c", outcome="connect_failed") >= 1
    assert page.sum("retries_total") >= 1
    assert page.sum("ejections_total", service="a") == 0
    assert page.sum("service_healthy", service="c") == 0
    assert page.sum("model_services", model="m") == 1


def test_the_page_is_openmetrics_for_who_asks_for_it(router: Router) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    answer = router.ask("GET", "/metrics", headers={"accept": accept})
    assert answer.header("content-type").startswith("application/openmetrics-text; version=1.0.0")
    parse: Any = parse_openmetrics  # has no types
    families = {family.name for family in parse(answer.body.decode())}
    assert {"enginehouse_retries", "enginehouse_in_flight"} <= families


def test_it_is_read_only(router: Router) -> None:
    answer = router.ask("POST", "/metrics", {})
    assert answer.status == 405
    assert answer.header("allow") == "GET, HEAD" or "GET" in answer.header("allow")
