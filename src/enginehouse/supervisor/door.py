"""The door of a running router: a Unix socket through which the command line asks for a reload and hears how it went.

Owns `Door` (the supervisor's side), `ask` (the command line's) and where the socket is. May not live here: what is done
when somebody asks (`reload`).

The socket lies in the directory that the supervisor made for itself (`enginehouse-…`, mode 0700, in the directory of
temporary files), named after the router's port. So only its user and root get in, and nothing has to be configured.
What is said are lines of JSON: `{"said": "…"}`, at the end `{"done": true}` or `{"done": false}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from enginehouse.supervisor.signals import Waiter

#: Beginning of the name of a supervisor's directory.
DIRECTORY: Final = "enginehouse-"
RELOAD: Final = b"reload\n"
#: Who asks at once; one more puts the oldest out.
MAX_VISITORS: Final = 8


class Door:
    """Visitors who asked are told everything from the next beginning (`begin`) to its end (`finish`)."""

    def __init__(self, directory: str, port: int, waiter: Waiter, asked: Callable[[], None]) -> None:
        self._waiter = waiter
        self._asked = asked
        self._silent: list[socket.socket] = []
        self._asking: list[socket.socket] = []
        self._listening: list[socket.socket] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.bind(f"{directory}/door-{port}")
        self._socket.listen(MAX_VISITORS)
        waiter.watch(self._socket, self._let_in)

    def begin(self) -> None:
        """Whoever has asked up to now is told of what begins now."""
        self._listening, self._asking = self._listening + self._asking, []

    def tell(self, text: str) -> None:
        """One line for everybody who listens. Who does not read misses it."""
        for visitor in self._listening:
            _send(visitor, {"said": text})

    def finish(self, done: bool) -> None:
        """It is over: well, or not."""
        listening, self._listening = self._listening, []
        for visitor in listening:
            _send(visitor, {"done": done})
            visitor.close()

    def close(self) -> None:
        """Everybody out."""
        self._waiter.forget(self._socket)
        for silent in self._silent:
            self._waiter.forget(silent)
        for visitor in (self._socket, *self._silent, *self._asking, *self._listening):
            visitor.close()

    def _let_in(self) -> None:
        with contextlib.suppress(OSError):
            visitor, _ = self._socket.accept()
            visitor.setblocking(False)
            if len(self._silent) >= MAX_VISITORS:
                self._hear(self._silent[0], last=True)
            self._silent.append(visitor)
            self._waiter.watch(visitor, lambda: self._hear(visitor))

    def _hear(self, visitor: socket.socket, last: bool = False) -> None:
        """He says what he wants in his first bytes, or leaves."""
        self._waiter.forget(visitor)
        self._silent.remove(visitor)
        wanted = b""
        with contextlib.suppress(OSError):
            wanted = b"" if last else visitor.recv(64)
        if wanted == RELOAD and len(self._asking) < MAX_VISITORS:
            self._asking.append(visitor)
            self._asked()
        else:
            visitor.close()


def _send(visitor: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        visitor.send(json.dumps(message).encode() + b"\n")


def doors(port: int) -> list[Path]:
    """Doors of routers on this port that may be those of this user; some may be left over from dead ones."""
    found = sorted(Path(tempfile.gettempdir()).glob(f"{DIRECTORY}*/door-{port}"))
    return [path for path in found if os.geteuid() in (0, path.stat().st_uid)]


def ask(door: Path, timeout: float) -> Iterator[dict[str, Any]]:
    """Ask for a reload and yield what is told. Raises `OSError`: nobody is there, or he is silent for too long."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(timeout)
        line.connect(str(door))
        line.sendall(RELOAD)
        with line.makefile("rb") as told:
            for each in told:
                yield json.loads(each)
