"""A client that shows every byte: what a simulated engine really sends.

Owns plain sockets and the reading of one answer. May not live here: what is expected of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

WAIT = 20.0  # seconds; no answer here takes one, but a loaded machine may


class Reply(NamedTuple):
    """One answer: header names in lower case, the body without its framing."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)


class Line:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), WAIT)

    async def until(self, end: bytes) -> bytes:
        """Everything up to and including `end`."""
        return await asyncio.wait_for(self.reader.readuntil(end), WAIT)

    async def rest(self) -> bytes:
        """Everything until the engine closes; raises `ConnectionResetError` where it resets."""
        return await asyncio.wait_for(self.reader.read(), WAIT)

    async def nothing_for(self, seconds: float) -> bool:
        """Whether the engine stays silent, and the connection open, for so long."""
        try:
            await asyncio.wait_for(self.reader.read(1), seconds)
        except TimeoutError:
            return True
        return False

    async def reply(self, begin: bytes = b"") -> Reply:
        """One answer, read by its own framing (length, chunks or the end of it all). `begin`: a head already read."""
        head = (begin or await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        status = int(head[0].split()[1])
        if status < 200 or status in (204, 304):
            return Reply(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Reply(status, headers, b"".join([chunk async for chunk in self.chunks()]))
        if "content-length" in headers:
            body = await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), WAIT)
            return Reply(status, headers, body)
        return Reply(status, headers, await self.rest())

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks of a body, each as it was sent; reads the (empty) trailer too."""
        while size := int(await self.until(b"\r\n"), 16):
            data = await asyncio.wait_for(self.reader.readexactly(size + 2), WAIT)
            assert data.endswith(b"\r\n")
            yield data[:-2]
        assert await self.until(b"\r\n") == b"\r\n"

    async def ask(self, *args: Any, **kw: Any) -> Reply:
        """Send `request(…)` and read its answer."""
        await self.send(request(*args, **kw))
        return await self.reply()


@asynccontextmanager
async def line(port: int) -> AsyncIterator[Line]:
    """A connection that is closed in any case."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), WAIT)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def once(port: int, sent: bytes) -> Reply:
    """The answer to one request on a connection of its own."""
    async with line(port) as one:
        await one.send(sent)
        return await one.reply()


async def exchange(port: int, sent: bytes) -> bytes:
    """Everything the engine sends after these bytes, until it closes."""
    async with line(port) as one:
        await one.send(sent)
        return await one.rest()


class _Everything(asyncio.Protocol):
    """Keeps what came before a reset, which a `StreamReader` throws away."""

    def __init__(self) -> None:
        self.got = b""
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def to_the_end(port: int, sent: bytes) -> tuple[bytes, Exception | None]:
    """Everything the engine sends after these bytes, and the error with which the connection ended."""
    transport, protocol = await asyncio.get_running_loop().create_connection(_Everything, "127.0.0.1", port)
    try:
        transport.write(sent)
        error = await asyncio.wait_for(protocol.lost, WAIT)
        return protocol.got, error
    finally:
        transport.abort()


def request(method: str, path: str, body: object = None, *headers: str) -> bytes:
    """A request as bytes. A body that is not bytes becomes JSON."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: sim", *headers]
    if data or method in ("POST", "PUT"):
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


def chat(stream: bool = False, *headers: str, **fields: Any) -> bytes:
    """A chat request as bytes."""
    body = {"model": "sim-model", "messages": [{"role": "user", "content": "hi"}], "stream": stream, **fields}
    return request("POST", "/v1/chat/completions", body, *headers)


def events(body: bytes) -> list[bytes]:
    """The server-sent events of a body."""
    assert body.endswith(b"\n\n")
    return body[:-2].split(b"\n\n")


def text_of(body: bytes) -> str:
    """The text that a streamed chat carries."""
    data = [each.removeprefix(b"data: ") for each in events(body) if each.startswith(b"data: {")]
    return "".join(c["delta"].get("content") or "" for each in data for c in json.loads(each)["choices"])
