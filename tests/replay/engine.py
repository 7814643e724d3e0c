"""An engine that answers as a test has it: real sockets, raw bytes.

Owns `Scripted`. May not live here: what is asserted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import msgspec

Manners = Callable[["Asked", asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n%b\r\n"
WHOLE = b"HTTP/1.1 %d Some\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n%b"


class Asked:
    """A request that came: `number` on its connection, which is the `connection`th."""

    def __init__(self, head: bytes, body: bytes, connection: int, number: int) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.body: dict[str, Any] = msgspec.json.decode(body)
        self.connection = connection
        self.number = number


class Scripted:
    """Listens, and answers each request as `manners` do."""

    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self.asked: list[Asked] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._serving[task] = writer
        self.connections += 1
        connection, number = self.connections, 0
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                number += 1
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                asked = Asked(head[:-4], await reader.readexactly(length), connection, number)
                self.asked.append(asked)
                self.open += 1
                try:
                    await self.manners(asked, writer)
                    await writer.drain()
                finally:
                    self.open -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._serving.pop(task, None)

    async def stop(self) -> None:
        """Close every connection; answers that wait for something have to be let go before."""
        for writer in self._serving.values():
            writer.close()
        if self._serving:
            await asyncio.wait([*self._serving])


@contextlib.asynccontextmanager
async def scripted(manners: Manners, tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    """A scripted engine that listens while the test runs."""
    engine = Scripted(manners)
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0, limit=1 << 24, ssl=tls)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        server.close()
        await engine.stop()
        await server.wait_closed()


def event(data: object) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def delta(text: str | None, **more: Any) -> bytes:
    """An event of a chat that brings text."""
    return event({"choices": [{"index": 0, "delta": {"content": text, **more}, "finish_reason": None}]})


def usage(prompt: int, completion: int, cached: int | None = None) -> bytes:
    told: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    if cached is not None:
        told["prompt_tokens_details"] = {"cached_tokens": cached}
    return event({"choices": [], "usage": told})


DONE = b"data: [DONE]\n\n"


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def answer(words: Sequence[str], extra: bytes = b"", prompt: int = 10, cached: int | None = None) -> bytes:
    """A whole streamed answer: the role first, a word in each event, the counts, the end."""
    told = [delta("", role="assistant"), *map(delta, words), usage(prompt, len(words), cached), DONE]
    return HEAD % extra + chunks(*told) + b"0\r\n\r\n"


def refusal(status: int, code: str, extra: bytes = b"") -> bytes:
    body = msgspec.json.encode({"error": {"message": "no", "type": "some_error", "param": None, "code": code}})
    return WHOLE % (status, len(body), extra, body)
