"""One look at one engine: is it well, and which models does it serve?

Owns `Probe`: which paths are asked, in what order, and how an answer is read. Never a completion: it would cost tokens
and wait behind others. May not live here: how an engine is reached (`engine_client`), when to look (`prober`) and what
follows from it (`machines.health`).
"""

from __future__ import annotations

import errno
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
import msgspec

from enginehouse.control.access import Accesses
from enginehouse.control.engine_client import Answer, EngineClient
from enginehouse.control.resolver import Resolver
from enginehouse.control.roster import Entry
from enginehouse.core.config.base import ConfigError
from enginehouse.core.record import health_url, model_objects
from enginehouse.core.units import MAX_MODEL_ID, MAX_MODELS
from enginehouse.machines.health import ProbeFailed, ProbePassed

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


class Probe:
    """Looks at engines."""

    def __init__(self, resolver: Resolver, accesses: Accesses, client: EngineClient) -> None:
        self._resolver = resolver
        self._accesses = accesses
        self._get = client.get
        self._timeout = client.timeout

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

    async def _ask(self, entry: Entry) -> Look:
        listed = bool(model_objects(entry.record))
        if stated := health_url(entry.record):
            answer = await self._get(entry, stated)
            if not answer.ok:
                return Look(ProbeFailed(f"its health URL answered {_words(answer.status)}"))
        else:
            answer = await self._get(entry, "/health")
            if answer.status in SAYS_NOTHING:
                return self._read_models(entry, await self._get(entry, "/v1/models"), answer.status)
            if not answer.ok:
                return Look(ProbeFailed(f"/health answered {_words(answer.status)}"))
        if listed:
            return Look(ProbePassed())
        return await self._learn(entry)

    async def _learn(self, entry: Entry) -> Look:
        """It is well; which models has it? Not to say so makes nobody ill."""
        try:
            answer = await self._get(entry, "/v1/models")
        except (aiohttp.ClientError, OSError, ValueError):
            return Look(ProbePassed(), note="/v1/models did not answer")
        models = _models(answer.body) if answer.ok else None
        return Look(ProbePassed(), models, "" if models is not None else _no_list(answer))

    def _read_models(self, entry: Entry, answer: Answer, health_status: int) -> Look:
        """`/health` said nothing: the model list decides."""
        if answer.ok:
            models = _models(answer.body)
            return Look(ProbePassed(), models, "" if models is not None else _no_list(answer))
        if answer.status in NEEDS_KEY:
            if self._accesses.of(entry.name).api_key:
                return Look(ProbeFailed(f"it refuses the configured key ({_words(answer.status)})"))
            return Look(ProbePassed(), note="it wants an API key: add it to [[router.engines]]")
        both = f"/health answered {_words(health_status)}, /v1/models {_words(answer.status)}"
        return Look(ProbeFailed(f"{both}: state metadata.health_url"))


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


def _no_list(answer: Answer) -> str:
    if answer.status in NEEDS_KEY:
        return "it wants an API key to list its models: add it to [[router.engines]]"
    if answer.ok:
        return "/v1/models is no model list"
    return f"/v1/models answered {_words(answer.status)}"


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
