"""The door: who asks is told everything from the next beginning to its end; who only stands there disturbs nobody."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enginehouse.supervisor.door import DIRECTORY, MAX_VISITORS, RELOAD, Door, ask, doors
from enginehouse.supervisor.signals import Waiter

PORT = 4711


class Scene:
    """A door, who has knocked, and the loop that attends to it."""

    def __init__(self) -> None:
        self.asked = 0
        self.waiter = Waiter()
        self.folder = tempfile.TemporaryDirectory(prefix=DIRECTORY)
        self.door = Door(self.folder.name, PORT, self.waiter, self._asked)
        self.path = Path(self.folder.name) / f"door-{PORT}"

    def _asked(self) -> None:
        self.asked += 1

    def attend(self, times: int = 1) -> None:
        """Until so many have asked, all together."""
        for _ in range(500):
            if self.asked >= times:
                return
            self.waiter.wait(0.02)
        raise AssertionError(f"{self.asked} asked")

    def close(self) -> None:
        self.door.close()
        self.waiter.close()
        self.folder.cleanup()


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


class Asker:
    """The command line's side, in a thread of its own: what it heard when it is over."""

    def __init__(self, path: Path) -> None:
        self.heard: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._ask, args=(path,))
        self._thread.start()

    def _ask(self, path: Path) -> None:
        self.heard += ask(path, 20.0)

    def over(self) -> list[dict[str, Any]]:
        self._thread.join(20.0)
        return self.heard


def test_who_asked_hears_everything_from_the_beginning_to_the_end(scene: Scene) -> None:
    assert scene.path in doors(PORT)
    assert scene.path not in doors(PORT + 1)
    one, other = Asker(scene.path), Asker(scene.path)
    scene.attend(2)
    scene.door.begin()
    scene.door.tell("control was replaced")
    scene.door.finish(True)
    assert one.over() == other.over() == [{"said": "control was replaced"}, {"done": True}]


def test_who_asks_while_a_reload_goes_on_hears_of_the_next_one(scene: Scene) -> None:
    first = Asker(scene.path)
    scene.attend()
    scene.door.begin()
    second = Asker(scene.path)
    scene.attend(2)
    scene.door.tell("first")
    scene.door.finish(False)
    scene.door.begin()
    scene.door.tell("second")
    scene.door.finish(True)
    assert first.over() == [{"said": "first"}, {"done": False}]
    assert second.over() == [{"said": "second"}, {"done": True}]


def test_who_says_something_else_or_nothing_or_leaves_changes_nothing(scene: Scene) -> None:
    silent = []
    for words in (b"GET / HTTP/1.1\r\n", b"", b"reload", None):
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.connect(str(scene.path))
        if words is None:
            line.close()
            continue
        line.sendall(words)
        silent.append(line)
    for _ in range(2 * MAX_VISITORS):
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.settimeout(20.0)
        line.connect(str(scene.path))
        silent.append(line)
        scene.waiter.wait(0.02)
    asker = Asker(scene.path)
    scene.attend()
    assert scene.asked == 1
    scene.door.begin()
    scene.door.finish(True)
    assert asker.over() == [{"done": True}]
    for line in silent:
        line.close()


def test_a_listener_that_leaves_is_forgotten(scene: Scene) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(str(scene.path))
        line.sendall(RELOAD)
        scene.attend()
    scene.door.begin()
    scene.door.tell("is anybody there?")
    scene.door.tell("no")
    scene.door.finish(True)


def test_a_door_that_a_killed_router_left_refuses(scene: Scene) -> None:
    with tempfile.TemporaryDirectory(prefix=DIRECTORY) as folder:
        path = Path(folder) / f"door-{PORT}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as gone:
            gone.bind(str(path))
        assert path in doors(PORT)
        with pytest.raises(ConnectionRefusedError):
            next(ask(path, 1.0))
