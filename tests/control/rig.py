"""Router control in the test's own loop, on real Unix sockets, with real engines and a hand-held worker.

Owns starting it, asking its API, and `Wire`, a worker's end of the wire. May not live here: what is tested with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import mmap
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from enginehouse.app import DASHBOARD
from enginehouse.control.run import run
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.config.sim import SimConfig
from enginehouse.core.fleet import Failure, Fleet, Report, Service, ServiceCount, encode_frame, split_frames
from enginehouse.core.shared import SIZE, Shared
from enginehouse.registry.client import FeedUnsupported, RegistryClient
from enginehouse.sim.server import Server, serve

DEADLINE = 20.0


def new_shared() -> Shared:
    return Shared(memoryview(mmap.mmap(-1, SIZE)))


class House:
    """A running control, and what a test asks it. Survives the control that it started: `restart`."""

    def __init__(
        self,
        directory: Path,
        settings: dict[str, Any],
        access: Callable[[str], tuple[str, str]],
        admin_token: str = "",
    ) -> None:
        self.config = RouterConfig(**{"health_interval": 60.0, "registry_sync_interval": 0.2} | settings)
        self.shared = new_shared()
        self.api_path, self.wire_path = directory / "api", directory / "wire"
        self.api, self.wire = _listen(self.api_path), _listen(self.wire_path)
        self.session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.api_path)))
        self._access = access
        self._admin_token = admin_token
        self._task: asyncio.Task[None] | None = None
        self._copies: list[socket.socket] = []

    def start(self) -> None:
        """Start control on the sockets that listen all the time."""
        self._task = self._run()

    def start_successor(self, ready: Callable[[], None]) -> asyncio.Task[None]:
        """Another control beside it, on the same sockets, which serves when it knows everything."""
        return self._run(ready)

    def _run(self, ready: Callable[[], None] | None = None) -> asyncio.Task[None]:
        config, copies = self.config, (self.api.dup(), self.wire.dup())
        self._copies += copies
        return asyncio.create_task(
            run(
                config,
                *copies,
                self.shared,
                lambda session: RegistryClient(config.registry_url, "", session),
                DASHBOARD,
                self._admin_token,
                no_feed=FeedUnsupported,
                access=self._access,
                ready=ready,
            )
        )

    async def end(self) -> None:
        """End it, as the end of its process would."""
        if self._task is not None:
            task, self._task = self._task, None
            if task.done():
                await task  # shows why it ended
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait_for(task, DEADLINE)

    async def close(self) -> None:
        await self.end()
        await self.session.close()
        for listener in (self.api, self.wire, *self._copies):
            listener.close()

    async def get(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """Status and JSON of one request to the API."""
        async with self.session.request(method, f"http://router{path}") as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def service(self, name: str) -> dict[str, Any] | None:
        _, answer = await self.get("/services")
        return next((service for service in answer["services"] if service["name"] == name), None)

    async def healthy(self) -> set[str]:
        """Names of the services that are healthy now."""
        _, answer = await self.get("/services")
        return {service["name"] for service in answer["services"] if service["healthy"]}

    async def names(self) -> set[str]:
        _, answer = await self.get("/services")
        return {service["name"] for service in answer["services"]}

    async def details(self, name: str) -> dict[str, Any]:
        _, answer = await self.get("/stats")
        return dict(answer["details"][name])

    async def rejected(self) -> list[dict[str, Any]]:
        _, answer = await self.get("/services")
        return list(answer["rejected"])

    async def until_healthy(self, *names: str) -> None:
        """Wait until exactly these services are healthy."""

        async def are() -> bool:
            return await self.healthy() == set(names)

        await until(are, f"healthy services {names}")

    @asynccontextmanager
    async def worker(self, index: int = 0, fleet_version: int = 0) -> AsyncIterator[Wire]:
        """A worker that connects and says which fleet it has."""
        wire = await connect(self.wire_path, index)
        try:
            wire.report(fleet_version=fleet_version)
            yield wire
        finally:
            wire.writer.transport.abort()


class Wire:
    """A worker's end of the wire."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, index: int) -> None:
        self.reader = reader
        self.writer = writer
        self.index = index
        self.epoch = 1
        self.fleet: Fleet | None = None
        self._buffer = bytearray()

    async def next(self) -> Fleet:
        """The next fleet."""
        async with asyncio.timeout(DEADLINE):
            while True:
                if frames := split_frames(self._buffer):
                    self.fleet = msgspec.msgpack.decode(frames[-1], type=Fleet)
                    return self.fleet
                data = await self.reader.read(65536)
                assert data, "control closed the wire"
                self._buffer += data

    async def until(self, wanted: Callable[[Fleet], bool]) -> Fleet:
        """The first fleet that is as wanted, the last one included."""
        while self.fleet is None or not wanted(self.fleet):
            await self.next()
        return self.fleet

    async def until_up(self, *names: str) -> Fleet:
        """The first fleet in which exactly these services are up."""
        return await self.until(lambda fleet: {s.name for s in fleet.services if s.up} == set(names))

    async def silent(self, seconds: float) -> bool:
        """Does nothing come for so long?"""
        try:
            async with asyncio.timeout(seconds):
                await self.next()
        except TimeoutError:
            return True
        return False

    def report(
        self,
        counts: tuple[ServiceCount, ...] = (),
        failed: tuple[Service, ...] = (),
        fleet_version: int | None = None,
    ) -> None:
        """Send a report."""
        version = fleet_version if fleet_version is not None else self.fleet.version if self.fleet else 0
        failures = tuple(Failure(s.slot, s.generation, "connect_failed") for s in failed)
        report = Report(worker=self.index, epoch=self.epoch, fleet_version=version, counts=counts, failures=failures)
        self.writer.write(encode_frame(report))


