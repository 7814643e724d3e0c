"""Children are kept alive: handed their settings, started again with growing delays, stopped in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from enginehouse.supervisor.keeper import FIRST_DELAY, LONGEST_DELAY, STABLE, Child, Keeper, handover, taken


class Sleeper(Child):
    """A child that runs a line of Python instead of one of our roles."""

    def __init__(self, name: str, code: str) -> None:
        super().__init__(name, "none", {})
        self.code = code

    def start(self, now: float) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", self.code])
        self.started = now


SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    deaths: list[tuple[str, int]] = []
    made = Keeper(lambda child, status: deaths.append((child.name, status)))
    made.deaths = deaths  # type: ignore[attr-defined]
    yield made
    for child in made.children:
        if child.process is not None:
            child.process.kill()
            child.process.wait()


def wait_dead(keeper: Keeper, deaths: int) -> None:
    deadline = time.monotonic() + 20
    while len(keeper.deaths) < deaths and time.monotonic() < deadline:  # type: ignore[attr-defined]
        keeper.tick()
        time.sleep(0.005)


def test_settings_are_handed_over_through_a_descriptor_that_many_children_can_read() -> None:
    descriptor = handover(b"secret settings")
    copy = os.dup(descriptor)
    assert taken(descriptor) == taken(copy) == b"secret settings"


def test_a_child_that_dies_is_started_again_at_once(keeper: Keeper) -> None:
    child = Sleeper("a", SLEEP)
    keeper.add(child)
    first = child.process
    child.signal(signal.SIGKILL)
    wait_dead(keeper, 1)
    keeper.tick()
    assert keeper.deaths == [("a", -signal.SIGKILL)]  # type: ignore[attr-defined]
    assert child.alive
    assert child.process is not first


def test_a_child_that_dies_again_and_again_is_started_with_growing_delays_up_to_a_cap() -> None:
    child = Sleeper("a", "raise SystemExit(3)")
    delays = []
    now = 1000.0
    for _ in range(12):
        child.start(now)
        assert child.process is not None
        child.process.wait()
        assert child.reap(now) == 3
        delays.append(round(child.start_at - now, 6))
        now = child.start_at
    assert delays[0] == 0
    assert delays[1] == pytest.approx(FIRST_DELAY)
    assert delays == sorted(delays)
    assert delays[-1] == pytest.approx(LONGEST_DELAY)


def test_a_run_that_was_stable_starts_the_delays_anew() -> None:
    child = Sleeper("a", "pass")
    for now in (0.0, 1.0, 2.0):
        child.start(now)
        assert child.process is not None
        child.process.wait()
        child.reap(now)
    child.start(10.0)
    assert child.process is not None
    child.process.wait()
    child.reap(10.0 + STABLE)
    assert child.start_at == 10.0 + STABLE


def test_stopping_sends_sigterm_waits_and_starts_nothing_again(keeper: Keeper) -> None:
    children: list[Child] = [Sleeper("a", SLEEP), Sleeper("b", SLEEP)]
    for child in children:
        keeper.add(child)
    keeper.stop(children, time.monotonic() + 20, lambda: time.sleep(0.005))
    assert sorted(keeper.deaths) == [("a", -signal.SIGTERM), ("b", -signal.SIGTERM)]  # type: ignore[attr-defined]
    assert not any(child.alive for child in children)


def test_a_child_that_ignores_sigterm_is_killed_at_the_deadline(keeper: Keeper) -> None:
    child = Sleeper("a", STUBBORN)
    child.process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    keeper.children.append(child)
    assert child.process.stdout is not None
    with child.process.stdout as output:
        output.readline()  # it ignores the signal from here on
        keeper.stop([child], time.monotonic() + 0.2, lambda: time.sleep(0.005))
    assert keeper.deaths == [("a", -signal.SIGKILL)]  # type: ignore[attr-defined]
