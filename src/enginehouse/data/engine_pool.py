"""Connections to engines: which are lent, kept and closed, and how a new one is made.

Owns: idle connections per service incarnation, connecting (TCP, TLS, Unix) with its tasks. May not live here: when a
connection is tried (`driver`), name resolution (control does it; a worker connects to addresses only).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import cast

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.data.engine_conn import EngineConn
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.known_heads import KnownHeads

OnMade = Callable[[EngineConn], None]
OnFailed = Callable[[Outcome, str], None]

UNIX = "unix:"
#: Answers' heads that are remembered. Their Date makes them new every second, so that more would only be old ones.
KNOWN_ANSWERS = 64


class Upstream:
    """What the worker keeps for one incarnation of a service: its idle connections never serve another one."""

    __slots__ = ("authorization", "host_lines", "idle", "prefix", "retained", "service")

    def __init__(self, service: Service) -> None:
        self.idle: list[EngineConn] = []
        self.retained = True
        """False once the service is gone: nothing is kept for it any more."""
        self.describe(service)

    def describe(self, service: Service) -> None:
        """What is known of the service now; its incarnation stays the same."""
        self.service = service
        host = f"[{service.host}]" if ":" in service.host else service.host
        self.prefix = service.prefix.encode()
        self.host_lines = f" HTTP/1.1\r\nHost: {host}:{service.port}\r\n".encode()
        self.authorization = b"authorization: Bearer %b\r\n" % service.api_key.encode() if service.api_key else b""

    def drop(self) -> None:
        """The service is gone."""
        self.retained = False
        while self.idle:
            self.idle.pop().abort()


class EnginePool:
    """Idle connections, last in first out, so that the surplus grows old and is closed."""

    def __init__(self, config: RouterConfig) -> None:
        self._max_idle = config.max_idle_per_service
        self._idle_time = config.engine_keepalive_timeout
        self._max_head = config.max_head
        self._known: KnownHeads[AnswerHead] = KnownHeads(KNOWN_ANSWERS)
        self._upstreams: dict[int, Upstream] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def upstream(self, service: Service) -> Upstream:
        """What is kept for the service; nothing, for one that is gone since it was chosen."""
        upstream = self._upstreams.get(service.slot)
        if upstream is not None and upstream.service.generation == service.generation:
            return upstream
        gone = Upstream(service)
        gone.retained = False
        return gone

    def lend(self, upstream: Upstream) -> EngineConn | None:
        """An idle connection to the service, or None."""
        idle = upstream.idle
        while idle:
            conn = idle.pop()
            if not conn.lost and not conn.transport.is_closing():
                return conn
        return None

    def give_back(self, conn: EngineConn, now: float) -> None:
        """Keep a clean connection for the next request, or close it."""
        conn.release()
        upstream = conn.upstream
        if len(upstream.idle) >= self._max_idle or not upstream.retained:
            conn.transport.close()
            return
        conn.idle_since = now
        upstream.idle.append(conn)

    def connect(self, upstream: Upstream, made: OnMade, failed: OnFailed) -> asyncio.Task[None]:
        """Start connecting; exactly one of `made` and `failed` is called, unless the task is cancelled before.

        The caller keeps the deadline and cancels the task when it has passed.
        """
        task = asyncio.get_running_loop().create_task(self._connect(upstream, made, failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connect(self, upstream: Upstream, made: OnMade, failed: OnFailed) -> None:
        error = "it has no address (its name could not be resolved)"
        for address in upstream.service.addresses:
            try:
                conn = await self._open(upstream, address)
            except (OSError, ssl.SSLError) as problem:
                error = problem.strerror or str(problem)
                continue
            made(conn)
            return
        failed(Outcome.CONNECT_FAILED, error)

    async def _open(self, upstream: Upstream, address: str) -> EngineConn:
        """One connection to one address. Raises `OSError` or `ssl.SSLError`."""
        loop = asyncio.get_running_loop()
        service = upstream.service

        conn = EngineConn(upstream, self._known, self._max_head)

        def protocol() -> asyncio.BaseProtocol:
            return cast("asyncio.BaseProtocol", conn)

        if address.startswith(UNIX):
            await loop.create_unix_connection(protocol, address[len(UNIX) :])
        elif service.tls:
            context = self._context(service.ca_file)
            await loop.create_connection(protocol, address, service.port, ssl=context, server_hostname=service.host)
        else:
            await loop.create_connection(protocol, address, service.port)
        return conn

    def _context(self, ca_file: str) -> ssl.SSLContext:
        """One context per authority; made when the fleet arrives, so that no request waits for the file."""
        context = self._contexts.get(ca_file)
        if context is None:
            context = self._contexts[ca_file] = ssl.create_default_context(cafile=ca_file or None)
        return context

    def retain(self, services: Iterable[Service]) -> None:
        """A new fleet: close the idle connections of services that are gone, prepare for those that came."""
        before, self._upstreams = self._upstreams, {}
        for service in services:
            upstream = before.get(service.slot)
            if upstream is not None and upstream.service.generation == service.generation:
                del before[service.slot]
                upstream.describe(service)
            else:
                upstream = Upstream(service)
            self._upstreams[service.slot] = upstream
            if service.tls:
                try:
                    self._context(service.ca_file)
                except (OSError, ssl.SSLError):
                    continue  # told by the connection that needs it
        for gone in before.values():
            gone.drop()

    def sweep(self, now: float) -> None:
        """Close what has been idle too long; an engine closes its own end soon and a request would meet that."""
        oldest = now - self._idle_time
        for upstream in self._upstreams.values():
            idle = upstream.idle
            while idle and (idle[0].lost or idle[0].idle_since < oldest):
                conn = idle.pop(0)
                if not conn.lost:
                    conn.transport.close()

    def close(self) -> None:
        """Close every idle connection and stop connecting."""
        for upstream in self._upstreams.values():
            upstream.drop()
        for task in self._tasks:
            task.cancel()

    def idle_count(self) -> int:
        """Connections kept at the moment."""
        return sum(len(upstream.idle) for upstream in self._upstreams.values())
