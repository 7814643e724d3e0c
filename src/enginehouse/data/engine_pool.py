"""Connections to engines: which are lent, kept and closed, and how a new one is made.

Owns: idle connections per service incarnation, connecting (TCP, TLS, Unix) with its tasks. May not live here: when a
connection is tried (`driver`), name resolution (control does it; a worker connects to addresses only).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.data.engine_conn import EngineConn

Key = tuple[int, int]
OnMade = Callable[[EngineConn], None]
OnFailed = Callable[[Outcome, str], None]

UNIX = "unix:"


def key_of(service: Service) -> Key:
    """Identity of an incarnation of a service: its connections never serve another one."""
    return service.slot, service.generation


class EnginePool:
    """Idle connections, last in first out, so that the surplus grows old and is closed."""

    def __init__(self, config: RouterConfig) -> None:
        self._max_idle = config.max_idle_per_service
        self._idle_time = config.engine_keepalive_timeout
        self._max_head = config.max_head
        self._idle: dict[Key, list[EngineConn]] = {}
        self._known: dict[Key, Service] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def lend(self, service: Service) -> EngineConn | None:
        """An idle connection to the service, or None."""
        idle = self._idle.get(key_of(service))
        while idle:
            conn = idle.pop()
            if not conn.lost and not conn.transport.is_closing():
                return conn
        return None

    def give_back(self, conn: EngineConn, now: float) -> None:
        """Keep a clean connection for the next request, or close it."""
        conn.release()
        idle = self._idle.setdefault(conn.key, [])
        if len(idle) >= self._max_idle or conn.key not in self._known:
            conn.transport.close()
            return
        conn.idle_since = now
        idle.append(conn)

    def connect(self, service: Service, made: OnMade, failed: OnFailed) -> asyncio.Task[None]:
        """Start connecting; exactly one of `made` and `failed` is called, unless the task is cancelled before.

        The caller keeps the deadline and cancels the task when it has passed.
        """
        task = asyncio.get_running_loop().create_task(self._connect(service, made, failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connect(self, service: Service, made: OnMade, failed: OnFailed) -> None:
        error = "it has no address (its name could not be resolved)"
        for address in service.addresses:
            try:
                conn = await self._open(service, address)
            except (OSError, ssl.SSLError) as problem:
                error = problem.strerror or str(problem)
                continue
            made(conn)
            return
        failed(Outcome.CONNECT_FAILED, error)

    async def _open(self, service: Service, address: str) -> EngineConn:
        """One connection to one address. Raises `OSError` or `ssl.SSLError`."""
        loop = asyncio.get_running_loop()
        key = key_of(service)

        def protocol() -> EngineConn:
            return EngineConn(key, self._max_head)

        if address.startswith(UNIX):
            _, conn = await loop.create_unix_connection(protocol, address[len(UNIX) :])
        elif service.tls:
            context = self._context(service.ca_file)
            _, conn = await loop.create_connection(
                protocol, address, service.port, ssl=context, server_hostname=service.host
            )
        else:
            _, conn = await loop.create_connection(protocol, address, service.port)
        return conn

    def _context(self, ca_file: str) -> ssl.SSLContext:
        """One context per authority; made when the fleet arrives, so that no request waits for the file."""
        context = self._contexts.get(ca_file)
        if context is None:
            context = self._contexts[ca_file] = ssl.create_default_context(cafile=ca_file or None)
        return context

    def retain(self, services: Iterable[Service]) -> None:
        """A new fleet: close the idle connections of services that are gone, prepare for those that came."""
        self._known = {key_of(service): service for service in services}
        for key in [key for key in self._idle if key not in self._known]:
            for conn in self._idle.pop(key):
                conn.abort()
        for service in self._known.values():
            if service.tls:
                try:
                    self._context(service.ca_file)
                except (OSError, ssl.SSLError):
                    continue  # told by the connection that needs it

    def sweep(self, now: float) -> None:
        """Close what has been idle too long; an engine closes its own end soon and a request would meet that."""
        oldest = now - self._idle_time
        for key, idle in list(self._idle.items()):
            while idle and (idle[0].lost or idle[0].idle_since < oldest):
                conn = idle.pop(0)
                if not conn.lost:
                    conn.transport.close()
            if not idle:
                del self._idle[key]

    def close(self) -> None:
        """Close every idle connection and stop connecting."""
        for idle in self._idle.values():
            for conn in idle:
                conn.abort()
        self._idle.clear()
        for task in self._tasks:
            task.cancel()

    def idle_count(self) -> int:
        """Connections kept at the moment."""
        return sum(len(idle) for idle in self._idle.values())
