"""One request over one connection, and exactly what came back: every byte of the framing is checked.

Owns `Line` (a connection), `Got` (what a client saw, and how it ended) and `fetch`. May not live here: whether what
came is right (`verdict`), when requests are sent (`load`). Written anew instead of using a library: a lab needs to know
the difference between an answer that is whole, one that was cut and one that only looks whole.
"""

from __future__ import annotations

import asyncio
import enum
import time
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

#: Longest head, and longest line that announces a chunk. Bytes.
MAX_HEAD = 256 * 1024
MAX_LINE = 1024
#: Seconds until a connection must have been made.
CONNECT = 10.0


@enum.unique
class End(enum.Enum):
    """How it ended for the client."""

    WHOLE = "whole"
    """The framing says that this is all."""
    CUT = "cut off"
    """The connection ended, or was reset, before the framing did."""
    MALFORMED = "not HTTP"
    """The framing itself is wrong."""
    SILENT = "not answered in time"
    """The client's patience ended first."""
    CLOSED = "closed without an answer"
    """Not one byte came, then the connection ended."""
    UNREACHABLE = "no connection"
    """No connection could be made."""


@dataclass(slots=True)
class Got:
    """What a client saw. Times in monotonic seconds."""

    began: float
    reused: bool = False
    """The connection had carried a request before."""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""
    """Without its framing, as far as it came."""
    end: End = End.SILENT
    detail: str = ""
    wait: float = 0.0
    """The longest time without a byte, from the request on."""
    first: float = 0.0
    """The time to the first byte; to the end where none came."""
    ended: float = 0.0


class Malformed(Exception):
    """What came is no HTTP/1.1 answer."""


class Gone(Exception):
    """The connection has ended."""


class Line(asyncio.Protocol):
    """One connection; requests go over it one after another. What came before a reset is read before it is noticed."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._over = ""
        self._waiter: asyncio.Future[None] | None = None
        self._requests = 0
        self._keep = True
        self._got = Got(0.0)
        self._heard_at = 0.0
        self._any = False

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._heard()
        self._any = True
        self._buffer += data
        self._wake()

    def eof_received(self) -> None:
        self._over = self._over or "closed"
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = self._over or (type(exc).__name__ if exc else "closed")
        self._wake()

    def _heard(self) -> None:
        got, now = self._got, time.monotonic()
        got.wait, self._heard_at = max(got.wait, now - self._heard_at), now
        if not self._any:
            got.first = now - got.began

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    # asking

    @property
    def usable(self) -> bool:
        """Whether another request may follow: not where the other side closed it, or sent what nobody asked for."""
        return self._keep and not self._over and not self._buffer

    def close(self) -> None:
        """Let it go."""
        self._keep = False
        if self._transport:
            self._transport.close()

    async def exchange(self, data: bytes, patience: float) -> Got:
        """Send a request and read its answer to the end, whatever end that is. Raises nothing."""
        got = self._got = Got(time.monotonic(), reused=self._requests > 0)
        self._requests += 1
        self._heard_at, self._any = got.began, False
        try:
            async with asyncio.timeout(patience):
                assert self._transport
                self._transport.write(data)
                await self._answer(got)
            got.end = End.WHOLE
        except TimeoutError:
            got.end = End.SILENT
            self._heard()
        except Gone as gone:
            got.end, got.detail = End.CUT if self._any else End.CLOSED, str(gone)
            self._heard()
        except (Malformed, ValueError) as wrong:
            got.end, got.detail = End.MALFORMED, str(wrong)[:200]
        got.ended = time.monotonic()
        if got.end is not End.WHOLE or not self._keep:
            self.close()
        return got

    async def _answer(self, got: Got) -> None:
        _read_head(await self._until(b"\r\n\r\n", MAX_HEAD), got)
        if got.headers.get("connection", "").lower() == "close":
            self._keep = False
        if "transfer-encoding" in got.headers:
            if got.headers["transfer-encoding"] != "chunked" or "content-length" in got.headers:
                raise Malformed("framed twice, or in a way nobody asked for")
            while piece := await self._chunk():
                got.body += piece
        elif "content-length" in got.headers:
            length = int(got.headers["content-length"])
            while len(got.body) < length:
                await self._more()
                got.body += self._take(min(len(self._buffer), length - len(got.body)))
        else:
            raise Malformed("neither a length nor chunks")

    async def _chunk(self) -> bytes:
        """The next chunk, b"" for the last one."""
        line = (await self._until(b"\r\n", MAX_LINE))[:-2]
        if not line or line.strip(b"0123456789abcdefABCDEF"):
            raise Malformed(f"no size of a chunk: {line[:40]!r}")
        size = int(line, 16) + 2
        while len(self._buffer) < size:
            await self._wait()
        data = self._take(size)
        if not data.endswith(b"\r\n"):
            raise Malformed("a chunk longer than its size")
        return data[:-2]

    async def _until(self, mark: bytes, limit: int) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > limit:
                raise Malformed(f"no {mark!r} within {limit} bytes")
            await self._wait()
        return self._take(at + len(mark))

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _more(self) -> None:
        """Until there is something."""
        if not self._buffer:
            await self._wait()

    async def _wait(self) -> None:
        """Until more has come. Raises `Gone` where nothing more can."""
        if self._over:
            raise Gone(self._over)
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter


def _read_head(head: bytes, got: Got) -> None:
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if version != "HTTP/1.1" or not rest[:3].isdecimal():
        raise Malformed(f"no status line: {first[:60]!r}")
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Malformed(f"no header: {line[:60]!r}")
        got.headers[name.lower()] = value.strip()
    got.status = int(rest[:3])


async def connect(port: int) -> Line:
    """A new connection. Raises `OSError` (TimeoutError is one)."""
    async with asyncio.timeout(CONNECT):
        _, line = await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", port)
    return line


def request(path: str, body: bytes, request_id: str = "") -> bytes:
    """A POST as bytes."""
    own = f"x-request-id: {request_id}\r\n" if request_id else ""
    head = f"POST {path} HTTP/1.1\r\nhost: lab\r\ncontent-type: application/json\r\n{own}content-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def fetch(port: int, path: str, body: bytes | None = None, timeout: float = 2.0) -> tuple[int, Any]:
    """Status and JSON of a GET (a POST where there is a body) on a connection of its own; (0, None) without answer."""
    try:
        line = await connect(port)
    except OSError:
        return 0, None
    data = f"GET {path} HTTP/1.1\r\nhost: lab\r\n\r\n".encode() if body is None else request(path, body)
    got = await line.exchange(data, timeout)
    line.close()
    if got.end is not End.WHOLE:
        return 0, None
    try:
        return got.status, msgspec.json.decode(got.body)
    except msgspec.DecodeError:
        return got.status, None
