"""Keeping child processes alive: start, restart with back-off, stop in order.

Owns: `Keeper` and how a child process of ours is started (its settings come through an inherited descriptor, so that
nothing of them is in the process list). May not live here: what the children do, anything outside the standard library.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

#: A child that lived this long starts again at once when it dies. Seconds.
STABLE: Final = 5.0
#: Delay before the second restart in a row, doubled each time up to the longest. Seconds.
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 5.0


def handover(data: bytes) -> int:
    """A descriptor from which any number of children can read `data` (`os.pread`, see `taken`)."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("enginehouse")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.pwrite(descriptor, data, 0)
    return descriptor


def taken(descriptor: int) -> bytes:
    """What `handover` put there, in the child."""
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    return data


def replace(descriptor: int, data: bytes) -> None:
    """What children that start from now on read from a `handover`."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)


class Child:
    """One process that is wanted. `descriptors` and `values` reach it as one JSON argument."""

    def __init__(
        self, name: str, role: str, descriptors: Mapping[str, int], values: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self.role = role
        self.descriptors = dict(descriptors)
        self.values = dict(values or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.wanted = True
        """False: it is on its way out, and nobody starts it again."""
        self.restarts = 0
        self.start_at = 0.0
        self._delay = 0.0

    @property
    def alive(self) -> bool:
        """True while its process runs, as far as was looked."""
        return self.process is not None

    def start(self, now: float) -> None:
        """Spawn it."""
        argument = json.dumps({**self.values, **self.descriptors})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "enginehouse.app", self.role, argument],
            pass_fds=tuple(self.descriptors.values()),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the one who stops us in order, not everybody at once
        )
        self.started = now

    def reap(self, now: float) -> int | None:
        """Its exit status if it has died since the last look, else None. Works out when to start it again."""
        if self.process is None:
            return None
        status = self.process.poll()
        if status is None:
            return None
        self.process = None
        self._delay = 0.0 if now - self.started >= STABLE else min(max(self._delay * 2, FIRST_DELAY), LONGEST_DELAY)
        if self.restarts == 0:
            self._delay = 0.0
        self.restarts += 1
        self.start_at = now + self._delay
        return status

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self.process is not None:
            self.process.send_signal(number)


class Keeper:
    """Children that are wanted alive. `died` is told of each death (name, exit status) before the restart."""

    def __init__(self, died: Callable[[Child, int], None]) -> None:
        self.children: list[Child] = []
        self._died = died

    def add(self, child: Child) -> None:
        """Start a child and keep it alive from now on."""
        self.children.append(child)
        child.start(time.monotonic())

    def let_go(self, child: Child, number: signal.Signals) -> None:
        """It is to end by itself, told by this signal, in its own time; nobody starts it again."""
        child.wanted = False
        child.signal(number)

    def tick(self) -> None:
        """Look for deaths and start again what is due. Called on SIGCHLD and a few times a second."""
        now = time.monotonic()
        for child in tuple(self.children):
            status = child.reap(now)
            if status is not None:
                self._died(child, status)
            if child.alive:
                continue
            if not child.wanted:
                self.children.remove(child)
            elif now >= child.start_at:
                child.start(now)

    def stop(self, children: list[Child], deadline: float, meanwhile: Callable[[], None]) -> None:
        """SIGTERM, wait until all are gone, SIGKILL at the `deadline` (monotonic). `meanwhile` is called in between."""
        for child in children:
            self.let_go(child, signal.SIGTERM)
        while any(child.alive for child in children):
            now = time.monotonic()
            if now >= deadline:
                for child in children:
                    child.signal(signal.SIGKILL)
            meanwhile()
            self.tick()

    @property
    def next_start(self) -> float:
        """When the next restart is due (monotonic seconds), infinity if none is."""
        waiting = [child.start_at for child in self.children if not child.alive and child.wanted]
        return min(waiting, default=float("inf"))
