"""Writing one answer: head, framing, body, end.

Owns how an answer becomes bytes when nothing goes wrong. May not live here: what the answer says, faults (`faulty`).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from http import HTTPStatus
from typing import Protocol

from enginehouse.sim.request import Request
from enginehouse.sim.state import Sim

JSON = b"application/json"
SSE = b"text/event-stream; charset=utf-8"
STATUS_LINES = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode() for each in HTTPStatus}
BODILESS = (204, 304)


class Framing(IntEnum):
    """How the reader knows where the body ends."""

    LENGTH = 0
    CHUNKED = 1
    CLOSE = 2


class Line(Protocol):
    """What an answer needs of its connection."""

    sim: Sim

    def send(self, data: bytes) -> None:
        """Write bytes."""

    def answered(self, answer: Answer, close: bool) -> None:
        """The answer is complete; the next request may come, or the connection ends."""

    def half_close(self) -> None:
        """Send no more; what the client sends is still read."""

    def abort(self) -> None:
        """End the connection with a TCP reset."""


class Answer:
    """One answer. `cancel`, `pause` and `resume` are set by whoever produces its body piece by piece."""

    def __init__(self, line: Line, request: Request) -> None:
        self.line = line
        self.request = request
        self.framing = Framing.LENGTH
        self.started = False
        self.done = False
        self.blocked = False
        self.close_after = not request.keep_alive
        self.cancel: Callable[[], None] = _nothing
        self.pause: Callable[[], None] = _nothing
        self.resume: Callable[[], None] = _nothing

    def whole(self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """The complete answer at once."""
        if self.done:
            return
        head = self._head(status, content_type, len(body), extra)
        self._send(head if self._bodiless(status) else head + body)
        self._finish()

    def begin(self, status: int, content_type: bytes, length: int | None = None, extra: bytes = b"") -> None:
        """The head; `length` None: chunked, or until close for a client that only speaks HTTP/1.0."""
        if not self.done:
            self._send(self._head(status, content_type, length, extra))

    def chunk(self, data: bytes) -> None:
        """A piece of the body."""
        if self.done or self.request.method == "HEAD":
            return
        self._send(b"%x\r\n%b\r\n" % (len(data), data) if self.framing is Framing.CHUNKED else data)

    def end(self) -> None:
        """The end of the body."""
        if self.done:
            return
        if self.framing is Framing.CHUNKED and self.request.method != "HEAD":
            self._send(b"0\r\n\r\n")
        self._finish()

    def hold(self) -> None:
        """The reader does not keep up: whoever produces the body waits."""
        self.blocked = True
        self.pause()

    def go_on(self) -> None:
        """The reader has caught up."""
        self.blocked = False
        self.resume()

    def lost(self) -> None:
        """The client has gone."""
        self.done = True
        self.cancel()

    def _head(self, status: int, content_type: bytes, length: int | None, extra: bytes) -> bytes:
        self.started = True
        self.close_after = self.close_after or (status >= 400 and self.line.sim.llama_style)
        if length is not None:
            self.framing = Framing.LENGTH
            framing = b"" if status in BODILESS else b"content-length: %d\r\n" % length
        elif self.request.version == "1.1":
            self.framing = Framing.CHUNKED
            framing = b"transfer-encoding: chunked\r\n"
        else:
            self.framing = Framing.CLOSE
            self.close_after = True
            framing = b""
        return b"%bcontent-type: %b\r\n%b%b%b%b\r\n" % (
            STATUS_LINES[status], content_type, framing, self.line.sim.head, extra, self._connection()
        )  # fmt: skip

    def _connection(self) -> bytes:
        if self.line.sim.llama_style:  # promises to keep the connection, whatever it does afterwards
            return b"keep-alive: timeout=5, max=100\r\n"
        return b"connection: close\r\n" if self.close_after else b""

    def _bodiless(self, status: int) -> bool:
        return self.request.method == "HEAD" or status in BODILESS

    def _send(self, data: bytes) -> None:
        self.line.send(data)

    def _finish(self) -> None:
        self.done = True
        self.line.answered(self, self.close_after)


def _nothing() -> None:
    """Nobody has to be told."""
