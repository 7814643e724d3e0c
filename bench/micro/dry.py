"""A worker without sockets: reads are handed to its connections, and what they write goes nowhere.

Owns `Wire` (a transport) and `Dry` (the worker, with connections to engines ready to be lent). May not live here: what
is sent (`passage`).
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Callable
from typing import cast

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Fleet, Service
from enginehouse.core.shared import SIZE, Shared
from enginehouse.data.client_conn import ClientConn
from enginehouse.data.engine_conn import EngineConn
from enginehouse.data.worker import Worker


class Wire:
    """A transport that is always ready, and counts what is written. It never calls its protocol."""

    def __init__(self) -> None:
        self.writes = 0
        self.last = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        """Taken at once."""
        self.writes += 1
        self.last = data

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Every peer is on this machine."""
        return ("127.0.0.1", 1) if name == "peername" else default

    def is_closing(self) -> bool:
        """After `abort` and `close`."""
        return self.closed

    def get_write_buffer_size(self) -> int:
        """Nothing ever waits."""
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing ever waits."""

    def pause_reading(self) -> None:
        """Reads are the caller's."""

    def resume_reading(self) -> None:
        """Reads are the caller's."""

    def write_eof(self) -> None:
        """The connection ends."""
        self.closed = True

    def close(self) -> None:
        """The connection ends."""
        self.closed = True

    def abort(self) -> None:
        """The connection ends."""
        self.closed = True


def services(count: int, models: Callable[[int], tuple[str, ...]] = lambda _: ("m",)) -> tuple[Service, ...]:
    """`count` services that are up; `models` of each by its number."""
    made = []
    for number in range(count):
        host = f"127.0.{number // 250}.{number % 250 + 2}"
        made.append(
            Service(
                name=f"engine-{number:04}",
                slot=number,
                generation=1,
                host=host,
                addresses=(host,),
                port=8000,
                models=models(number),
                up=True,
            )
        )
    return tuple(made)


class Dry:
    """A worker before `fleet`, with `idle` connections to each of the first services (`connected` of them)."""

    def __init__(
        self,
        fleet: tuple[Service, ...],
        config: RouterConfig | None = None,
        idle: int = 8,
        connected: int = 32,
        wire: Callable[[], Wire] = Wire,
    ) -> None:
        self._wire = wire
        self.shared = Shared(memoryview(mmap.mmap(-1, SIZE)))
        self.worker = Worker(config or RouterConfig(), self.shared, 0, "/nonexistent")
        self.worker.use_fleet(Fleet(version=1, synced=True, services=fleet))
        for service in fleet[:connected]:
            for _ in range(idle):
                self.connect(service)

    def connect(self, service: Service) -> EngineConn:
        """One more connection to an engine, ready to be lent."""
        pool = self.worker.pool
        upstream = pool.upstream(service)
        conn = EngineConn(upstream, pool._known, self.worker.config.max_head)
        conn.connection_made(cast("asyncio.BaseTransport", self._wire()))
        pool.give_back(conn, self.worker.now())
        return conn

    def client(self) -> ClientConn:
        """One more connection of a client; its `transport` is a `Wire`."""
        conn = ClientConn(self.worker)
        conn.connection_made(cast("asyncio.BaseTransport", self._wire()))
        return conn

    @staticmethod
    def engine(client: ClientConn) -> EngineConn:
        """The connection on which the client's request went out."""
        assert client.driver is not None
        attempt = client.driver._attempt
        assert attempt is not None
        assert attempt.engine is not None
        return attempt.engine
