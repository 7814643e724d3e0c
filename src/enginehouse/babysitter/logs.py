"""An engine's output: read from the first byte on, written to rotating files, its last lines kept.

Owns the files, the reading thread and the bounded tail. May not live here: our own messages, and what lines mean.

Reading and writing happen in a thread of their own, so that neither a slow disk holds up the event loop nor a busy loop
an engine that prints: an engine whose pipe is full stands still. A full disk loses output, never the engine.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections import deque
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

#: Files kept: the one being written and three older ones.
KEPT = 4
#: Lines kept at hand, over runs; the last of them that belong to the present run are its tail.
KEPT_LINES = 1000
TAIL_LINES = 40
SHOWN_LINE = 400
"""Characters of a line that are shown."""
LONGEST_LINE = 4096
"""Bytes of a line that are kept: more than is shown, so that no secret is cut before it is found."""
#: Shorter values of the environment ("1", "true", "spawn") are no secrets, and replacing them would garble messages.
SECRET_LENGTH = 8
CHUNK = 1 << 16
LINE_ENDS = re.compile(rb"[\r\n]+")


class Output:
    """Where the output of all runs of one engine goes."""

    def __init__(self, path: Path, max_bytes: int, secrets: Iterable[str] = ()) -> None:
        """`path` is the newest file; older ones get `.1` to `.3`. `secrets` are blotted out of all but the files.

        Raises `OSError` where the directory or the file cannot be made.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._max_bytes = max_bytes
        self._secrets = sorted((s for s in secrets if len(s) >= SECRET_LENGTH), key=len, reverse=True)
        self._lines: deque[bytes] = deque(maxlen=KEPT_LINES)
        self._count = 0
        """Lines up to now, those that are not kept any more included: the number of the next one."""
        self._run_began = 0
        """The number of the first line of the present run."""
        self._partial = b""
        self._lock = threading.Lock()
        self._drained: asyncio.Future[None] | None = None
        self._file, self._size = self._open()

    def begin(self, note: str) -> int:
        """Begin a run: the descriptor its output has to go to, to be closed by the caller once it is handed on."""
        reading, writing = os.pipe()
        with self._lock:
            if self._partial:
                self._lines.append(self._partial)
                self._count += 1
                self._partial = b""
        loop = asyncio.get_running_loop()
        drained = self._drained = loop.create_future()
        self._take(f"--- {note}\n".encode())
        with self._lock:
            self._run_began = self._count

        def read_all() -> None:
            while chunk := os.read(reading, CHUNK):
                self._take(chunk)
            os.close(reading)
            try:
                loop.call_soon_threadsafe(drained.set_result, None)
            except RuntimeError:  # the loop is closed: nobody waits any more
                pass

        threading.Thread(target=read_all, name=f"output of {self.path.stem}", daemon=True).start()
        return writing

    async def drained(self, timeout: float) -> None:
        """Wait until all output of the run was read, for at most `timeout` seconds."""
        if self._drained is not None:
            await asyncio.wait([self._drained], timeout=timeout)

    def tail(self) -> list[str]:
        """The last lines of the run, long ones cut, values of the environment blotted out."""
        with self._lock:
            of_run = min(TAIL_LINES, self._count - self._run_began)
            lines = [*self._last(of_run), self._partial]
        return [text for text in self._shown(lines) if text]

    def since(self, number: int, limit: int) -> tuple[list[str], int]:
        """At most `limit` lines from `number` on, of all runs, and the number to go on with. Negative: the last
        `limit`; one that no line has yet was another babysitter's: from the first that is kept."""
        with self._lock:
            oldest = self._count - len(self._lines)
            first = self._count - limit if number < 0 else 0 if number > self._count else number
            first = max(first, oldest)
            lines = self._last(self._count - first)[:limit]
        return self._shown(lines), first + len(lines)

    def _last(self, count: int) -> list[bytes]:
        return list(islice(self._lines, len(self._lines) - min(count, len(self._lines)), None))

    def _shown(self, lines: Iterable[bytes]) -> list[str]:
        texts = [line.decode(errors="replace").rstrip() for line in lines]
        for secret in self._secrets:
            texts = [text.replace(secret, "***") for text in texts]
        return [text[:SHOWN_LINE] for text in texts]

    def close(self) -> None:
        """Close the file. Call when the last run is drained."""
        os.close(self._file)

    def _take(self, data: bytes) -> None:
        with self._lock:
            self._write(data)
            *lines, rest = LINE_ENDS.split(self._partial + data)
            self._lines.extend(line[:LONGEST_LINE] for line in lines)
            self._count += len(lines)
            self._partial = rest[:LONGEST_LINE]

    def _write(self, data: bytes) -> None:
        try:
            if self._size and self._size + len(data) > self._max_bytes:
                self._rotate()
            while data:
                written = os.write(self._file, data)
                self._size += written
                data = data[written:]
        except OSError:
            pass  # the disk is full or gone: this piece is lost, the next one is tried again

    def _rotate(self) -> None:
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{number}") for number in range(1, KEPT))]
        for newer, older in zip(names[-2::-1], names[:0:-1], strict=True):
            if newer.exists():
                newer.replace(older)
        full = self._file
        self._file, self._size = self._open()
        os.close(full)

    def _open(self) -> tuple[int, int]:
        """The newest file, for its owner only: engines print prompts."""
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return file, os.fstat(file).st_size
