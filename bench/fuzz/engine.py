"""Engines that say what a case tells them to, and look closely at what they are asked.

Owns the engines' side of every connection. May not live here: what is right (`asked`), what is said (`case`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

from bench.fuzz import asked
from bench.fuzz.asked import Asked
from bench.fuzz.case import Answer, End, pieces, tag

Report = Callable[[str, str, int], None]
#: Of bytes that are cut: between two writes. Seconds.
PAUSE: Final = 0.002
#: A stalled answer's connection must be ended by the router within this. Seconds.
PATIENCE: Final = 40.0
#: Cases whose attempts are counted.
_MAX_COUNTED: Final = 20_000
_HELLO = b'{"object":"list","data":[{"id":"m","object":"model"},{"id":"org/m","object":"model"}]}'


class Script:
    """What the engines are to say: answers by the number of their case, and how many were given."""

    def __init__(self, report: Report) -> None:
        self.report = report
        """Takes the kind of a finding, what is wrong, and the number of the case (-1: not known)."""
        self.answers: dict[int, tuple[Answer, ...]] = {}
        self.asked = 0
        """Requests that came."""
        self.connections = 0
        self._attempts: dict[int, int] = {}

    def next_for(self, number: int) -> Answer | None:
        """The answer to this attempt of the case; None: the usual one."""
        attempt = self._attempts.get(number, 0)
        if len(self._attempts) > _MAX_COUNTED:
            self._attempts.clear()
        self._attempts[number] = attempt + 1
        answers = self.answers.get(number)
        return answers[attempt % len(answers)] if answers else None

    def attempts(self, number: int) -> int:
        """How often engines were asked in this case."""
        return self._attempts.get(number, 0)


class Engine:
    """Listens on a port of its own. `idle_connections`: those that the router keeps."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._open: set[_Connection] = set()
        self.port = 0

    async def start(self) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: cast("asyncio.BaseProtocol", _Connection(self._script, self._open, self.port)),
            "127.0.0.1",
            0,
            backlog=1000,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._open)

    async def stop(self) -> None:
        """End everything."""
        self._server.close()
        for connection in list(self._open):
            connection.end(End.RESET)


class _Connection:
    """Reads one request after the other; anything that comes before its answer is begun must not be there."""

    def __init__(self, script: Script, open_ones: set[_Connection], port: int) -> None:
        self._script = script
        self._open = open_ones
        self._host = b"127.0.0.1:%d" % port
        self._data = bytearray()
        self._asked: Asked | None = None
        self._due: Answer | None = None
        self._answering: asyncio.Task[None] | None = None
        self._written = 0
        self._tunnel = False
        self._gone = asyncio.Event()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._open.add(self)
        self._script.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)
        self._gone.set()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        """The router's back-pressure: this much is held here."""

    def resume_writing(self) -> None:
        """It reads again."""

    def data_received(self, data: bytes) -> None:
        if self._tunnel:
            return
        self._data += data
        if self._answering is not None:
            if self._asked is not None and len(self._data) > self._asked.length:
                self._interrupted(self._asked)
            return
        if self._asked is None:
            self._read_head()
        if self._asked is not None and self._answering is None:
            self._begin(self._asked)

    def _interrupted(self, found: Asked) -> None:
        """The next request comes while an answer is being written: right if the router has seen that one's end."""
        if not self._written:
            self._wrong(f"more than one request at once: {bytes(self._data[found.length :])[:120]!r}")
        elif self._answering is not None:
            self._answering.cancel()
            self._next()

    def _read_head(self) -> None:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > 200_000:
                self._wrong("a head that does not end")
            return
        self._asked = found = asked.read(bytes(self._data[: end + 4]), self._host)
        del self._data[: end + 4]
        self._script.asked += 1
        self._due = self._script.next_for(found.tag) if found.tag >= 0 else None
        if found.problem:
            self._wrong(found.problem)

    def _wrong(self, text: str) -> None:
        number = self._asked.tag if self._asked is not None else -1
        self._script.report("engine was sent what is wrong", text, number)
        self.end(End.RESET)

    def _begin(self, found: Asked) -> None:
        """Answer if the body is there, or if it is not waited for."""
        answer, whole = self._due, len(self._data) >= found.length
        if len(self._data) > found.length and not found.websocket:
            self._wrong(f"bytes behind the request: {bytes(self._data[found.length :])[:120]!r}")
        elif whole or (answer is not None and answer.early):
            answer = answer or usual(found, bytes(self._data[: found.length]))
            self._tunnel = found.websocket and answer.data.startswith(b"HTTP/1.1 101")
            self._answering = asyncio.get_running_loop().create_task(self._answer(answer))

    async def _answer(self, answer: Answer) -> None:
        self._written = 0
        for piece in pieces(answer.data, answer.cuts):
            if self._gone.is_set():
                return
            self.transport.write(piece)
            self._written += len(piece)
            if answer.cuts:
                await asyncio.sleep(PAUSE)
        if answer.end is End.STALL:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._gone.wait()
            except TimeoutError:
                self._wrong(f"a connection that says nothing was held for {PATIENCE:.0f} s")
            return
        if answer.end is not End.KEEP:
            self.end(answer.end)
        self._next()

    def _next(self) -> None:
        if self._asked is not None:
            del self._data[: self._asked.length]
        self._asked = self._due = self._answering = None
        if self._data and not self._tunnel:
            self.data_received(b"")

    def end(self, how: End) -> None:
        """Close, or reset."""
        if self._gone.is_set():
            return
        if how is End.RESET:
            sock = self.transport.get_extra_info("socket")
            with contextlib.suppress(OSError, ValueError):  # it may be gone
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()


def usual(found: Asked, body: bytes) -> Answer:
    """What an engine says that nobody has told anything: the case's number, streamed if that was asked for."""
    number = tag(found.tag) if found.tag >= 0 else b"-"
    told = b'{"case":"%b","bytes":%d}' % (number, len(body))
    if found.tag < 0 and found.target in asked.PROBED:
        told = _HELLO
    if b'"stream":true' in body:
        event = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"case %b"}}]}\n\n' % number
        events = (event, b"data: [DONE]\n\n")
        text = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"0\r\n\r\n"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        return Answer(head + text)
    told = b"" if found.method == b"HEAD" else told
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(told)
    return Answer(head + told)
