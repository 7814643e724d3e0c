"""One connection of the simulated engine.

Owns reading requests with llhttp, their order, back-pressure, and noticing that a client has gone. May not live here:
what is answered (`api`), how an answer is written (`answer`, `faulty`).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import cast

import httptools

from enginehouse.sim import api
from enginehouse.sim.answer import Answer
from enginehouse.sim.faults import Fault, Kind
from enginehouse.sim.faulty import FaultyAnswer
from enginehouse.sim.request import Request
from enginehouse.sim.state import Sim

MAX_HEAD = 256 * 1024
MAX_BODY = 64 * 1024 * 1024
MAX_PIPELINED = 16
WRITE_HIGH = 256 * 1024
"""Bytes a stalled reader may leave unsent before the engine waits for it."""


class Conn(asyncio.Protocol):
    """Reads requests, hands each to `api`, in order."""

    def __init__(self, sim: Sim) -> None:
        self.sim = sim
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, dict[Kind, Fault]]] = deque()
        self._current: Answer | None = None
        self._faults: dict[Kind, Fault] = {}
        self._slow: Fault | None = None
        self._served = 0
        self._last_active = 0.0
        self._idle: asyncio.TimerHandle | None = None
        self.on_message_begin()

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        self.sim.connected(self)
        if self.sim.config.idle_timeout:
            self._check_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.sim.disconnected(self)
        if self._idle:
            self._idle.cancel()
        if answer := self._release():
            self.sim.stats.aborted += not answer.request.control
            answer.lost()

    def data_received(self, data: bytes) -> None:
        self.sim.stats.bytes_received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400)
        if self._slow and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            if self._slow.seconds:
                self.sim.loop.call_later(self._slow.seconds, self._read_on)

    def pause_writing(self) -> None:
        if self._current:
            self._current.hold()

    def resume_writing(self) -> None:
        if self._current:
            self._current.go_on()

    # what the parser calls

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._grow_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        self._grow_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._size = 0
        method = self._parser.get_method().decode()
        request = self._request = Request(method, self._target, self._parser.get_http_version(), self._headers)
        request.reused = self._served > 0
        self._served += 1
        self._headers = []  # trailers come the same way
        if not request.control:
            self.sim.stats.seen(request)
            if self.sim.book.faults:
                self._faults = self.sim.book.meet(request.path, request.reused)
                self._slow = self._faults.get("slow_read")
                if fault := self._faults.get("early_status"):
                    self._refuse(fault.code)
                    return
        if request.header(b"expect").lower() == b"100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_BODY:
            self._refuse(413)
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        request, faults, self._faults, self._slow = self._request, self._faults, {}, None
        request.body = b"".join(self._body)
        request.keep_alive = self._parser.should_keep_alive()
        if self._parser.should_upgrade():
            return
        if self._current:
            self._waiting.append((request, faults))
            if len(self._waiting) >= MAX_PIPELINED:
                self._transport.pause_reading()
        else:
            self._start(request, faults)

    # answering

    def _start(self, request: Request, faults: dict[Kind, Fault]) -> None:
        answer = self._current = FaultyAnswer(self, request, faults) if faults else Answer(self, request)
        if not request.control:
            self.sim.stats.began()
        if silent := faults.get("silent"):
            if silent.seconds:
                self.sim.loop.call_later(silent.seconds, self._answer, answer)
        else:
            self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        if self._current is answer and not (isinstance(answer, FaultyAnswer) and answer.replaced()):
            api.answer(self.sim, answer)

    def send(self, data: bytes) -> None:
        """Write bytes."""
        if self._transport is not None and not self._transport.is_closing():
            self.sim.stats.bytes_sent += len(data)
            self._transport.write(data)

    def answered(self, answer: Answer, close: bool) -> None:
        """The answer is complete: close, or take the next request."""
        if self._current is not answer or self._transport is None:
            return
        self._release()
        if self._idle:
            self._last_active = self.sim.loop.time()
        if close or self.sim.stopping:
            self._transport.close()
        elif self._waiting:
            # Not from here: answers to a long pipeline would nest as deep as it is long.
            self.sim.loop.call_soon(self._next)

    def _next(self) -> None:
        if self._waiting and self._current is None and self._transport is not None:
            self._transport.resume_reading()
            self._start(*self._waiting.popleft())

    def _release(self) -> Answer | None:
        """The answer in progress is in progress no more."""
        answer, self._current = self._current, None
        if answer:
            self.sim.stats.active -= not answer.request.control
        return answer

    def half_close(self) -> None:
        """Send no more. The answer stays in progress, so that no other begins, until the client has gone too."""
        if self._transport is not None:
            self._transport.write_eof()

    def abort(self) -> None:
        """End the connection with a TCP reset."""
        self._release()
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sim.loop.call_soon(self._transport.abort)  # uvloop sends what was written at the end of this turn

    def stop(self) -> None:
        """The engine stops: an idle connection is closed now, a busy one after its answer."""
        if self._current is None and self._transport is not None:
            self._transport.close()

    def _refuse(self, status: int) -> None:
        """An answer to something that is not, or not yet, a request."""
        if self._current:
            self.abort()
        elif self._transport is not None and not self._transport.is_closing():
            self.send(
                b"HTTP/1.1 %d Refused\r\n%bcontent-length: 0\r\nconnection: close\r\n\r\n" % (status, self.sim.head)
            )
            self._transport.close()

    def _upgrade(self, rest: bytes) -> None:
        if self._transport is None or self._current is not None:
            return
        from enginehouse.sim import realtime  # its library is loaded by those who need it

        speaker = None
        problem = api.problem(self.sim, self._request)
        if not problem and self._request.path == "/v1/realtime":
            speaker = realtime.take_over(self.sim, self._transport, self._request, rest)
        if not speaker:
            self._refuse(problem or 400)
            return
        self.sim.handed_over(self, speaker)
        self._transport = None
        if self._idle:
            self._idle.cancel()

    # limits

    def _grow_head(self, size: int) -> None:
        self._size += size
        if self._size > MAX_HEAD:
            self._refuse(431)

    def _read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _check_idle(self) -> None:
        """One timer a connection, armed again only when it fires."""
        if self._transport is None:
            return
        now = self.sim.loop.time()
        left = self.sim.config.idle_timeout - (now - (self._last_active or now))
        if self._current is None and self._last_active and left <= 0:
            self._transport.close()
        else:
            self._last_active = self._last_active or now
            self._idle = self.sim.loop.call_later(max(left, 0.01), self._check_idle)
