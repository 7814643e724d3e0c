"""Writing one answer that goes wrong.

Owns how each fault that meets a request is acted out on the bytes of its answer. May not live here: which faults there
are (`faults`), faults of the listener (`server`) or of reading (`conn`).
"""

from __future__ import annotations

import asyncio
import gzip
import zlib

from enginehouse.sim.answer import BODILESS, JSON, Answer, Framing, Line
from enginehouse.sim.faults import Fault, Kind
from enginehouse.sim.request import Request

SPOOFED_TRAILERS = b"x-sim-trailer: 1\r\nx-request-id: spoofed\r\nx-enginehouse-service: spoofed\r\n"
ERROR_EVENT = (
    b'data: {"error":{"message":"simulated failure","type":"InternalServerError","param":null,"code":500}}\n\n'
)
BREAKS: tuple[Kind, ...] = ("stall", "reset", "close", "half_close", "end", "truncated_chunk", "error_event")
"""Faults that happen at a chunk, in the order in which they are tried."""


class FaultyAnswer(Answer):
    """An answer with faults. What a stall holds back is kept and sent when the stall is over."""

    def __init__(self, line: Line, request: Request, faults: dict[Kind, Fault]) -> None:
        super().__init__(line, request)
        self.faults = dict(faults)
        self._chunks = 0
        self._held: list[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._queue = b""
        self._ended = False
        self._packer = zlib.compressobj(wbits=31) if "gzip" in faults else None

    def replaced(self) -> bool:
        """Whether a fault has taken the place of the answer, so that nobody has to make one."""
        if fault := self.faults.get("garbage"):
            self._send(fault.data.encode("latin-1", "replace"))
            self._break()
        elif fault := self.faults.get("status"):
            retry = b"retry-after: %d\r\n" % fault.seconds if fault.seconds else b""
            body = b'{"error":{"message":"simulated failure","type":"sim_error","param":null,"code":%d}}' % fault.code
            super().whole(fault.code, body, JSON, retry)
        else:
            self._at_chunk(-1)
        return self.done

    def whole(self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b"") -> None:
        """In two pieces, so that there is a middle in which it can go wrong."""
        if self._packer:
            self._packer, body, extra = None, gzip.compress(body, mtime=0), extra + b"content-encoding: gzip\r\n"
        self.begin(status, content_type, len(body), extra)
        if not self._bodiless(status):
            half = (len(body) + 1) // 2
            self.chunk(body[:half])
            self.chunk(body[half:])
        self.end()

    def begin(self, status: int, content_type: bytes, length: int | None = None, extra: bytes = b"") -> None:
        """The head, after everything that comes before it."""
        if self.done:
            return
        if fault := self.faults.get("informational"):
            self._send(b"HTTP/1.1 %d Simulated\r\nlink: </style.css>; rel=preload\r\n\r\n" % fault.code)
        if fault := self.faults.get("huge_head"):
            extra += b"x-sim-filler: " + b"f" * fault.bytes + b"\r\n"
        if self._packer:
            extra += b"content-encoding: gzip\r\n"
        if "trailers" in self.faults:
            length, extra = None, extra + b"trailer: x-sim-trailer\r\n"
        head = self._head(status, content_type, length, extra)
        if "until_close" in self.faults and status not in BODILESS:
            head = self._without_framing(head)
        if (fault := self.faults.get("wrong_length")) and length is not None:
            head = head.replace(b"content-length: %d\r\n" % length, b"content-length: %d\r\n" % (length + fault.by))
            self.close_after = self.close_after or fault.by > 0
        if fault := self.faults.pop("stall_head", None):
            self._send(head[: len(head) // 2])
            self._stall(fault.seconds)
            head = head[len(head) // 2 :]
        self._send(head)
        self._at_chunk(0)

    def _without_framing(self, head: bytes) -> bytes:
        self.framing, self.close_after = Framing.CLOSE, True
        lines = [line for line in head.split(b"\r\n") if not line.startswith((b"content-length", b"transfer-enc"))]
        return b"\r\n".join([lines[0], b"connection: close", *lines[1:]])

    def chunk(self, data: bytes) -> None:
        """A piece of the body, and whatever happens after it."""
        if self.done:
            return
        fault = self.faults.get("truncated_chunk")
        if fault and fault.after == self._chunks:
            cut = data[: len(data) // 2]
            self._send(b"%x\r\n%b" % (len(data), cut) if self.framing is Framing.CHUNKED else cut)
            self._break()
            return
        self._piece(data)
        self._chunks += 1
        self._at_chunk(self._chunks)

    def _piece(self, data: bytes) -> None:
        super().chunk(self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH) if self._packer else data)

    def end(self) -> None:
        """The end of the body, with trailers where they are asked for."""
        if self.done:
            return
        if self._packer:
            super().chunk(self._packer.flush())
        if "trailers" in self.faults and self.framing is Framing.CHUNKED:
            self._send(b"0\r\n" + SPOOFED_TRAILERS + b"\r\n")
            self._finish()
        else:
            super().end()

    def _at_chunk(self, number: int) -> None:
        """Act out the faults that are due now that `number` chunks are sent (-1: nothing is)."""
        for kind in BREAKS:
            fault = self.faults.get(kind)
            if fault is None or fault.after != number or self.done:
                continue
            if kind == "stall":
                self._stall(self.faults.pop(kind).seconds)
            elif kind == "end":
                self.cancel()
                super().end()
            elif kind == "error_event":
                self.cancel()
                self._piece(ERROR_EVENT)
                super().end()
            elif kind == "half_close":
                self.cancel()
                self.done = True
                self.line.half_close()
            elif kind in ("reset", "close"):
                self._break(reset=kind == "reset")

    def _break(self, reset: bool = False) -> None:
        """The end of the connection in the middle of things."""
        self.cancel()
        self.done = True
        if reset and self._held is None:
            self.line.abort()
        else:
            self.close_after = True
            self._finish()

    def go_on(self) -> None:
        """The reader has caught up; that does not end a stall."""
        if self._held is None:
            super().go_on()

    def lost(self) -> None:
        """The client has gone; nothing is left to wait for."""
        if self._timer:
            self._timer.cancel()
        super().lost()

    def _stall(self, seconds: float) -> None:
        """From now on nothing is sent, until everything is."""
        self._held = []
        self.hold()
        if seconds:
            self._timer = self.line.sim.loop.call_later(seconds, self._release)

    def _release(self) -> None:
        held, self._held = self._held or [], None
        for data in held:
            self._send(data)
        if self._ended:
            self._finish()
        else:
            self.go_on()

    def _send(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        elif "split" in self.faults:
            self._queue += data
            if len(self._queue) == len(data):
                self._drip()
        else:
            super()._send(data)

    def _drip(self) -> None:
        """One piece now, the next one in its own turn of the loop or after the fault's seconds."""
        fault = self.faults["split"]
        super()._send(self._queue[: fault.bytes])
        self._queue = self._queue[fault.bytes :]
        if self._queue:
            self._timer = self.line.sim.loop.call_later(fault.seconds, self._drip)
        elif self._ended:
            super()._finish()

    def _finish(self) -> None:
        """The connection may go on when all is sent, what is held back included."""
        self.done = self._ended = True
        if self._held is None and not self._queue:
            super()._finish()
