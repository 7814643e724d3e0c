"""Control's way of spans to a collector: their headers, a collector that is gone for a while, and what does not fit."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from enginehouse.control.traces import BATCH, MAX_WAITING, Traces
from enginehouse.wire.span import Batch, encode_batch
from tests.wire.test_span import STREAMED

DEADLINE = 20.0


class Scripted(http.server.ThreadingHTTPServer):
    """A collector that answers as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answering = threading.Event()
        self.answering.set()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Scripted
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.server.answering.wait(DEADLINE)
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def collector() -> Iterator[Scripted]:
    with Scripted() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.answering.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def traces(collector: Scripted, told: list[str]) -> Iterator[Traces]:
    started = Traces(collector.url, {"X-Key": "sk-1"}, timeout=1.0, tell=told.append)
    yield started
    started.close()


def batch(count: int, dropped: int = 0) -> bytes:
    return encode_batch(Batch(dropped, [STREAMED] * count))


def nowhere(service: str) -> tuple[str, int] | None:
    return None


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def _failed(traces: Traces, count: int) -> bool:
    return traces.failed == count


def test_spans_go_to_the_collector_s_path_with_the_headers_that_were_set(collector: Scripted, traces: Traces) -> None:
    traces.take(batch(2), nowhere)
    until(lambda: traces.exported == 2)
    ((path, headers, body),) = collector.requests
    assert path == "/v1/traces"
    assert headers["x-key"] == "sk-1"
    assert headers["content-type"] == "application/x-protobuf"
    assert body.count(b"chat Qwen/Qwen3-8B") == 2


def test_a_collector_that_refuses_is_told_once_and_once_that_it_takes_them_again(
    collector: Scripted, traces: Traces, told: list[str]
) -> None:
    collector.status = 401
    for count in (1, 2):
        traces.take(batch(1), nowhere)
        until(partial(_failed, traces, count))
    assert len(told) == 1
    assert "401" in told[0]
    assert "sk-1" not in told[0]
    collector.status = 200
    traces.take(batch(1), nowhere)
    until(lambda: traces.exported == 1)
    assert told[1:] == ["traces: exported again"]


def test_what_a_slow_collector_does_not_take_is_bounded_and_counted(collector: Scripted, traces: Traces) -> None:
    collector.answering.clear()
    traces.take(batch(BATCH, dropped=7), nowhere)
    until(lambda: collector.requests)  # the thread waits for this answer
    for _ in range(3):
        traces.take(batch(MAX_WAITING // 2), nowhere)
    assert traces.dropped == 7 + MAX_WAITING // 2
    collector.answering.set()
    traces.close(DEADLINE)
    assert traces.results() == {"exported": BATCH + MAX_WAITING, "failed": 0, "dropped": 7 + MAX_WAITING // 2}


def test_what_waits_is_sent_when_it_ends(collector: Scripted, told: list[str]) -> None:
    traces = Traces(collector.url + "/v1/traces/", {}, tell=told.append)
    traces.take(batch(3), nowhere)
    traces.close()
    assert traces.exported == 3
    assert [path for path, _, _ in collector.requests] == ["/v1/traces"]


def test_its_end_does_not_wait_for_a_collector_that_says_nothing(collector: Scripted, told: list[str]) -> None:
    collector.answering.clear()
    traces = Traces(collector.url, {}, timeout=1.0, tell=told.append)
    traces.take(batch(BATCH), nowhere)
    until(lambda: collector.requests)
    began = time.monotonic()
    traces.close(0.1)
    assert time.monotonic() - began < DEADLINE / 2
