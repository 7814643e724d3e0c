"""`enginehouse drain`: finds the service and its registry, orders, waits for the end, and says why it cannot."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enginehouse.cli import drain as module
from enginehouse.cli.drain import drain
from tests.registry.running import RegistryProcess, service

TOKEN = "token-7"


class FakeRouter:
    """Knows three services; `looks` is what `/services` tells of the first one, time after time, the last for ever."""

    def __init__(self, registry_url: str) -> None:
        self.registry_url = registry_url
        self.looks: list[dict[str, Any]] = [{"in_flight": 0, "drained": True}]

    def answer(self, path: str) -> dict[str, Any]:
        looks = self.looks.pop(0) if path == "/services" and len(self.looks) > 1 else self.looks[0]
        services = [
            {"name": "a-server", "in_flight": 4, "drained": False} | looks,
            {"name": "b", "in_flight": 0, "drained": False},
            {"name": "fixed", "in_flight": 0, "drained": False},
        ]
        details = {"a-server": {"source": "registry"}, "b": {"source": "registry"}, "fixed": {"source": "static"}}
        return {"services": services, "details": details, "registry_url": self.registry_url}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryProcess]:
    (tmp_path / "token").write_text(TOKEN)
    with RegistryProcess(token_file=str(tmp_path / "token")) as running:
        for name in ("a-server", "b"):
            call(running.url, "POST", "/services", service(name, lease=f"lease-of-{name}"))
        yield running


@pytest.fixture
def router(registry: RegistryProcess) -> FakeRouter:
    return FakeRouter(f"{registry.url}/services")


@pytest.fixture
def words(router: FakeRouter, tmp_path: Path) -> Iterator[list[str]]:
    """What every command line here has."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(router.answer(self.path)).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield ["--router", f"http://127.0.0.1:{server.server_port}", "--token-file", str(tmp_path / "token")]
    server.shutdown()
    thread.join()
    server.server_close()


def call(url: str, method: str, path: str, body: object = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    request = urllib.request.Request(url + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=20) as response:
        told: dict[str, Any] = json.load(response)
    return told


def statuses(registry: RegistryProcess) -> dict[str, str]:
    return {each["name"]: each["status"] for each in call(registry.url, "GET", "/services")["services"]}


def test_a_service_is_drained_by_its_name_or_by_that_of_its_engine_and_brought_back(
    registry: RegistryProcess, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, meant in (("a", "a-server"), ("a-server", "a-server"), ("b", "b")):
        assert drain([name, *words]) == 0
        assert f"{meant} drains" in capsys.readouterr().out
        assert statuses(registry)[meant] == "draining"
        assert drain([name, "--undo", *words]) == 0
        assert capsys.readouterr().out == f"{meant} takes requests again\n"
        assert statuses(registry)[meant] == "running"


def test_the_token_may_be_named_by_the_registrys_own_variable(
    registry: RegistryProcess, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    *router, _, file = words
    monkeypatch.setenv("ENGINEHOUSE_REGISTRY_TOKEN_FILE", file)
    assert drain(["a", *router]) == 0
    assert statuses(registry)["a-server"] == "draining"


def test_waiting_ends_when_the_router_says_that_nothing_is_left(
    router: FakeRouter, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK", 0.01)
    router.looks = [{"in_flight": n, "drained": False} for n in (4, 3, 0)] + [{"in_flight": 0, "drained": True}]
    assert drain(["a", "--wait", *words]) == 0
    assert "a-server is drained: nothing is in flight" in capsys.readouterr().out
    assert len(router.looks) == 1, "it looked until then"


def test_waiting_has_an_end_and_says_what_is_left(
    router: FakeRouter, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    router.looks = [{"in_flight": 4, "drained": False}]
    assert drain(["a", "--wait", "--timeout", "0.1", *words]) == 1
    assert "a-server still has 4 in flight after 0.1 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("aserver", [], "has no service aserver; did you mean a-server?\nIts services: a-server, b, fixed"),
        ("fixed", [], '"status": "draining"'),
        ("b", ["--undo"], "b is not being drained"),
        ("b", ["--token-file", "/dev/null"], "--token-file FILE"),
        ("b", ["--token-file", "/nowhere"], "/nowhere"),
        ("b", ["--registry", "http://127.0.0.1:1"], "cannot be reached"),
        ("b", ["--router", "http://127.0.0.1:1"], "cannot be reached"),
    ],
)
def test_what_stands_in_the_way_is_told_and_changes_nothing(
    registry: RegistryProcess,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    name: str,
    more: list[str],
    told: str,
) -> None:
    assert drain([name, *words, *more]) == 1
    assert told in capsys.readouterr().err
    assert set(statuses(registry).values()) == {"running"}
