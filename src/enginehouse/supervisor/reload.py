"""A reload: settings read again, control and workers replaced one by one, while requests go on.

Owns the order of it and what ends it. It is written as a generator: each `yield` is a moment in which the supervisor
does everything else it has to do. May not live here: starting and ending processes (`keeper`), the sockets (`router`).

Nobody is told to go before his successor has said that it serves. What goes wrong therefore costs nothing: the new
process is ended, the old ones stay, and whoever asked is told why (`Refused`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Protocol

import msgspec

from enginehouse import __version__
from enginehouse.core.config.router import RouterConfig
from enginehouse.supervisor.keeper import Child

#: The settings must have been read by then. Seconds.
READ_DEADLINE: Final = 30.0
#: A new worker has its fleet and accepts by then; a new control, too, knows its services, if two looks at one (each may
#: take `health_timeout`) come on top of it. Seconds.
READY_DEADLINE: Final = 15.0
#: By then a control that is told to go is gone, and a worker takes no new connections, unless it is frozen. Seconds.
CLOSE_DEADLINE: Final = 5.0
#: What cannot be changed while others use it: the sockets belong to the workers before and after.
FIXED: Final = ("host", "port", "workers")

Steps = Generator[None, None, None]


class Refused(Exception):
    """The reload does not take place, or not to its end. The message says why, and what to do."""


class Router(Protocol):
    """What a reload works on."""

    config: RouterConfig
    control: Child
    workers: list[Child]

    def new_control(self) -> Child:
        """A control that is not started yet."""

    def new_worker(self, position: int) -> Child | None:
        """A worker for the listener at this position, not started yet; None while there is no room for its row."""

    def use(self, config: RouterConfig, settings: bytes) -> None:
        """Children that are made from now on get these settings."""

    def start(self, child: Child) -> None:
        """Start it, and keep it alive from then on."""

    def let_go(self, child: Child, number: signal.Signals) -> None:
        """Have it end, told by this signal, never to be started again."""

    def accepts(self, worker: Child) -> bool:
        """Does this worker take new connections?"""

    def tell(self, text: str) -> None:
        """A line for people."""


def steps(router: Router, reread: Sequence[str]) -> Steps:
    """All of it. `reread`: the command that prints the settings, empty for those that are. Raises `Refused`."""
    before = router.config, msgspec.json.encode(router.config)
    if reread:
        settings = yield from _read(reread)
        config = _fitting(before[0], settings)
        router.use(config, msgspec.json.encode(config))
        router.tell("the settings were read again")
    try:
        yield from _replace_control(router)
    except Refused:
        router.use(*before)
        raise
    for position in range(len(router.workers)):
        yield from _replace_worker(router, position)


def _read(command: Sequence[str]) -> Generator[None, None, bytes]:
    """What the command prints. A process of its own: whatever happens there, the supervisor lives."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        try:
            deadline = time.monotonic() + READ_DEADLINE
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise Refused(f"reading the settings took more than {READ_DEADLINE:g} s")
                yield
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            errors.seek(0)
            raise Refused(errors.read().decode(errors="replace").strip() or "the settings cannot be read")
        output.seek(0)
        return output.read()


def _fitting(running: RouterConfig, printed: bytes) -> RouterConfig:
    """The settings, if this router can go on with them."""
    told: dict[str, Any] = json.loads(printed)
    if told["version"] != __version__:
        raise Refused(
            f"Enginehouse {told['version']} is installed now, and this router was started as {__version__}:"
            " restart it to change versions"
        )
    config = msgspec.convert(told["settings"], RouterConfig)
    for name in FIXED:
        old, new = getattr(running, name), getattr(config, name)
        if old != new:
            raise Refused(f"`{name}` was {old} and is {new} now: a reload cannot change it, restart the router")
    return config


def _replace_control(router: Router) -> Steps:
    old, new = router.control, router.new_control()
    why_not = "does not hear from its registry"
    yield from _until_ready(router, new, why_not, READY_DEADLINE + 2 * router.config.health_timeout)
    router.control = new
    router.let_go(old, signal.SIGTERM)
    yield from _wait_while(lambda: old.alive)
    old.signal(signal.SIGKILL)
    router.tell("control was replaced")


def _replace_worker(router: Router, position: int) -> Steps:
    deadline = time.monotonic() + READY_DEADLINE
    while (new := router.new_worker(position)) is None:
        if time.monotonic() > deadline:
            raise Refused("too many workers still finish requests from before earlier reloads: try again later")
        yield
    yield from _until_ready(router, new, "got no fleet from control", READY_DEADLINE)
    old, router.workers[position] = router.workers[position], new
    router.let_go(old, signal.SIGHUP)
    yield from _wait_while(lambda: router.accepts(old))
    router.tell(f"{new.name} serves in place of {old.name}")


def _wait_while(goes_on: Callable[[], bool]) -> Steps:
    deadline = time.monotonic() + CLOSE_DEADLINE
    while goes_on() and time.monotonic() < deadline:
        yield


def _until_ready(router: Router, new: Child, why_not: str, seconds: float) -> Steps:
    """Start it, and wait for its word for so long. It is ended where that does not come."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    new.descriptors["ready"] = writing
    new.wanted = False  # it is not started again before it has served
    router.start(new)
    del new.descriptors["ready"]  # a later start, after a crash, owes no word to anybody
    os.close(writing)
    try:
        deadline = time.monotonic() + seconds
        while (word := _word(reading)) is None:
            if time.monotonic() > deadline:
                raise Refused(f"the new {new.name} {why_not} within {seconds:g} s; the old one goes on")
            yield
        if not word:
            raise Refused(f"the new {new.name} ended before it served; the old one goes on")
        new.wanted = True
    except BaseException:
        router.let_go(new, signal.SIGKILL)
        raise
    finally:
        os.close(reading)


def _word(reading: int) -> bytes | None:
    """What the other end wrote, b"" where it is gone, None while it has not."""
    try:
        return os.read(reading, 1)
    except BlockingIOError:
        return None
