"""A worker in the test's own loop, in front of engines that follow a script, byte for byte.

The worker is the real one on a real listening socket; only control is missing (the fleet is handed in). Engines are
real sockets whose every byte the test decides, for what no well-behaved engine would do.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Fleet, Service
from enginehouse.core.shared import SIZE, Shared
from enginehouse.data.worker import Worker

DEADLINE = 20.0

Script = Callable[["Call"], Awaitable[None]]


class Call:
    """One request as a scripted engine received it, and the means to answer it."""

    def __init__(self, engine: Engine, head: bytes, body: bytes, reader: Any, writer: Any, number: int) -> None:
        self.engine = engine
        self.head = head
        self.body = body
        self.reader = reader
        self.writer = writer
        self.number = number
        """0 for the first request on its connection."""

    @property
    def request_line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    def header(self, name: bytes) -> list[bytes]:
        """Values of a header, in order."""
        lines = [line.split(b":", 1) for line in self.head.split(b"\r\n")[1:] if b":" in line]
        return [value.strip() for key, value in lines if key.lower() == name]

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes = b'{"ok":true}', status: bytes = b"200 OK", extra: bytes = b"") -> None:
        """A plain answer with a length."""
        await self.send(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b"
            % (status, extra, len(body), body)
        )

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Until the router has closed this connection."""
        while await self.reader.read(65536):
            pass


class Engine:
    """Listens, parses just enough of each request, and runs the script on it."""

    def __init__(self, name: str, script: Script, models: tuple[str, ...] = ("m",), **service: Any) -> None:
        self.name = name
        self.script = script
        self.models = models
        self.extra = service
        self.calls: list[Call] = []
        self.connections = 0
        self.open_connections = 0
        self.all_closed = asyncio.Event()
        self.errors: list[BaseException] = []
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        self.all_closed.clear()
        self._writers.add(writer)
        try:
            number = 0
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
                call = Call(self, head, body, reader, writer, number)
                self.calls.append(call)
                await self.script(call)
                number += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._writers.discard(writer)
            self.open_connections -= 1
            if not self.open_connections:
                self.all_closed.set()


class Answer:
    """What a client got."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body
        self.status = int(head.split(b" ", 2)[1])

    def header(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return None


class Client:
    """A raw connection to the worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE)

    async def answer(self, method: str = "POST") -> Answer:
        """Read one answer, whatever its framing."""
        head = await self.read_head()
        while head.startswith(b"HTTP/1.1 100"):
            head = await self.read_head()
        found = Answer(head, b"")
        length = found.header("content-length")
        if method == "HEAD" or found.status in (204, 304):
            return found
        if found.header("transfer-encoding") == "chunked":
            body = b""
            while True:
                size = int((await asyncio.wait_for(self.reader.readline(), DEADLINE)).strip() or b"-1", 16)
                if size < 0:
                    raise EOFError(f"cut in the middle of a chunked body: {body!r}")
                chunk = await self.reader.readexactly(size + 2)
                body += chunk[:-2]
                if not size:
                    break
            found.body = body
        elif length is not None:
            found.body = await asyncio.wait_for(self.reader.readexactly(int(length)), DEADLINE)
        else:
            found.body = await asyncio.wait_for(self.reader.read(), DEADLINE)
        return found

    async def closed(self) -> bytes:
        """Until the router closes; what came before."""
        return await asyncio.wait_for(self.reader.read(), DEADLINE)

    def close(self) -> None:
        self.writer.close()


def post(body: bytes = b'{"model":"m"}', path: str = "/v1/chat/completions", extra: bytes = b"") -> bytes:
    """A POST as clients send it."""
    return b"POST %b HTTP/1.1\r\nHost: house\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        extra,
        len(body),
        body,
    )


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that has no event of its own: the inside of the worker, which must not know of tests."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class Rig:
    """The worker, its engines and the clients of one test."""

    def __init__(self, worker: Worker, port: int, shared: Shared, engines: tuple[Engine, ...]) -> None:
        self.worker = worker
        self.engines = engines
        self.port = port
        self.shared = shared
        self._clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 26))
        self._clients.append(client)
        return client

    async def ask(self, request: bytes, method: str = "POST") -> Answer:
        """One request on a connection of its own."""
        client = await self.client()
        await client.send(request)
        return await client.answer(method)

    def load(self) -> int:
        """Everything in flight."""
        return sum(self.shared.loads[self.worker.index])

    def queued(self) -> int:
        """Tokens of prompts that engines still have to compute."""
        return sum(self.shared.queued[self.worker.index])

    def held(self) -> int:
        """Tokens of all prompts in flight."""
        return sum(self.shared.held[self.worker.index])

    async def idle(self) -> None:
        """Until nothing is in flight."""
        await until(lambda: not self.load())

    def close(self) -> None:
        for client in self._clients:
            client.close()


def service_of(engine: Engine, slot: int) -> Service:
    return Service(
        **{
            "name": engine.name,
            "slot": slot,
            "generation": 1,
            "host": "127.0.0.1",
            "addresses": ("127.0.0.1",),
            "port": engine.port,
            "models": engine.models,
            "up": True,
            **engine.extra,
        }
    )


@contextlib.asynccontextmanager
async def rig(*engines: Engine, sweep: float = 0.02, **settings: Any) -> AsyncIterator[Rig]:
    """A worker in front of `engines`; after it nothing is in flight and no engine's script failed."""
    for engine in engines:
        await engine.start()
    try:
        async with _serving(Shared(memoryview(mmap.mmap(-1, SIZE))), 0, engines, sweep, settings) as house:
            yield house
    finally:
        for engine in engines:
            await engine.stop()
    assert not [error for engine in engines for error in engine.errors]


@contextlib.asynccontextmanager
async def beside(house: Rig, index: int = 1, sweep: float = 0.02, **settings: Any) -> AsyncIterator[Rig]:
    """Another worker of the same router: in front of the same engines, with the same shared memory."""
    async with _serving(house.shared, index, house.engines, sweep, settings) as other:
        yield other


@contextlib.asynccontextmanager
async def _serving(
    shared: Shared, index: int, engines: tuple[Engine, ...], sweep: float, settings: dict[str, Any]
) -> AsyncIterator[Rig]:
    worker = Worker(RouterConfig(**settings), shared, index, "/nonexistent/api")
    services = tuple(service_of(engine, slot) for slot, engine in enumerate(engines))
    worker.use_fleet(Fleet(version=1, synced=True, services=services, known_models=("m", "gone")))
    server = await asyncio.get_running_loop().create_server(worker.client, "127.0.0.1", 0)

    async def beat() -> None:
        while True:
            worker.beat()
            await asyncio.sleep(sweep)

    beating = asyncio.create_task(beat())
    house = Rig(worker, server.sockets[0].getsockname()[1], shared, engines)
    try:
        yield house
        house.close()
        await until(lambda: not worker.clients)
        await house.idle()
        assert not any(shared.queued[index])
        assert not any(shared.held[index])
        assert worker.bodies_held == 0
        assert worker.replay_memory.free == worker.config.failover_memory
        assert not worker.room.waiting
    finally:
        house.close()
        server.close()
        beating.cancel()
        worker.pool.close()
        for client in list(worker.clients):
            client.transport.abort()
