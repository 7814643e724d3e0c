"""A terminal as a reader of the pages has it: commands typed into a shell, what they print, Ctrl-C.

Owns the pseudo-terminals. May not live here: what is typed and what is expected.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

DEADLINE = 60.0  # seconds; for what takes some on an idle machine


class Terminal:
    """One command at a time, in a shell of its own. `text`: what it has printed so far."""

    def __init__(self, command: str, cwd: Path, environment: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self._bytes = b""
        typed = cwd / f"typed-{theirs}.sh"  # no argument of the shell: a reader's `pkill -f` would find it there
        typed.write_text(command)
        self._process = subprocess.Popen(
            ["bash", typed],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env=dict(environment),
            start_new_session=True,
        )
        os.close(theirs)

    @property
    def text(self) -> str:
        """Lines without what nobody reads: colours, and blanks at their ends."""
        return re.sub(r"\x1b\[[0-9;]*m| *\r*(?=\n)", "", self._bytes.decode("utf-8", "replace"))

    def until(self, pattern: str, start: int = 0) -> int:
        """Read until the text has this in it, from `start` on. Returns where that ends."""
        wanted, deadline = re.compile(pattern, re.MULTILINE), time.monotonic() + DEADLINE
        while not (found := wanted.search(self.text, start)):
            assert self._read(deadline), f"it never printed {pattern!r}:\n{self.text}"
        return found.end()

    def finish(self) -> None:
        """Read to its end."""
        deadline = time.monotonic() + DEADLINE
        while self._read(deadline):
            pass
        self._process.wait(DEADLINE)

    def interrupt(self) -> None:
        """As Ctrl-C does it: to all of the foreground."""
        os.killpg(self._process.pid, signal.SIGINT)

    def close(self) -> None:
        """End it, however far it has come."""
        if self._process.poll() is None:
            self.interrupt()
            self.finish()
        os.close(self._ours)

    def _read(self, deadline: float) -> bool:
        """Some more. False at the end, and where nothing comes in time."""
        ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
        chunk = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            chunk = os.read(self._ours, 65536) if ready else b""
        self._bytes += chunk
        return chunk != b""
