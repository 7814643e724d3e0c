"""`enginehouse events`, `logs` and `top` of a real router: lines for people, JSON for programs, over restarts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from enginehouse.cli.terminal import printable
from tests.cli.programs import Running, run, run_on_terminal, until
from tests.contract.router import Router, Sims, engines, running, static, write


@pytest.fixture(scope="module")
def sims() -> Iterator[Sims]:
    with engines(a={"models": ["m"]}) as started:
        yield started


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory, sims: Sims) -> Iterator[Router]:
    items = [static(sims["a"]), {"name": "gone", "host": "127.0.0.1", "port": 9}]
    with running(tmp_path_factory.mktemp("router"), items) as started:
        until("a healthy service", lambda: started.healthy() == {"a"})
        yield started


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Any]:
    """`follower(*arguments)`: a command that runs until the test is over."""
    started: list[Running] = []

    def start(*arguments: str) -> Running:
        started.append(Running(*arguments, cwd=tmp_path))
        return started[-1]

    yield start
    for each in started:
        each.close()


# events


def test_a_program_gets_one_object_a_line(router: Router) -> None:
    done = run("events", "--router", router.url)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert told == router.ask("GET", "/events").json["events"]
    assert [event["kind"] for event in told][:1] == ["control_started"]


def test_a_person_gets_when_what_whom_and_why(router: Router) -> None:
    status, seen = run_on_terminal("events", "--router", router.url, NO_COLOR="1")
    assert status == 0
    lines = seen.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d  control started", lines[0])
    assert any(re.fullmatch(r"\S+  down +gone +connection refused", line) for line in lines)
    assert any(re.fullmatch(r"\S+  joined +a +in the static file, at http://127.0.0.1:\d+", line) for line in lines)
    assert "\x1b[31mdown" in run_on_terminal("events", "--router", router.url)[1]


def test_the_last_ones_or_those_of_one_service_can_be_asked_for(router: Router) -> None:
    every = run("events", "--router", router.url, "-n", "0").stdout.splitlines()
    assert run("events", "--router", router.url, "-n", "2").stdout.splitlines() == every[-2:]
    told = [json.loads(line) for line in run("events", "--router", router.url, "--service", "gone").stdout.splitlines()]
    assert [event["kind"] for event in told] == ["joined", "down"]


def test_following_shows_what_comes_and_misses_nothing_while_the_router_restarts_its_control(
    tmp_path: Path, sims: Sims, follower: Any
) -> None:
    with running(tmp_path / "router", [static(sims["a"])], health_interval=0.2) as router:
        follows = follower("events", "-f", "-n", "0", "--router", router.url)
        assert follows.says('"up"')
        write(tmp_path / "router" / "static.json", [])
        assert json.loads(follows.says('"left"'))["service"] == "a"
        (control,) = [child for child in children(router) if "control" in child.cmdline()]
        control.kill()
        assert json.loads(follows.says('"control_started"'))["reason"] == "in place of one before it"
        write(tmp_path / "router" / "static.json", [static(sims["a"])])
        assert follows.says('"joined"')
        assert "trying again" in follows.log.read_text()


def children(router: Router) -> list[Any]:
    return list(psutil.Process(router.process.pid).children())


@pytest.mark.parametrize("command", [["events"], ["top"], ["logs", "a"]], ids=" ".join)
def test_a_router_that_is_not_there_is_named(command: list[str], ports: Any) -> None:
    url = f"http://127.0.0.1:{ports.one()}"
    done = run(*command, "--router", url)
    assert done.returncode == 1
    assert f"{url} cannot be reached: Connection refused" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["events", "top"])
def test_something_else_than_a_router_is_recognised(command: str, sims: Sims) -> None:
    done = run(command, "--router", sims["a"].url)
    assert done.returncode == 1
    assert "answers, but" in done.stderr
    assert "Traceback" not in done.stderr


# top, where there is no terminal


def test_without_a_terminal_top_prints_the_objects_of_the_feed(router: Router) -> None:
    done = run("top", "--count", "2", "--router", router.url)
    first, second = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert first["full"]
    assert {row["name"] for row in first["services"]} == {"a", "gone"}
    assert second["time"] > first["time"]


# what others wrote


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain\ttext ü", "plain\ttext ü"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("a\x1b[2Jb\x07\r\x00c", "abc"),
        ("\x9b31m\u202eevil", "31mevil"),
    ],
)
def test_lines_of_others_cannot_speak_to_the_terminal(written: str, shown: str) -> None:
    assert printable(written) == shown
