"""Spans of a router that one starts, as a real OpenTelemetry collector takes them."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector import Collector, collector
from tests.contract.router import DEADLINE, Router, Sims, engines, running, static, until
from tests.ports import Ports

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
SECRET = "never-in-a-span"
FRESH = re.compile(r"[0-9a-f]{16}")


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """The collector of all tests in this file."""
    ports = Ports()
    with collector(ports, tmp_path_factory.mktemp("collector")) as started:
        yield started
    ports.release()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, sims: Sims, taken: Collector) -> Iterator[Router]:
    """A router that sends it spans."""
    with running(tmp_path_factory.mktemp("router"), [static(sims["a"])], otlp_endpoint=taken.url) as router:
        router.until_healthy("a")
        yield router


def test_a_request_is_one_client_span_in_the_trace_of_its_client(traced: Router, sims: Sims, taken: Collector) -> None:
    """Defect: No metrics, no tracing, no auth, no queue, no drain."""
    before = time.time_ns()
    answer = traced.chat("x", SENT | {"x-request-id": "one"})
    span = taken.span(enginehouse__request_id="one")
    assert (span.trace_id, span.parent_id) == (TRACE, PARENT)
    assert FRESH.fullmatch(span.id)
    assert span.id != PARENT
    assert (span.name, span.kind, span.status) == ("chat x", "SPAN_KIND_CLIENT", "STATUS_CODE_UNSET")
    assert before < span.start < span.end < time.time_ns()
    assert span.resource["service.name"] == "enginehouse"
    told = answer.json["usage"]
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "x",
        "gen_ai.usage.input_tokens": told["prompt_tokens"],
        "gen_ai.usage.output_tokens": told["completion_tokens"],
        "gen_ai.usage.prompt_tokens": told["prompt_tokens"],
        "gen_ai.usage.completion_tokens": told["completion_tokens"],
        "server.address": "127.0.0.1",
        "server.port": sims["a"].port,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "enginehouse.service": "a",
        "enginehouse.outcome": "answered",
        "enginehouse.termination": "--",
        "enginehouse.attempts": 1,
    }
    assert {name: span.attributes.get(name) for name in expected} == expected
    (attempt,) = span.events
    assert attempt.name == "enginehouse.attempt"
    assert attempt.attributes["enginehouse.service"] == "a"
    assert attempt.attributes["enginehouse.outcome"] == "answered"
    assert span.start < attempt.time <= span.end
    counted = re.compile(rb'enginehouse_spans_total\{result="exported"\} [1-9]')
    until(lambda: counted.search(traced.ask("GET", "/metrics").body), "the span among those that were counted")


def test_a_stream_says_when_its_first_chunk_came(traced: Router, taken: Collector) -> None:
    traced.chat("x", {"x-request-id": "streamed"}, stream=True, stream_options={"include_usage": True})
    span = taken.span(enginehouse__request_id="streamed")
    assert span.attributes["gen_ai.request.stream"] is True
    first = span.attributes["gen_ai.response.time_to_first_chunk"]
    assert isinstance(first, float)
    assert 0 < first <= (span.end - span.start) / 1e9
    assert span.attributes["gen_ai.usage.output_tokens"]
    assert span.parent_id == ""


def test_an_error_is_one_in_the_span(traced: Router, taken: Collector) -> None:
    answer = traced.chat("nobody-has-it", SENT | {"x-request-id": "refused"})
    span = taken.span(enginehouse__request_id="refused")
    assert span.status == "STATUS_CODE_ERROR"
    assert span.attributes["error.type"] == "model_unknown"
    assert span.attributes["http.response.status_code"] == answer.status == 503
    assert span.events == []


def test_an_attempt_that_failed_is_an_event_before_the_one_that_answered(
    tmp_path: Path, sims: Sims, taken: Collector
) -> None:
    with engines(dying={"models": ["x"]}) as started:
        services = [static(sims["a"]), static(started["dying"])]
        with running(tmp_path / "router", services, otlp_endpoint=taken.url, policy="round_robin") as router:
            router.until_healthy("a", "dying")
            started["dying"].kill9()
            ids = ["tries-1", "tries-2"]
            assert [router.chat("x", {"x-request-id": id}).status for id in ids] == [200, 200]
            spans = [taken.span(enginehouse__request_id=id) for id in ids]
    span = max(spans, key=lambda span: len(span.events))
    told = [(event.attributes["enginehouse.service"], event.attributes["enginehouse.outcome"]) for event in span.events]
    assert told[-1] == ("a", "answered")
    assert told[0][0] == "dying"
    assert told[0][1] in ("connect_failed", "broke_before_head")
    assert span.attributes["enginehouse.attempts"] == 2
    assert span.status == "STATUS_CODE_UNSET"


def test_nothing_of_a_prompt_an_answer_a_key_or_a_query_is_in_a_span(traced: Router, taken: Collector) -> None:
    body = {"model": "x", "messages": [{"role": "user", "content": SECRET}], "user": SECRET}
    headers = {"authorization": f"Bearer {SECRET}", "x-request-id": "secret", "x-session-id": SECRET}
    answer = traced.ask("POST", f"/v1/chat/completions?key={SECRET}", body, headers | SENT)
    assert answer.status == 200
    taken.span(enginehouse__request_id="secret")
    assert SECRET not in taken.printed
    assert answer.json["choices"][0]["message"]["content"] not in taken.printed


def test_what_was_asked_just_before_the_router_stops_is_exported(tmp_path: Path, sims: Sims, taken: Collector) -> None:
    with running(tmp_path / "router", [static(sims["a"])], otlp_endpoint=taken.url + "/v1/traces") as router:
        router.until_healthy("a")
        router.chat("x", {"x-request-id": "last"})
    taken.span(enginehouse__request_id="last")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--otlp-endpoint", "localhost:4318"], "otlp_endpoint"),
        (["--otlp-endpoint", f"http://user:{SECRET}@collector:4318"], "otlp_endpoint"),
        (["--otlp-endpoint", "http://collector:4318", "--otlp-headers-file", "{file}"], "line 2"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start_and_no_secret_is_shown(
    tmp_path: Path, flags: list[str], said: str
) -> None:
    file = tmp_path / "headers"
    file.write_text(f"x-key: {SECRET}\n{SECRET}\n")
    command = [sys.executable, "-m", "enginehouse.cli.main", "router", "--router-port", "0"]
    command += [flag.replace("{file}", str(file)) for flag in flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert SECRET not in ended.stderr
