"""Where log lines go: a file, a pipe, a terminal, the standard output; several processes may write to the same one.

Owns the descriptor: opening it (again), and writing so that lines of different processes do not mix. May not live here:
when lines are written and what happens to those that cannot be (`access_log`). Used by one thread, which may block.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from typing import Final

#: Owner and group may read it: paths, models and clients' addresses are nobody else's business.
MODE: Final = 0o640
#: This path is the standard output.
STANDARD_OUTPUT: Final = "-"


class LogFile:
    """`path` is not opened before `open`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        self._regular = False

    @property
    def is_open(self) -> bool:
        """Whether there is something to write to."""
        return self._descriptor >= 0

    def open(self) -> None:
        """Open what is at the path now, and let go of what was open. Raises `OSError`; then all is as before."""
        descriptor = 1 if self._path == STANDARD_OUTPUT else open_log(self._path)
        self.close()
        self._descriptor = descriptor
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)

    def write(self, lines: bytes, start: int, timeout: float) -> int:
        """Write some of `lines` from `start` on; returns where to go on, which is `start` after `timeout` seconds.

        To a regular file all of it in one call, which nobody comes between (O_APPEND). To a pipe as many whole lines as
        are taken at once or not at all (PIPE_BUF). Raises `OSError`.
        """
        if self._regular:
            end = start + os.write(self._descriptor, memoryview(lines)[start:])
            return end if end == len(lines) else self._cut_fragment(lines, start, end)
        if not self._is_ready(timeout):
            return start
        end = lines.rfind(b"\n", start, start + select.PIPE_BUF) + 1 or lines.index(b"\n", start) + 1
        try:
            return start + os.write(self._descriptor, lines[start:end])
        except BlockingIOError:
            return start

    def _is_ready(self, timeout: float) -> bool:
        """Whether a write of PIPE_BUF bytes will not block (a reader that is gone counts: the write then fails)."""
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLOUT)
        return bool(waiting.poll(timeout * 1000))

    def _cut_fragment(self, lines: bytes, start: int, end: int) -> int:
        """The disk filled up within a line: take its fragment back, unless somebody has written behind it.

        The whole line is written again later, wherever that may be by then. Returns where it begins.
        """
        whole = lines.rfind(b"\n", start, end) + 1 or start
        with contextlib.suppress(OSError):
            size = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            if os.fstat(self._descriptor).st_size == size:
                os.ftruncate(self._descriptor, size - (end - whole))
                os.lseek(self._descriptor, size - (end - whole), os.SEEK_SET)  # a shell's `>` does not append
        return whole

    def close(self) -> None:
        """Let go of it. The standard output stays open for others."""
        if self._descriptor > 1:
            os.close(self._descriptor)
        self._descriptor = -1


def open_log(path: str) -> int:
    """A descriptor that appends to the file at `path`, made if there is none. Raises `OSError`.

    Never waits: a named pipe that nobody reads is an error (ENXIO).
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    return os.open(path, flags, MODE)
