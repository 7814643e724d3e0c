"""Probes: asks services whether they live, many at a time.

Owns: what is asked (`target`), rounds of probes that never overlap, and the last verdict on each service.
May not live here: liveness by heartbeat (the store's) and what follows from a verdict: it is a hint for routers.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from enginehouse.core.address import address_allowed
from enginehouse.core.record import Record, default_url, health_url, is_inference
from enginehouse.registry.leases import Entry
from enginehouse.registry.store import Change, Store
from enginehouse.registry.views import HealthStatus

#: Probes under way at once: 1000 hanging services of 5 s each are done in 20 s.
IN_ROUNDS = 256
#: The same for probes that clients ask for; apart, so that a round does not make them wait.
ON_DEMAND = 64


log = logging.getLogger("enginehouse.registry")


class Verdict(NamedTuple):
    """What a probe found, and of what."""

    lease: str
    target: str
    healthy: bool


def target(record: Record) -> str:
    """What is asked: the service's own health URL, its babysitter (port + 1) if it is an engine, else `url/health`."""
    if stated := health_url(record):
        return stated
    if is_inference(record) and record.port < 65535:
        return default_url(record.host, record.port + 1) + "/health"
    return record.url + "/health"


class Prober:
    """Use as a context: holds one HTTP session for all probes."""

    def __init__(self, store: Store, *, interval: float, timeout: float, allow_networks: Sequence[str] = ()) -> None:
        self._store = store
        self._interval = interval
        self._timeout = timeout
        self._allow_networks = allow_networks
        self._verdicts: dict[str, Verdict] = {}
        self._in_rounds = asyncio.Semaphore(IN_ROUNDS)
        self._on_demand = asyncio.Semaphore(ON_DEMAND)
        self._session: aiohttp.ClientSession | None = None
        store.listen(self._forget)

    async def __aenter__(self) -> Prober:
        connector = aiohttp.TCPConnector(limit=IN_ROUNDS + ON_DEMAND, resolver=_Resolver(self._allow_networks))
        jar = aiohttp.DummyCookieJar()
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=jar, auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    def verdict(self, entry: Entry) -> HealthStatus:
        """The last probe's finding, if it was about this incarnation at this place."""
        last = self._verdicts.get(entry.record.name)
        if last is None or (last.lease, last.target) != (entry.lease, target(entry.record)):
            return "unknown"
        return "healthy" if last.healthy else "unhealthy"

    async def run(self) -> None:
        """Round after round, the first at once: what a journal brought back is confirmed without delay."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                await self.round()
            except Exception:
                log.exception("a bug: a round of probes failed")
            await asyncio.sleep(max(0.0, started + self._interval - loop.time()))

    async def round(self) -> None:
        """Probe all services, in parallel."""
        async with asyncio.TaskGroup() as group:
            for entry in self._store.entries():
                group.create_task(self._probe(entry, self._in_rounds))

    async def probe(self, entry: Entry) -> bool:
        """Probe one service now; the verdict is kept. Any 2xx answer is healthy; redirects are not followed."""
        return await self._probe(entry, self._on_demand)

    def _forget(self, change: Change) -> None:
        if change.entry is None:
            self._verdicts.pop(change.name, None)

    async def _probe(self, entry: Entry, slots: asyncio.Semaphore) -> bool:
        url = target(entry.record)
        async with slots:
            healthy = await self._ask(url)
        name = entry.record.name
        now = self._store.get(name)
        if now is not None and now.lease == entry.lease:
            self._verdicts[name] = Verdict(entry.lease, url, healthy)
            if healthy:
                self._store.confirm(now)
        return healthy

    async def _ask(self, url: str) -> bool:
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        try:
            async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
                return 200 <= response.status < 300
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return False


class _Resolver(AbstractResolver):
    """Judges what a name resolves to: it may point elsewhere than when it was registered."""

    def __init__(self, allow_networks: Sequence[str]) -> None:
        self._system = aiohttp.ThreadedResolver()
        self._allow_networks = allow_networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        allowed = [result for result in found if address_allowed(result["host"], self._allow_networks)]
        if not allowed:
            raise OSError(f"{host} resolves to no address that may be used")
        return allowed

    async def close(self) -> None:
        await self._system.close()
