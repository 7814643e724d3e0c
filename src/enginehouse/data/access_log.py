"""The access log of a worker: requests that are over become lines, in batches, and are written by a thread.

Owns: what waits (bounded; what does not fit is dropped and counted), when lines are made and written, opening the file
again after a rotation. May not live here: what a line looks like (`wire.access_line`), how one file takes lines of
several processes (`log_file`).

Neither a slow disk nor a pipe that nobody reads holds up the worker.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from enginehouse.core.config.router import AccessLogFormat
from enginehouse.core.units import KIB, MIB
from enginehouse.data.log_file import STANDARD_OUTPUT, LogFile
from enginehouse.wire.access_line import Entry, JsonLines, Lines, TextLines

#: The thread is woken for this many bytes, or when it was not for `PERIOD` seconds: a switch of threads costs as much
#: as a hundred lines.
WAKE: Final = 512 * KIB
PERIOD: Final = 0.2
#: Most that is handed to one write, unless one batch is larger.
LARGEST_WRITE: Final = MIB
#: Seconds after which a write that failed is tried again; for as long a pipe that is full is waited for at a time.
RETRY: Final = 0.5
#: Seconds that `close` waits for what has not been written.
CLOSE: Final = 1.0


def say(text: str) -> None:
    """A line for whoever looks at the worker."""
    sys.stderr.write(f"router worker: {text}\n")
    sys.stderr.flush()


class AccessLog:
    """`path`: a file, "-" for the standard output, "" for no log. Nothing is opened before there is a line to write.

    `capacity`: bytes of lines that may wait to be written. `offset`: seconds from monotonic to Unix time, asked at each
    batch, since the wall clock may be set. `tell`: takes messages for people.
    All methods are for the thread of the event loop, and none of them waits, except for `close`.
    """

    def __init__(
        self,
        path: str,
        form: AccessLogFormat = "auto",
        capacity: int = 8 * MIB,
        *,
        offset: Callable[[], float] = lambda: time.time() - time.monotonic(),
        tell: Callable[[str], None] = say,
    ) -> None:
        self.is_on = bool(path)
        """False: nothing is to be taken."""
        self._path = path
        self.lost = 0
        """Lines dropped since the start."""
        self._lines: Lines = TextLines() if _for_people(path, form) else JsonLines()
        self._capacity = capacity
        self._offset = offset
        self._tell = tell
        self._dropped = 0
        self._woken = 0.0
        self._silent = 0
        self._thread: threading.Thread | None = None
        # shared with the thread, under `_changed`
        self._changed = threading.Condition()
        self._chunks: deque[bytes] = deque()
        self._unwritten = 0
        self._reopening = False
        self._close_by = 0.0
        # the thread's own
        self._file = LogFile(path)
        self._failing = False

    def take(self, entries: list[Entry], now: float) -> None:
        """Make lines of them and hand them to the thread (see `ended.Taker`)."""
        lines, count = b"", len(entries)
        if count:
            lines = self._lines.encode(entries, self._offset())
        if self._dropped:
            lines = self._lines.dropped(self._dropped, now + self._offset()) + lines
        if not lines and not self._unwritten:
            return
        with self._changed:
            if self._unwritten + len(lines) > self._capacity:
                self._dropped += count
                self.lost += count
            elif lines:
                self._chunks.append(lines)
                self._unwritten += len(lines)
                self._silent += len(lines)
                self._dropped = 0
            if self._silent >= WAKE or now - self._woken >= PERIOD:
                self._silent, self._woken = 0, now
                self._wake()

    def reopen(self) -> None:
        """The file was moved away: make a new one at its path. Lines that wait go into the new one."""
        with self._changed:
            self._reopening = True
            if self._thread is not None:  # else nothing is open
                self._wake()

    def close(self, timeout: float = CLOSE) -> None:
        """Write what waits, for at most `timeout` seconds; nothing may be taken any more. Blocks."""
        now = time.monotonic()
        self.take([], now)
        if self._thread is None and not self._unwritten:
            return
        with self._changed:
            self._close_by = now + timeout
            thread = self._wake()
        thread.join(timeout + RETRY)
        if self._unwritten or self._dropped:
            lost = f"{self._unwritten} bytes of lines, and {self._dropped} more lines,"
            self._tell(f"access log {self._path}: {lost} could not be written before the end")

    def _wake(self) -> threading.Thread:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
            self._thread.start()
        self._changed.notify()
        return self._thread

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Write until closed, and until everything is written or the time for that is over."""
        while (lines := self._next()) is not None:
            self._reopen_if_asked()
            done = 0
            while done < len(lines) and not self._is_late():
                done = self._write(lines, done)
            with self._changed:
                self._unwritten -= done
        self._file.close()

    def _next(self) -> bytes | None:
        """Lines, b"" if only the file is to be opened again, None at the end. Waits for any of them."""
        with self._changed:
            while not (self._chunks or self._reopening or self._close_by):
                self._changed.wait()
            if self._is_late() or (self._close_by and not self._chunks):
                return None
            size = 0
            taken: list[bytes] = []
            while self._chunks and (not taken or size + len(self._chunks[0]) <= LARGEST_WRITE):
                taken.append(self._chunks.popleft())
                size += len(taken[-1])
            return b"".join(taken)

    def _write(self, lines: bytes, start: int) -> int:
        """Write some of `lines` from `start` on; returns where to go on. An error is told once and waited out."""
        try:
            self._reopen_if_asked()
            if not self._file.is_open:
                self._file.open()
            done = self._file.write(lines, start, self._patience())
        except OSError as error:
            if not self._failing:
                self._failing = True
                self._tell(f"access log {self._path}: {error.strerror}; lines wait, and are dropped when they are many")
            with self._changed:
                self._changed.wait(self._patience())
            return start
        if self._failing and done > start:
            self._failing = False
            self._tell(f"access log {self._path} is written again")
        return done

    def _reopen_if_asked(self) -> None:
        """Where that fails, better the old file than none."""
        if not self._reopening:
            return
        self._reopening = False
        if self._file.is_open:
            try:
                self._file.open()
            except OSError as error:
                self._tell(f"access log {self._path} cannot be opened again: {error.strerror}; the old file is kept")

    def _is_late(self) -> bool:
        return bool(self._close_by) and time.monotonic() >= self._close_by

    def _patience(self) -> float:
        """Seconds to wait at most: closing has a deadline."""
        return max(0.0, min(RETRY, self._close_by - time.monotonic())) if self._close_by else RETRY


def _for_people(path: str, form: AccessLogFormat) -> bool:
    return form == "text" or (form == "auto" and path == STANDARD_OUTPUT and os.isatty(1))