async def connect(path: Path, index: int = 0) -> Wire:
    reader, writer = await asyncio.open_unix_connection(path)
    return Wire(reader, writer, index)


@asynccontextmanager
async def house(
    directory: Path,
    access: Callable[[str], tuple[str, str]] = lambda _: ("", ""),
    admin_token: str = "",
    **settings: Any,
) -> AsyncIterator[House]:
    """A running control."""
    running = House(directory, settings, access, admin_token)
    running.start()
    try:
        yield running
    finally:
        await running.close()


@asynccontextmanager
async def engine(**settings: Any) -> AsyncIterator[Server]:
    """A simulated engine."""
    server = await serve(SimConfig(**settings))
    try:
        yield server
    finally:
        await server.stop()


class Scripted:
    """An engine of which the test decides what each path answers, and which notes what it was asked."""

    def __init__(self, **answers: tuple[int, Any]) -> None:
        self.answers: dict[str, tuple[int, Any]] = {"/" + path: answer for path, answer in answers.items()}
        self.asked: list[str] = []
        self.requests: list[web.BaseRequest] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections = web.Server(self.handle)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        self.requests.append(request)
        status, body = self.answers.get(request.path, (404, {"error": "no such path"}))
        if status in (301, 302, 307, 308):
            response = web.Response(status=status, headers={"Location": str(body)})
        elif isinstance(body, bytes):
            response = web.Response(status=status, body=body)
        else:
            response = web.json_response(body, status=status)
        response.force_close()  # so that nobody is answered once the port is closed
        return response

    async def listen(self, port: int = 0, host: str = "127.0.0.1", ssl: Any = None) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._connections, host, port or self.port, ssl=ssl, reuse_address=True, reuse_port=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await self._connections.shutdown(0)  # a question that nobody waits for any more may still be in work


@asynccontextmanager
async def scripted(ssl: Any = None, **answers: tuple[int, Any]) -> AsyncIterator[Scripted]:
    """A scripted engine that listens."""
    made = Scripted(**answers)
    await made.listen(ssl=ssl)
    try:
        yield made
    finally:
        await made.close()


def models(*ids: str) -> tuple[int, Any]:
    """The answer of a model list."""
    return 200, {"object": "list", "data": [{"id": id, "object": "model"} for id in ids]}


def write_static(path: Path, *services: dict[str, Any]) -> str:
    """A file of static services; its name, as a setting."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(list(services)))
    fresh.replace(path)
    return str(path)


def static(name: str, port: int, **fields: Any) -> dict[str, Any]:
    return {"name": name, "host": "127.0.0.1", "port": port} | fields


async def until(is_so: Callable[[], Any], what: str) -> None:
    """Wait until a question, asynchronous or not, is answered with yes."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                answer = is_so()
                if await answer if inspect.isawaitable(answer) else answer:
                    return
            except (AssertionError, LookupError):
                pass
            await asyncio.sleep(0.02)


def _listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen(128)
    return sock
