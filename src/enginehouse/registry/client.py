"""The client of a registry, ours or a foreign one that speaks the inherited contract only.

Owns: calls with a deadline each, typed errors, following the feed. May not live here: when to call (`machines.lease`
decides for a babysitter, discovery for the router), the HTTP session (it is handed in) and checking what is listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
import yarl

from enginehouse.core.record import Record
from enginehouse.core.units import KIB
from enginehouse.registry.events import MAX_EVENT, Delete, FeedBroken, FeedEvent, FeedReader, Put, Reset, Snapshot

__all__ = [
    "Conflict",
    "Delete",
    "FeedEvent",
    "FeedUnsupported",
    "Put",
    "Refused",
    "RegistryClient",
    "RegistryError",
    "Reset",
    "Snapshot",
    "Unknown",
    "Unreachable",
]


class RegistryError(Exception):
    """A call that was not carried out. The message is fit to be shown; it never holds a token."""


class Unknown(RegistryError):
    """404: the registry does not know the service (any more): register it again."""


class Conflict(RegistryError):
    """409: the service belongs to another lease: this instance was superseded."""


class Refused(RegistryError):
    """Another 4xx: the call itself is wrong (a bad field, a missing token); repeating it does not help."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(RegistryError):
    """No answer in time, a broken one, or 5xx: worth repeating."""


class FeedUnsupported(RegistryError):
    """The registry ignores `?watch=`: poll it."""


class RegistryClient:
    """`base_url` with or without a trailing `/services`. `token`: "" for none.

    `timeout`: seconds for one call, all of it. `silence`: seconds without a sign of life after which the peer of a feed
    counts as dead (ours sends one every 5 s).
    """

    def __init__(
        self,
        base_url: str,
        token: str,
        session: aiohttp.ClientSession,
        timeout: float = 5.0,
        silence: float = 15.0,
    ) -> None:
        self._services = base_url.rstrip("/").removesuffix("/services").rstrip("/") + "/services"
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._following = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=silence)

    async def register(self, record: Record, lease: str = "") -> str:
        """Register or replace. Returns the lease to use from now on, "" where the registry knows none."""
        body = msgspec.structs.asdict(record) | {"timestamp": datetime.now(UTC).isoformat()}
        if lease:
            body["lease"] = lease
        answer = await self._call("POST", "", body)
        given = answer.get("lease")
        return given if isinstance(given, str) else ""

    async def heartbeat(self, name: str, lease: str = "", status: str = "running") -> None:
        """Say that the service lives."""
        await self._call("POST", f"/{name}/heartbeat", {"status": status}, lease)

    async def update(self, name: str, fields: Mapping[str, Any], lease: str = "") -> None:
        """Replace some fields of the record."""
        await self._call("PUT", f"/{name}", dict(fields), lease)

    async def unregister(self, name: str, lease: str = "") -> None:
        """Take the service back."""
        await self._call("DELETE", f"/{name}", None, lease)

    async def list(self) -> tuple[object, ...]:
        """All services, as plain JSON: to be checked before use."""
        answer = await self._call("GET", "", None)
        services = answer.get("services")
        if not isinstance(services, list | tuple):
            raise Unreachable("the registry's answer has no list `services`: is this URL a registry?")
        return tuple(services)

    async def watch(self, revision: int = 0, epoch: str = "") -> AsyncGenerator[FeedEvent, None]:
        """Follow changes after `revision` of `epoch` (0, "" begins with a `Snapshot`); ends when the registry stops.

        Raises `FeedUnsupported` for a registry without a feed, `Unreachable` for a dead one. Close it
        (`contextlib.aclosing`) to end the connection at once.
        """
        url = self._url("", {"watch": str(revision)} | ({"epoch": epoch} if epoch else {}))
        headers = self._headers | {"accept": "text/event-stream"}
        try:
            async with self._session.get(
                url, headers=headers, timeout=self._following, allow_redirects=False
            ) as response:
                await self._check_feed(response)
                reader = FeedReader()
                async for chunk in response.content.iter_any():
                    for event in reader.feed(chunk):
                        yield event
        except FeedBroken as error:
            raise Unreachable(f"the registry's feed cannot be used: {error}") from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(error) from None

    async def _check_feed(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200 and response.content_type == "text/event-stream":
            return
        if response.status in (200, 400, 404, 405):
            raise FeedUnsupported("the registry has no feed of changes")
        async with asyncio.timeout(self._timeout.total):
            raise _error(response.status, await _read(response))

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None, lease: str = "") -> dict[str, Any]:
        url = self._url(path, {"lease": lease} if lease else {})
        headers = self._headers | {"content-type": "application/json"} if body is not None else self._headers
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with self._session.request(
                method, url, data=data, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                text = await _read(response)
                if not 200 <= response.status < 300:
                    raise _error(response.status, text)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(error) from None
        try:
            answer = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Unreachable("the registry's answer is not JSON: is this URL a registry?") from None
        if not isinstance(answer, dict):
            raise Unreachable("the registry's answer is not a JSON object: is this URL a registry?")
        return answer

    def _url(self, path: str, query: Mapping[str, str]) -> yarl.URL:
        return yarl.URL(self._services + path).with_query(query)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, if it is not larger than the largest listing of ours."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(256 * KIB):
        body += chunk
        if len(body) > MAX_EVENT:
            raise Unreachable(f"the registry's answer is larger than {MAX_EVENT} bytes")
    return bytes(body)


def _error(status: int, body: bytes) -> RegistryError:
    """What a refusal means. A foreign registry's words are shown shortened."""
    message = f"the registry answered {status}"
    if words := _words(body):
        message += f": {words}"
    if status == 404:
        return Unknown(message)
    if status == 409:
        return Conflict(message)
    return Refused(message, status) if 400 <= status < 500 else Unreachable(message)


def _words(body: bytes) -> str:
    """The message of `{"error": {"message"}}` or `{"error": text}`, in one line of at most 300 characters."""
    try:
        data = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    error = data.get("error") if isinstance(data, dict) else None
    words = error.get("message") if isinstance(error, dict) else error
    return " ".join(words.split())[:300] if isinstance(words, str) else ""


def _unreachable(error: Exception) -> Unreachable:
    return Unreachable(f"the registry cannot be reached: {str(error) or type(error).__name__}")
