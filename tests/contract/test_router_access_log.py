"""The access log of a router that one starts: what its lines tell of real requests, and its rotation by a signal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from enginehouse.wire.access_line import key_hash
from tests.contract.router import DEADLINE, Router, Sims, running, send, static, until

SECRET = "sk-never-in-a-log"


def lines(*files: Path) -> list[dict[str, Any]]:
    """Every line of some files."""
    return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def line_of(file: Path, id: str) -> dict[str, Any]:
    """The one line of a request, as soon as it is there."""
    until(lambda: any(line["id"] == id for line in lines(file)), f"a line of {id}")
    (line,) = [line for line in lines(file) if line["id"] == id]
    return line


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def test_a_line_tells_of_each_request_who_answered_how_it_ended_and_how_long_it_took(
    tmp_path: Path, log: Path, sims: Sims
) -> None:
    with running(tmp_path / "router", [static(sims["a"])], access_log=log) as router:
        router.until_healthy("a")
        answer = router.chat("x", {"authorization": f"Bearer {SECRET}", "x-request-id": "mine"})
        line = line_of(log, "mine")
        assert line["duration_ms"] >= line["first_byte_ms"] > 0
        assert line["bytes_in"] > 0
        expected = {
            "client": "127.0.0.1", "method": "POST", "path": "/v1/chat/completions", "model": "x", "service": "a",
            "status": 200, "outcome": "answered", "termination": "--", "attempts": 1, "bytes_out": len(answer.body),
            "stream": False, "key": key_hash(SECRET),
        }  # fmt: skip
        assert {name: line[name] for name in expected} == expected
        router.chat("x", {"x-request-id": "streamed"}, stream=True)
        assert (line_of(log, "streamed")["stream"], line_of(log, "streamed")["key"]) == (True, None)
        for header in ("x-api-key", "api-key"):
            router.chat("no-such-model", {header: SECRET, "x-request-id": header})
            assert line_of(log, header)["key"] == key_hash(SECRET), "the same key by another way, refused here"
        refused = router.chat("no-such-model", {"x-request-id": "refused"})
        line = line_of(log, "refused")
        assert (line["status"], line["outcome"], line["model"]) == (refused.status, "model_unknown", "no-such-model")
        assert (line["service"], line["attempts"], line["first_byte_ms"]) == ("", 0, None)
        router.ask("POST", f"/v1/chat/completions?key={SECRET}", headers={"x-request-id": "bad"}, raw=SECRET.encode())
        line = line_of(log, "bad")
        assert (line["status"], line["outcome"], line["termination"]) == (400, "bad_json", "CR")
    assert SECRET not in log.read_text()


def test_a_rotation_by_signal_loses_no_line_of_any_worker(tmp_path: Path, log: Path, sims: Sims) -> None:
    """As logrotate does it: the file is moved away, and the process that one started gets SIGUSR1."""
    answered: list[str] = []
    over = threading.Event()

    def go_on(name: str, router: Router) -> None:
        number = 0
        while not over.is_set():
            id = f"{name}-{number}"
            body = {"model": "x", "messages": [{"role": "user", "content": "x"}]}
            assert send(router.url, "POST", "/v1/chat/completions", body, {"x-request-id": id}).status == 200
            answered.append(id)
            number += 1

    with running(tmp_path / "router", [static(sims["a"])], access_log=log, workers=2) as router:
        router.until_healthy("a")
        workers = {worker.pid for worker in router.workers()}
        clients = [threading.Thread(target=go_on, args=(str(n), router)) for n in range(2)]
        for client in clients:
            client.start()
        moved = []
        try:
            for turn in range(5):
                until(log.exists, "a log")
                moved.append(log.rename(tmp_path / f"{turn}.log"))
                router.process.send_signal(signal.SIGUSR1)
                enough = len(answered) + 20
                until(lambda enough=enough: len(answered) > enough, "more answers")
        finally:
            over.set()
            for client in clients:
                client.join(DEADLINE)
        assert {worker.pid for worker in router.workers()} == workers, "nobody died of the signal"
        assert all(moved[-1] not in opened(pid) for pid in workers)
    found = [line["id"] for line in lines(*moved, log) if line["id"].startswith(("0-", "1-"))]
    assert sorted(found) == sorted(answered)


def opened(pid: int) -> set[Path]:
    """Files that a process holds open."""
    return {entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()}


def test_a_signal_while_workers_start_kills_none_of_them(tmp_path: Path, log: Path, sims: Sims) -> None:
    with running(tmp_path / "router", [static(sims["a"])], access_log=log, workers=2) as router:
        for _ in range(20):
            router.process.send_signal(signal.SIGUSR1)
        router.until_healthy("a")
        assert "starting it again" not in router.log


def test_a_log_that_cannot_be_written_is_refused_at_the_start_with_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "enginehouse.cli.main", "router", "--router-port", "0", "--host", "127.0.0.1"]
    missing = tmp_path / "missing" / "access.log"
    ended = subprocess.run(
        [*command, "--access-log", str(missing)], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert f"`access_log`: {missing}: No such file or directory; make its directory writable" in ended.stderr
