"""The order of a reload: nobody is told to go before his successor serves; what goes wrong leaves all as it was."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from enginehouse import __version__
from enginehouse.core.config.router import RouterConfig
from enginehouse.supervisor import reload
from enginehouse.supervisor.keeper import Child, Keeper
from enginehouse.supervisor.reload import Refused

DEADLINE = 20.0
SERVES = "os.write(ready, b'1'); time.sleep(60)"
DIES = "raise SystemExit(3)"
NEVER = "time.sleep(60)"


class Process(Child):
    """A child that runs a line of Python; `ready` is the descriptor on which its word is expected, -1 for none."""

    def __init__(self, name: str, code: str) -> None:
        super().__init__(name, "none", {})
        self.code = code

    def start(self, now: float) -> None:
        ready = self.descriptors.get("ready", -1)
        code = f"import os, time; ready = {ready}\n{self.code}"
        self.process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[ready] if ready >= 0 else [])
        self.started = now


class Router:
    """A router whose processes do what the test says. `story` is what happened, in order."""

    def __init__(self, workers: int, control: str = SERVES, worker: str = SERVES) -> None:
        self.config = RouterConfig(port=1, workers=workers)
        self.story: list[str] = []
        self.settings: list[RouterConfig] = []
        self.rooms = 100
        self._codes = {"control": control, "worker": worker}
        self._made = self._looks = 0
        self.keeper = Keeper(lambda child, _: self.story.append(f"{child.name} ended"))
        self.control: Child = self._make("control", NEVER)
        self.workers: list[Child] = [self._make("worker", NEVER) for _ in range(workers)]
        for child in (self.control, *self.workers):
            self.keeper.add(child)

    def _make(self, kind: str, code: str) -> Process:
        self._made += 1
        return Process(f"{kind} {self._made}", code)

    def new_control(self) -> Child:
        return self._make("control", self._codes["control"])

    def new_worker(self, position: int) -> Child | None:
        self.rooms -= 1
        return self._make("worker", self._codes["worker"]) if self.rooms >= 0 else None

    def use(self, config: RouterConfig, settings: bytes) -> None:
        assert msgspec.json.decode(settings, type=RouterConfig) == config
        self.config = config
        self.settings.append(config)

    def start(self, child: Child) -> None:
        self.story.append(f"{child.name} starts")
        self.keeper.add(child)

    def let_go(self, child: Child, number: signal.Signals) -> None:
        self.story.append(f"{child.name} is told {number.name}")
        self.keeper.let_go(child, number)

    def accepts(self, worker: Child) -> bool:
        self._looks += 1
        if self._looks % 3:
            return True
        self.story.append(f"{worker.name} is closed")
        return False

    def tell(self, text: str) -> None:
        self.story.append(text)

    def reload(self, *reread: str) -> None:
        """Go through it as the supervisor does."""
        deadline = time.monotonic() + DEADLINE
        for _ in reload.steps(self, reread):
            assert time.monotonic() < deadline, self.story
            self.keeper.tick()
            time.sleep(0.002)


@pytest.fixture
def made() -> Iterator[list[Router]]:
    routers: list[Router] = []
    yield routers
    for router in routers:
        router.keeper.stop(list(router.keeper.children), 0.0, lambda: time.sleep(0.002))


def printing(settings: RouterConfig, version: str = __version__) -> tuple[str, ...]:
    """A command that prints these settings."""
    told = {"version": version, "settings": msgspec.to_builtins(settings)}
    return (sys.executable, "-c", f"print({json.dumps(told)!r})")


def without_deaths(story: list[str]) -> list[str]:
    return [line for line in story if not line.endswith("ended")]


def test_each_process_is_told_to_go_after_its_successor_has_said_that_it_serves(made: list[Router]) -> None:
    made.append(router := Router(2))
    before = [router.control, *router.workers]
    router.reload()
    assert without_deaths(router.story) == [
        "control 4 starts", "control 1 is told SIGTERM", "control was replaced",
        "worker 5 starts", "worker 2 is told SIGHUP", "worker 2 is closed", "worker 5 serves in place of worker 2",
        "worker 6 starts", "worker 3 is told SIGHUP", "worker 3 is closed", "worker 6 serves in place of worker 3",
    ]  # fmt: skip
    after = [router.control, *router.workers]
    assert [child.name for child in after] == ["control 4", "worker 5", "worker 6"]
    assert all(child.wanted and child.alive and "ready" not in child.descriptors for child in after)
    assert not any(child.wanted for child in before)


def test_a_control_that_does_not_end_when_it_is_told_to_is_killed(
    made: list[Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on to hold the sockets."""
    monkeypatch.setattr(reload, "CLOSE_DEADLINE", 0.5)
    made.append(router := Router(0))
    old = router.control.process
    assert old is not None
    old.send_signal(signal.SIGSTOP)
    router.reload()
    assert old.wait(DEADLINE) == -signal.SIGKILL


