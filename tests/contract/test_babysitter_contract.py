"""The babysitter's contract, seen from outside: the command, its flags and its file, plain requests, exact shapes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from tests.contract.foreign_registry import ForeignRegistry
from tests.ports import Ports

COMMAND = [sys.executable, "-m", "enginehouse.cli.main", "babysitter"]
ENGINE = Path(__file__).parents[1] / "babysitter" / "engine.py"
DEADLINE = 60.0


class Answer(NamedTuple):
    status: int
    type: str
    body: Any


def ask(url: str, method: str = "GET") -> Answer:
    """Status 0 where nobody answers."""
    try:
        with urlopen(Request(url, method=method), timeout=10) as answer:
            data = answer.read()
            return Answer(answer.status, answer.headers["content-type"], json.loads(data) if data else None)
    except HTTPError as error:
        with error:
            data = error.read()
            return Answer(error.code, error.headers["content-type"], json.loads(data) if data else None)
    except (URLError, OSError):
        return Answer(0, "", None)


def wait_for(url: str, status: int) -> Answer:
    end = time.monotonic() + DEADLINE
    while (answer := ask(url)).status != status:
        assert time.monotonic() < end, f"{url} never answered {status}, last {answer}"
        time.sleep(0.02)
    return answer


def wait_until(registry: ForeignRegistry, name: str) -> dict[str, Any]:
    end = time.monotonic() + DEADLINE
    while name not in registry.services:
        assert time.monotonic() < end, f"{name} was never registered"
        time.sleep(0.02)
    return registry.services[name]


@contextmanager
def babysitter(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`enginehouse babysitter` with these arguments, in a directory of its own."""
    process = subprocess.Popen([*COMMAND, *arguments], cwd=directory, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0


def file(directory: Path, text: str) -> str:
    path = directory / "service.toml"
    path.write_text(text)
    return str(path)


FILE = """
name = "llm"
host = "127.0.0.1"
port = {port}
registry_url = "{registry}"
router_url = "http://127.0.0.1:1"

[babysitter]
max_restarts = 10
restart_delay = 1
heartbeat_interval = 1

[backend]
type = "mock"
models = ["first", "org/second"]

[metadata]
cache_type = "paged"
parent_service = "mine"
"""


@pytest.fixture(scope="module")
def registry() -> Iterator[ForeignRegistry]:
    with ForeignRegistry() as made:
        yield made


@pytest.fixture(scope="module")
def port(registry: ForeignRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a ready engine, started from a file, and its babysitter on the next one."""
    ports = Ports()
    directory = tmp_path_factory.mktemp("contract")
    chosen = ports.pair()
    text = FILE.format(port=chosen, registry=registry.url)
    with babysitter(directory, "--config-file", file(directory, text)):
        wait_for(f"http://127.0.0.1:{chosen + 1}/health", 200)
        yield chosen
    ports.release()


def test_health_has_the_inherited_shape(port: int) -> None:
    answer = ask(f"http://127.0.0.1:{port + 1}/health")
    assert (answer.status, answer.type) == (200, "application/json")
    timestamp = answer.body.pop("timestamp")
    assert isinstance(timestamp, int)
    assert abs(timestamp - time.time()) < 60
    assert answer.body == {
        "status": "healthy",
        "service": "llm",
        "babysitter": "enhanced",
        "infinilm_server_running": True,
        "infinilm_server_port": port,
        "reason": None,  # ours: why, whenever the status is not "healthy"
    }


def test_models_is_the_engines_own_list(port: int) -> None:
    answer = ask(f"http://127.0.0.1:{port + 1}/models")
    assert answer == ask(f"http://127.0.0.1:{port}/v1/models")
    assert [model["id"] for model in answer.body["data"]] == ["first", "org/second"]


def test_info_has_the_inherited_shape(port: int) -> None:
    answer = ask(f"http://127.0.0.1:{port + 1}/info")
    uptime = answer.body.pop("uptime")
    assert isinstance(uptime, int)
    assert answer.body == {
        "name": "llm",
        "host": "127.0.0.1",
        "port": port + 1,
        "url": f"http://127.0.0.1:{port + 1}",
        "service_type": "mock",
        "infinilm_server_port": port,
        "restart_count": 0,
    }


def test_livez_head_unknown_paths_and_methods(port: int) -> None:
    url = f"http://127.0.0.1:{port + 1}"
    assert ask(f"{url}/livez").status == 200
    assert ask(f"{url}/health", "HEAD").status == 200
    for path, method, status, code in [
        ("/nothing", "GET", 404, "path_unknown"),
        ("/health", "POST", 405, "method_not_allowed"),
    ]:
        answer = ask(url + path, method)
        assert answer.status == status
        assert answer.body["error"] == {
            "message": answer.body["error"]["message"],
            "type": "invalid_request_error",
            "param": None,
            "code": code,
        }


def test_it_registers_itself_once_and_not_as_an_engine(port: int, registry: ForeignRegistry) -> None:
    record = wait_until(registry, "llm")
    told = {key: record[key] for key in ("name", "host", "hostname", "port", "url", "status", "metadata")}
    assert told == {
        "name": "llm",
        "host": "127.0.0.1",
        "hostname": "127.0.0.1",
        "port": port + 1,
        "url": f"http://127.0.0.1:{port + 1}",
        "status": "running",
        "metadata": {"type": "mock", "babysitter": "enhanced"},
    }


def test_it_registers_the_ready_engine_with_its_models_and_the_metadata_of_the_file_over_them(
    port: int, registry: ForeignRegistry
) -> None:
    record = wait_until(registry, "llm-server")
    told = {key: record[key] for key in ("name", "host", "hostname", "port", "url", "status", "metadata")}
    assert told == {
        "name": "llm-server",
        "host": "127.0.0.1",
        "hostname": "127.0.0.1",
        "port": port,
        "url": f"http://127.0.0.1:{port}",
        "status": "running",
        "metadata": {
            "type": "openai-api",
            "parent_service": "mine",
            "babysitter": "enhanced",
            "models": ["first", "org/second"],
            "models_list": ask(f"http://127.0.0.1:{port}/v1/models").body["data"],
            "cache_type": "paged",
        },
    }


def test_it_sends_heartbeats_for_both_and_registers_each_only_once(port: int, registry: ForeignRegistry) -> None:
    def beats(name: str) -> int:
        return sum(call.split("?")[0] == f"POST /services/{name}/heartbeat" for call in list(registry.calls))

    end = time.monotonic() + DEADLINE
    while min(beats("llm"), beats("llm-server")) < 2:
        assert time.monotonic() < end, registry.calls
        time.sleep(0.05)
    assert sum(call == "POST /services" for call in registry.calls) == 2


def test_all_flags_of_the_inherited_program_work(tmp_path: Path, ports: Ports) -> None:
    port = ports.pair()
    journal = tmp_path / "journal"
    options = shlex.quote(json.dumps({"port": port, "journal": str(journal), "words": "$GREETING"}))
    with ForeignRegistry() as registry:
        flags = {
            "--name": "flagged",
            "--host": "127.0.0.1",
            "--port": str(port),
            "--service-type": "command",
            "--command": f"{sys.executable} -I -S {ENGINE}",
            "--args": f"{options} --an-argument 'with blanks'",
            "--work-dir": str(tmp_path),
            "--registry-url": f"{registry.url}/",
            "--router-url": "http://127.0.0.1:1",
            "--max-restarts": "3",
            "--restart-delay": "1",
            "--heartbeat-interval": "1",
            "--env": "GREETING=hello",
        }
        with babysitter(tmp_path, *(word for pair in flags.items() for word in pair)):
            wait_for(f"http://127.0.0.1:{port + 1}/health", 200)
            wait_until(registry, "flagged-server")
        assert registry.services == {}
    assert f"args {json.dumps(['--an-argument', 'with blanks'])}" in journal.read_text()
    assert "hello" in (tmp_path / "logs" / "flagged.log").read_text()


def test_name_and_path_may_be_left_to_the_inherited_rules(tmp_path: Path, ports: Ports) -> None:
    """Without a name it is KIND-PORT; `--path` is what the kind needs."""
    port = ports.pair()
    engine = tmp_path / "engine"
    engine.write_text(f"#!/bin/sh\nexec {sys.executable} -I -S {ENGINE} '{json.dumps({'port': port})}'\n")
    engine.chmod(0o755)
    with babysitter(tmp_path, "--port", str(port), "--path", str(engine)):
        wait_for(f"http://127.0.0.1:{port + 1}/health", 200)
        assert ask(f"http://127.0.0.1:{port + 1}/info").body["name"] == f"command-{port}"


def test_models_is_503_while_the_engine_is_not_ready(tmp_path: Path, ports: Ports) -> None:
    port = ports.pair()
    text = f"""
        name = "slow"
        port = {port}
        [backend]
        type = "mock"
        args = ["--ready-after", "600"]
    """
    with babysitter(tmp_path, "--config-file", file(tmp_path, text)):
        wait_for(f"http://127.0.0.1:{port}/health", 503)
        url = f"http://127.0.0.1:{port + 1}"
        answer = ask(f"{url}/models")
        assert (answer.status, answer.body["error"]["type"]) == (503, "service_unavailable_error")
        health = ask(f"{url}/health")
        assert (health.status, health.body["status"], health.body["infinilm_server_port"]) == (503, "starting", None)
        assert ask(f"{url}/info").body["infinilm_server_port"] is None


def test_a_restarted_babysitter_takes_its_names_over(tmp_path: Path, ports: Ports, registry: ForeignRegistry) -> None:
    port = ports.pair()
    text = FILE.format(port=port, registry=registry.url).replace("llm", "again")
    name = file(tmp_path, text)
    process = subprocess.Popen([*COMMAND, "--config-file", name], cwd=tmp_path, stdout=subprocess.DEVNULL)
    wait_until(registry, "again-server")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    del registry.services["again-server"]
    with babysitter(tmp_path, "--config-file", name):
        wait_until(registry, "again-server")
