"""`enginehouse` commands as real processes: run to their end, or read line by line while they run.

Owns starting, reading with deadlines and ending them, and finding every process that descends from one. May not live
here: what is asserted.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import psutil

DEADLINE = 60.0  # seconds; for what takes one on an idle machine
COMMAND = (sys.executable, "-m", "enginehouse.cli.main")
MARK = "ENGINEHOUSE_CLI_MARK"


def run(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE,
        check=False,
    )


def run_on_terminal(*arguments: str, columns: int = 160, **environment: str) -> tuple[int, str]:
    """A command whose standard output is a terminal: its exit status and everything it wrote there."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **environment}
    process = subprocess.Popen([*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # how Linux says that the other end is closed
        while chunk := os.read(ours, 65536):
            seen += chunk
    os.close(ours)
    return process.wait(DEADLINE), seen.decode()


class Running:
    """A command that runs until it is told to stop. Its descendants are found by a mark in their environment."""

    def __init__(self, *arguments: str, cwd: Path, **environment: str) -> None:
        self._mark = uuid.uuid4().hex
        self.log = cwd / f"stderr-{self._mark[:8]}"
        self.lines: list[str] = []
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=cwd,
                env={**os.environ, **environment, MARK: self._mark},
                start_new_session=True,
            )

    def line(self) -> str:
        """The next line of its standard output."""
        assert self.process.stdout is not None
        deadline, read = time.monotonic() + DEADLINE, b""
        while not read.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self.process.stdout.fileno(), 1) if ready else b""
            assert piece, f"no further line after {self.lines}; standard error:\n{self.log.read_text()}"
            read += piece
        self.lines.append(read.decode().rstrip("\n"))
        return self.lines[-1]

    def says(self, words: str) -> str:
        """The next line that has these words in it."""
        while words not in self.line():
            pass
        return self.lines[-1]

    def interrupt(self) -> None:
        """As Ctrl-C does it: SIGINT to the foreground process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self) -> int:
        """Its exit status."""
        return self.process.wait(DEADLINE)

    def descendants(self) -> list[psutil.Process]:
        """Every living process that it started, however far removed, and itself."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def close(self) -> None:
        """End it, whatever its state; nothing of it may remain."""
        if self.process.poll() is None:
            self.interrupt()
        try:
            self.ended()
            until("the end of all its processes", lambda: not self.descendants())
        finally:
            for process in self.descendants():
                process.kill()
            self.process.wait(DEADLINE)
            if self.process.stdout:
                self.process.stdout.close()


def until(what: str, true: Callable[[], object]) -> None:
    """Wait for something, with a deadline."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)
