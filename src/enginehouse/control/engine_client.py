"""Asking an engine for something small: one GET, only at an address that was checked, with its key, a bounded answer.

Owns `EngineClient` and `Answer`. Follows no redirect, keeps no connection and no cookie. May not live here: which paths
are asked and what answers mean (`probe`, `kv_cache`).
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from enginehouse.control.access import Accesses
from enginehouse.control.resolver import Resolver
from enginehouse.control.roster import Entry
from enginehouse.core.record import default_url
from enginehouse.core.units import MIB

#: Bytes of an answer that are read; what comes after them is left out.
MAX_BODY = MIB


class Answer(NamedTuple):
    """What an engine answered."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        """Is it what was asked for?"""
        return 200 <= self.status < 300


class EngineClient:
    """Asks engines. `close()` ends it."""

    def __init__(self, resolver: Resolver, accesses: Accesses, timeout: float) -> None:
        """`timeout` in seconds, for each request."""
        self.timeout = timeout
        self._accesses = accesses
        # A connection of its own for every question: whether one can be made is part of what probes ask.
        connector = aiohttp.TCPConnector(resolver=_Pinned(resolver), use_dns_cache=False, force_close=True, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=timeout),
            headers={"User-Agent": "enginehouse-router", "Accept-Encoding": "identity", "Accept": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def get(self, entry: Entry, path: str) -> Answer:
        """The answer to GET `path`, or a whole URL at the same host, with at most `MAX_BODY` bytes of its body.

        Raises `TimeoutError`, `aiohttp.ClientError`, `OSError`, `ValueError` or `ConfigError` where there is none.
        """
        url = _base(entry) + path if path.startswith("/") else path
        access = self._accesses.of(entry.name)
        headers = {"Authorization": f"Bearer {access.api_key}"} if access.api_key else {}
        tls = self._accesses.tls(access.ca_file) if url.startswith("https:") else True
        return await self._get(url, headers, tls)

    async def get_beside(self, entry: Entry, path: str, authorization: str = "") -> Answer:
        """The same of its babysitter, which listens at the next port, without TLS; the engine's key is not for it."""
        headers = {"Authorization": authorization} if authorization else {}
        return await self._get(default_url(entry.record.host, entry.record.port + 1) + path, headers, True)

    async def _get(self, url: str, headers: dict[str, str], tls: ssl.SSLContext | bool) -> Answer:
        request = self._session.get(URL(url, encoded=True), headers=headers, ssl=tls, allow_redirects=False)
        async with request as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY:
                    break
            return Answer(response.status, bytes(body[:MAX_BODY]))

    async def close(self) -> None:
        """Close the client."""
        await self._session.close()


class _Pinned(AbstractResolver):
    """Gives the HTTP client the addresses that were checked, and no others."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """As the HTTP client wants them."""
        found = await self._resolver.find(host)
        if not found.addresses:
            raise OSError(errno.EADDRNOTAVAIL, found.reason)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found.addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


def _base(entry: Entry) -> str:
    """The URL before every path."""
    at = entry.endpoint
    host = f"[{at.host}]" if ":" in at.host else at.host
    return f"{'https' if at.tls else 'http'}://{host}:{at.port}{at.prefix}"
