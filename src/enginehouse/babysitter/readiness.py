"""Whether an engine is ready, and what it serves: found out by asking it, never by waiting.

Owns the probe and the reading of model lists. May not live here: when to probe, and what follows from it (the child
machine), HTTP endpoints of our own (`api`).

Ready means: the port accepts, and `/v1/models` or `/models` answers 200 with a list. Some engines have no such list, or
show it only to those who have a key; they are ready when their health path answers below 500, and then serve what the
configuration says.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import aiohttp
import msgspec

MODEL_PATHS = ("/v1/models", "/models")
MAX_BODY = 1 << 20
MAX_MODELS = 1000
MESSAGE = 120
"""Characters of an engine's own words that are repeated in a reason."""


class Ready(NamedTuple):
    """The engine answers. `models` are the objects of its list, `body` is that list as it came, b"" for none."""

    models: list[dict[str, Any]]
    body: bytes


class NotReady(NamedTuple):
    """It does not, or not yet."""

    reason: str


class Prober:
    """Asks one engine. Connections are not kept: they would look like clients, and some engines close them rudely."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        hosts: list[str],
        port: int,
        *,
        timeout: float,
        health: str,
        configured: list[dict[str, Any]],
        key: str = "",
    ) -> None:
        """`hosts` are tried in order until one accepts; `configured` is served by an engine without a list."""
        self._session = session
        self._hosts = hosts
        self._port = port
        self._timeout = timeout
        self._health = health
        self._configured = configured
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def probe(self) -> Ready | NotReady:
        """One probe, bounded by the timeout. Never raises."""
        reason = "its port is closed"
        try:
            async with asyncio.timeout(self._timeout):
                for host in list(self._hosts):
                    try:
                        answer = await self._ask(host)
                    except aiohttp.ClientConnectorError:
                        continue  # nobody listens at this address; the engine may at another
                    if self._hosts[0] != host:  # the one that listens is asked first from now on
                        self._hosts.remove(host)
                        self._hosts.insert(0, host)
                    return answer
        except TimeoutError:
            reason = f"no answer within {self._timeout:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = f"no HTTP answer ({type(error).__name__})"
        return NotReady(reason)

    async def text(self, path: str) -> str:
        """What the engine says at a path, "" unless it is 200. Raises what aiohttp raises."""
        async with asyncio.timeout(self._timeout):
            status, body = await self._get(self._hosts[0], path)
        return body.decode(errors="replace") if status == 200 else ""

    async def _ask(self, host: str) -> Ready | NotReady:
        for path in MODEL_PATHS:
            status, body = await self._get(host, path)
            if status == 200 and (models := model_list(body)) is not None:
                return Ready(models, body)
            if is_failure(status):
                return NotReady(f"{path} answers {status}{said(body)}")
        status, body = await self._get(host, self._health)
        if is_failure(status):
            return NotReady(f"{self._health} answers {status}{said(body)}")
        return Ready(self._configured, b"")

    async def _get(self, host: str, path: str) -> tuple[int, bytes]:
        """Status and the beginning of the body. Redirects are not followed."""
        url = f"http://[{host}]:{self._port}{path}" if ":" in host else f"http://{host}:{self._port}{path}"
        async with self._session.get(url, headers=self._headers, allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY:
                    break
            return response.status, bytes(body)


def is_failure(status: int) -> bool:
    """Whether a status says "not now". 501 says "not here"."""
    return status >= 500 and status != 501


def model_list(body: bytes) -> list[dict[str, Any]] | None:
    """The model objects of an OpenAI list (at most `MAX_MODELS`), or None where the body is no such list."""
    if len(body) > MAX_BODY:
        return None
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    data = told.get("data") if isinstance(told, dict) else told
    if not isinstance(data, list):
        return None
    models = [each for each in data if isinstance(each, dict) and isinstance(each.get("id"), str) and each["id"]]
    return models[:MAX_MODELS]


def said(body: bytes) -> str:
    """`: Loading model`, the message of an error in any of the engines' shapes, or nothing."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    while isinstance(told, dict):
        told = next((told[key] for key in ("error", "message", "detail", "status") if key in told), None)
    return f": {told[:MESSAGE]}" if isinstance(told, str) else ""
