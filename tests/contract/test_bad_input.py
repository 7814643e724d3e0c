"""Bad input on every port: refused with a clear 4xx, while the process lives and other clients notice nothing."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.contract.bad_heads import HEADS, TWO_LENGTHS, head
from tests.contract.raw import exchange
from tests.contract.router import engines, running, send, static, steady
from tests.e2e.engines import SimProcess
from tests.ports import Ports
from tests.registry.running import RegistryProcess, service

DEADLINE = 30.0


class Port(NamedTuple):
    """One of the three services; `path` is one that takes requests there."""

    name: str
    port: int
    path: str
    engine: SimProcess | None = None


def router(stack: ExitStack, directory: Path) -> Port:
    """A router with one engine; another client chats meanwhile, and no worker may die."""
    sims = stack.enter_context(engines(a={}))
    running_router = stack.enter_context(running(directory, [static(sims["a"])]))
    running_router.until_healthy("a")
    pids = {worker.pid for worker in running_router.workers()}
    stack.callback(lambda: require(pids == {worker.pid for worker in running_router.workers()}, "the worker lived"))
    stack.enter_context(steady(lambda: running_router.chat().status))
    return Port("router", running_router.port, "/v1/chat/completions", sims["a"])


def registry(stack: ExitStack, directory: Path) -> Port:
    """A registry; another client registers and lists meanwhile."""
    process = stack.enter_context(RegistryProcess())

    def other() -> int:
        send(process.url, "POST", "/services", service("other"))
        return send(process.url, "GET", "/services/other").status

    def log() -> None:
        assert process.process.poll() is None
        process.kill()
        assert "a bug" not in process.errors

    stack.callback(log)
    stack.enter_context(steady(other))
    return Port("registry", int(process.url.rpartition(":")[2]), "/services")


def babysitter(stack: ExitStack, directory: Path) -> Port:
    """A babysitter with a mock engine; another client asks for its health meanwhile."""
    ports = Ports()
    stack.callback(ports.release)
    port = ports.pair()
    command = [sys.executable, "-m", "enginehouse.cli.main", "babysitter", "--service-type", "mock"]
    command += ["--name", "x", "--port", str(port), "--bind", "127.0.0.1", "--log-dir", str(directory)]
    with (directory / "err").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    stack.callback(end, process)
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], DEADLINE)
    assert ready
    url = process.stdout.readline().strip()
    stack.callback(lambda: require(process.poll() is None, "the babysitter lived"))
    stack.enter_context(steady(lambda: send(url, "GET", "/livez").status))
    return Port("babysitter", port + 1, "/info")


def end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate(timeout=DEADLINE)


def require(holds: bool, what: str) -> None:
    assert holds, what


PARTS: list[Callable[[ExitStack, Path], Port]] = [router, registry, babysitter]


@pytest.fixture(scope="module", params=PARTS, ids=lambda part: part.__name__)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    """Each of the three in its turn; at its end it must have lived, and its other client had 200 on every request."""
    with ExitStack() as stack:
        yield request.param(stack, tmp_path_factory.mktemp("port"))


@pytest.mark.parametrize("name", HEADS)
def test_a_malformed_request_is_refused_and_nothing_behind_it_is_read_as_another_one(port: Port, name: str) -> None:
    """Trap: llhttp accepts a missing or double Host, HTTP/1.0 with Transfer-Encoding, and `gzip, chunked`."""
    seen = port.engine.stats()["by_path"] if port.engine else {}
    reply = exchange(port.port, head(name, port.path))
    if (port.name, name) == ("babysitter", "HTTP/2.0"):
        assert (reply.status, reply.closed) == (0, True), "its library answers with the version it was asked with"
        return
    assert 400 <= reply.status < 500
    assert reply.error["type"] == "invalid_request_error"
    assert reply.rest == b"", "one answer and no more"
    if name in TWO_LENGTHS:
        assert reply.closed, "nothing can be read behind it"
    if port.engine:
        now = port.engine.stats()["by_path"]
        assert now.keys() <= seen.keys() | {"POST /v1/chat/completions"}, "the engine got nothing of it"


def test_a_refused_request_costs_only_its_own_connection_however_many_there_are(port: Port) -> None:
    for _ in range(100):
        reply = exchange(port.port, head("blank in a name", port.path))
        assert (reply.status, reply.closed) == (400, True)


def test_a_connection_without_a_word_or_with_half_a_head_disturbs_nobody(port: Port) -> None:
    for data in (
        b"",
        b"G",
        b"GET /",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab",
    ):
        with socket.create_connection(("127.0.0.1", port.port)) as sock:
            sock.sendall(data)
    assert exchange(port.port, b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n").status == 200
