"""One look at one engine: is it well, and which models does it serve?

Owns `Probe`: which paths are asked, in what order, and how an answer is read. Never a completion: it would cost tokens
and wait behind others. Connects only to addresses that the resolver has checked; follows no redirect; reads a bounded
body. May not live here: when to look (`prober`) and what follows from it (`machines.health`).
"""

from __future__ import annotations

import errno
import socket
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from enginehouse.control.access import Accesses
from enginehouse.control.resolver import Resolver
from enginehouse.control.roster import Entry
from enginehouse.core.config.base import ConfigError
from enginehouse.core.record import Endpoint, health_url, model_objects
from enginehouse.core.units import MAX_MODEL_ID, MAX_MODELS, MIB
from enginehouse.machines.health import ProbeFailed, ProbePassed

#: Bytes of a model list that are read; more is no model list.
MAX_BODY = MIB
#: Answers on `/health` that say nothing about health: no such path, or not without a key.
SAYS_NOTHING = frozenset({400, 401, 403, 404, 405, 501})
NEEDS_KEY = frozenset({401, 403})


class Look(NamedTuple):
    """What a look at an engine found."""

    event: ProbePassed | ProbeFailed
    models: tuple[dict[str, Any], ...] | None = None
    """Objects of its model list; None where it was not asked or did not say."""
    note: str = ""
    """For its owner, although it is well."""


class _Answer(NamedTuple):
    status: int
    body: bytes


class Probe:
    """Looks at engines with one HTTP client. `close()` ends it."""

    def __init__(self, resolver: Resolver, accesses: Accesses, timeout: float) -> None:
        """`timeout` in seconds, for each request."""
        self._accesses = accesses
        self._timeout = timeout
        # A connection of its own for every look: whether one can be made is part of the question.
        connector = aiohttp.TCPConnector(resolver=_Pinned(resolver), use_dns_cache=False, force_close=True, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=timeout),
            headers={"User-Agent": "enginehouse-router", "Accept-Encoding": "identity", "Accept": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._resolver = resolver

    async def look(self, entry: Entry) -> Look:
        """Is it well? Its stated health URL decides, else `/health`, else whether it lists its models."""
        found = await self._resolver.find(entry.endpoint.host)
        if not found.addresses:
            return Look(ProbeFailed(found.reason))
        try:
            return await self._ask(entry)
        except TimeoutError:
            return Look(ProbeFailed(f"no answer within {self._timeout:g} s"))
        except aiohttp.ClientConnectorCertificateError:
            return Look(ProbeFailed("its certificate is not signed by an authority we know: set ca_file"))
        except aiohttp.ClientConnectorError as error:
            refused = _is_refused(error.os_error)
            reason = "connection refused" if refused else f"no connection: {error.os_error.strerror or 'failed'}"
            return Look(ProbeFailed(reason, refused))
        except ConfigError as error:
            return Look(ProbeFailed(str(error)))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Look(ProbeFailed(f"the connection broke: {type(error).__name__}"))

    async def close(self) -> None:
        """Close the client."""
        await self._session.close()

    async def _ask(self, entry: Entry) -> Look:
        base = _base(entry.endpoint)
        listed = bool(model_objects(entry.record))
        if stated := health_url(entry.record):
            answer = await self._get(entry, stated)
            if not _is_ok(answer.status):
                return Look(ProbeFailed(f"its health URL answered {_words(answer.status)}"))
        else:
            answer = await self._get(entry, base + "/health")
            if answer.status in SAYS_NOTHING:
                return self._read_models(entry, await self._get(entry, base + "/v1/models"), answer.status)
            if not _is_ok(answer.status):
                return Look(ProbeFailed(f"/health answered {_words(answer.status)}"))
        if listed:
            return Look(ProbePassed())
        return await self._learn(entry, base)

    async def _learn(self, entry: Entry, base: str) -> Look:
        """It is well; which models has it? Not to say so makes nobody ill."""
        try:
            answer = await self._get(entry, base + "/v1/models")
        except (aiohttp.ClientError, OSError, ValueError):
            return Look(ProbePassed(), note="/v1/models did not answer")
        models = _models(answer.body) if _is_ok(answer.status) else None
        return Look(ProbePassed(), models, "" if models is not None else _no_list(answer))

    def _read_models(self, entry: Entry, answer: _Answer, health_status: int) -> Look:
        """`/health` said nothing: the model list decides."""
        if _is_ok(answer.status):
            models = _models(answer.body)
            return Look(ProbePassed(), models, "" if models is not None else _no_list(answer))
        if answer.status in NEEDS_KEY:
            if self._accesses.of(entry.name).api_key:
                return Look(ProbeFailed(f"it refuses the configured key ({_words(answer.status)})"))
            return Look(ProbePassed(), note="it wants an API key: add it to [[router.engines]]")
        both = f"/health answered {_words(health_status)}, /v1/models {_words(answer.status)}"
        return Look(ProbeFailed(f"{both}: state metadata.health_url"))

    async def _get(self, entry: Entry, url: str) -> _Answer:
        access = self._accesses.of(entry.name)
        headers = {"Authorization": f"Bearer {access.api_key}"} if access.api_key else {}
        tls = self._accesses.tls(access.ca_file) if url.startswith("https:") else True
        request = self._session.get(URL(url, encoded=True), headers=headers, ssl=tls, allow_redirects=False)
        async with request as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_BODY:
                    return _Answer(response.status, b"")
            return _Answer(response.status, bytes(body))


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


def _base(at: Endpoint) -> str:
    """The URL before every path."""
    host = f"[{at.host}]" if ":" in at.host else at.host
    return f"{'https' if at.tls else 'http'}://{host}:{at.port}{at.prefix}"


def _models(body: bytes) -> tuple[dict[str, Any], ...] | None:
    """The objects of a model list, the first of each id; None for what is none."""
    try:
        listed = msgspec.json.decode(body)["data"]
        objects = [item for item in listed if isinstance(item, dict) and _is_id(item.get("id"))]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, KeyError):
        return None
    first: dict[str, dict[str, Any]] = {}
    for item in objects[:MAX_MODELS]:
        first.setdefault(item["id"], item)
    return tuple(first.values())


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_MODEL_ID and value.isprintable()


def _no_list(answer: _Answer) -> str:
    if answer.status in NEEDS_KEY:
        return "it wants an API key to list its models: add it to [[router.engines]]"
    if _is_ok(answer.status):
        return "/v1/models is no model list"
    return f"/v1/models answered {_words(answer.status)}"


def _is_ok(status: int) -> bool:
    return 200 <= status < 300


def _is_refused(error: OSError) -> bool:
    """Nobody listens. Where addresses failed in different ways, one refusal is enough: it comes without a number."""
    if error.errno is not None:
        return error.errno == errno.ECONNREFUSED
    return f"[Errno {errno.ECONNREFUSED}]" in str(error)


def _words(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
