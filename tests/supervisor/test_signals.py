"""SIGHUP: read the settings again; from a terminal that goes away: end, as every program that was started on one."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEADLINE = 30.0
PROGRAM = """
import fcntl, pathlib, signal, sys, termios
from enginehouse.supervisor.signals import Waiter
if "terminal" in sys.argv:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_IGN if "nohup" in sys.argv else signal.SIG_DFL)  # not as it was inherited
waiter, said = Waiter(), pathlib.Path(sys.argv[1])
said.write_text("waits")
while not (waiter.stop_asked or waiter.reload_asked):
    waiter.wait(1.0)
said.write_text("stop" if waiter.stop_asked else "reload")
waiter.close()
"""


class Scene:
    """The program, on a terminal of its own."""

    def __init__(self, said: Path, *words: str) -> None:
        self._said = said
        self.terminal, theirs = pty.openpty()
        command = [sys.executable, "-c", PROGRAM, str(said), *words]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        os.close(theirs)
        self._until(lambda: said.exists() and said.read_text() == "waits")

    def _until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not true():
            assert time.monotonic() < deadline
            assert self.process.poll() is None
            time.sleep(0.01)

    def outcome(self) -> str:
        """What it took the signal for."""
        assert self.process.wait(DEADLINE) == 0
        return self._said.read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)


@pytest.fixture
def scenes() -> Iterator[list[Scene]]:
    made: list[Scene] = []
    yield made
    for scene in made:
        scene.close()


@pytest.mark.parametrize("words", [(), ("terminal",), ("nohup",)])
def test_a_hangup_that_somebody_sends_asks_for_a_reload(
    scenes: list[Scene], tmp_path: Path, words: tuple[str, ...]
) -> None:
    scenes.append(scene := Scene(tmp_path / "said", *words))
    scene.process.send_signal(signal.SIGHUP)
    assert scene.outcome() == "reload"
    os.close(scene.terminal)


def test_a_terminal_that_goes_away_is_a_stop(scenes: list[Scene], tmp_path: Path) -> None:
    scenes.append(scene := Scene(tmp_path / "said", "terminal"))
    os.close(scene.terminal)
    assert scene.outcome() == "stop"


def test_who_was_started_to_outlive_its_terminal_does(scenes: list[Scene], tmp_path: Path) -> None:
    scenes.append(scene := Scene(tmp_path / "said", "terminal", "nohup"))
    os.close(scene.terminal)
    assert scene.outcome() == "reload"