def test_settings_are_read_anew_and_hold_for_what_is_started_from_then_on(made: list[Router]) -> None:
    made.append(router := Router(1))
    new = msgspec.structs.replace(router.config, max_errors=7)
    router.reload(*printing(new))
    assert router.settings == [new]
    assert router.story[0] == "the settings were read again"


@pytest.mark.parametrize(
    ("change", "words"),
    [({"port": 2}, "`port` was 1 and is 2"), ({"workers": 3}, "`workers`"), ({"host": "::1"}, "`host`")],
)
def test_what_belongs_to_the_sockets_is_refused_before_anything_is_started(
    made: list[Router], change: dict[str, Any], words: str
) -> None:
    made.append(router := Router(1))
    with pytest.raises(Refused, match=words):
        router.reload(*printing(msgspec.structs.replace(router.config, **change)))
    assert router.story == []
    assert router.settings == []


def test_another_version_of_the_package_is_refused(made: list[Router]) -> None:
    """The children would not agree with this process about the layout of the shared memory."""
    made.append(router := Router(1))
    with pytest.raises(Refused, match=r"Enginehouse 99\.0 is installed now"):
        router.reload(*printing(router.config, version="99.0"))
    assert router.story == []


def test_settings_that_cannot_be_read_are_refused_with_what_was_said_about_them(made: list[Router]) -> None:
    made.append(router := Router(1))
    with pytest.raises(Refused, match=r"house\.toml: unknown key"):
        router.reload(sys.executable, "-c", "import sys; sys.exit('house.toml: unknown key')")
    assert router.story == []


def test_a_control_that_dies_before_it_serves_leaves_the_old_one_and_the_old_settings(made: list[Router]) -> None:
    made.append(router := Router(1, control=DIES))
    before = router.config
    with pytest.raises(Refused, match="control 3 ended before it served; the old one goes on"):
        router.reload(*printing(msgspec.structs.replace(before, max_errors=7)))
    assert router.control.name == "control 1"
    assert router.control.wanted
    assert router.config == router.settings[-1] == before
    assert "worker 3 starts" not in router.story


def test_a_worker_that_does_not_come_to_serve_is_ended_and_the_old_one_goes_on(
    made: list[Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "READY_DEADLINE", 1.0)
    made.append(router := Router(1, worker=NEVER))
    with pytest.raises(Refused, match="the new worker 4 got no fleet from control within 1 s"):
        router.reload()
    assert router.workers[0].name == "worker 2"
    assert router.workers[0].wanted
    assert "worker 4 is told SIGKILL" in router.story


def test_where_no_row_of_the_memory_is_free_it_is_waited_for_and_then_refused(
    made: list[Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "READY_DEADLINE", 1.0)
    made.append(router := Router(1))
    router.rooms = 0
    with pytest.raises(Refused, match="still finish requests"):
        router.reload()
    assert router.workers[0].wanted


def test_a_reload_that_is_given_up_ends_what_it_had_started(made: list[Router]) -> None:
    """The router is told to stop in the middle of it."""
    made.append(router := Router(1, control=NEVER))
    going = reload.steps(router, ())
    next(going)
    assert router.story == ["control 3 starts"]
    going.close()
    assert router.story[1:] == ["control 3 is told SIGKILL"]
    assert router.control.name == "control 1"
