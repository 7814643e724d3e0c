"""A service as it is registered: the one description that babysitter, registry and router exchange.

Owns: `Record`, what a valid one is (`parse_record`), and reading out of it what routing needs to know (its endpoint,
health URL, models). The registry checks what it is sent, the router what it gets from any registry or file.
May not live here: HTTP, looking names up (`core.address` judges what they resolve to), liveness, leases.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from enginehouse.core.address import check_host
from enginehouse.core.units import MAX_KV_TOKENS, MAX_MODEL_ID, MAX_MODELS, MAX_RECORD

MAX_WEIGHT = 1000
#: Levels of lists and objects in metadata.
MAX_DEPTH = 16
#: `metadata.type` of what may get a prompt; a babysitter registers itself with another one.
INFERENCE = "openai-api"
#: `status` of a service that takes requests, and of one that finishes those it has. Any other one takes none, either.
RUNNING = "running"
DRAINING = "draining"
#: Values of `metadata.cache_type` that size routing knows.
CACHE_TYPES = ("static", "paged")
#: `owned_by` in the model lists of engines that are known to go on with an assistant message that is not complete:
#: vLLM, SGLang and llama.cpp as they name themselves, and our simulated engine.
CONTINUING = frozenset(("vllm", "sglang", "llamacpp", "enginehouse-sim"))

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_URL = re.compile(r"[\x21-\x7e]{1,2048}")


class RecordError(ValueError):
    """A record that cannot be used: `field` is the offending one (a path such as `metadata.models`)."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"`{field}` {message}")
        self.field = field
        self.message = message


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One service as registered. Only `parse_record` makes one, so whoever holds it holds a valid one."""

    name: str
    host: str
    """Name or address, IPv6 without brackets."""
    port: int
    hostname: str
    """For people; the host where it was not given."""
    url: str
    """http or https, same host, perhaps with a path prefix; without a trailing slash."""
    status: str = "running"
    weight: int = 1
    """1 to 1000, relative to the other services of a model."""
    metadata: dict[str, Any] = {}


class Endpoint(NamedTuple):
    """Where requests go."""

    tls: bool
    host: str
    port: int
    prefix: str
    """Path before every target, without a trailing slash; "" for none."""


def parse_record(data: object, *, allow_networks: Sequence[str] = ()) -> Record:
    """A record from parsed JSON or TOML. Fields we do not know are dropped; null means not given.

    `hostname`, `url` and `status` may be missing and are derived. Raises `RecordError` for the first bad field.
    """
    if not isinstance(data, Mapping):
        raise RecordError("service", "must be an object")
    given = {key: value for key, value in data.items() if value is not None}
    name = check_name(given.get("name"))
    host = _text(given, "host", 253)
    try:
        check_host(host, allow_networks)
    except ValueError as error:
        raise RecordError("host", str(error)) from None
    port = _integer(given, "port", 65535)
    metadata = given.get("metadata", {})
    record = Record(
        name=name,
        host=host,
        port=port,
        hostname=_text(given, "hostname", 253, host),
        url=_text(given, "url", 2048, default_url(host, port)).rstrip("/"),
        status=_text(given, "status", 64, "running"),
        weight=_integer(given, "weight", MAX_WEIGHT, 1),
        metadata=_metadata(metadata),
    )
    _split("url", record.url, host)
    _check_known_metadata(record.metadata, host)
    if _size(record) > MAX_RECORD:
        raise RecordError("metadata", f"is too large: a service may take {MAX_RECORD} bytes as JSON")
    return record


def check_name(name: object) -> str:
    """A service name, or `RecordError`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RecordError("name", "must be 1 to 128 characters out of A-Z a-z 0-9 . _ -")
    return name


def default_url(host: str, port: int) -> str:
    """The URL of a service that gives none."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def endpoint(record: Record) -> Endpoint:
    """Where requests for this service go: `metadata.base_url`, else `url`; without a port in it, the record's port."""
    field, url = "metadata.base_url", record.metadata.get("base_url")
    if url is None:
        field, url = "url", record.url
    parts = _split(field, url, record.host)
    return Endpoint(parts.scheme == "https", record.host, parts.port or record.port, parts.path.rstrip("/"))


def health_url(record: Record) -> str:
    """The health URL the service states for itself (same host), "" for none."""
    return str(record.metadata.get("health_url") or "")


def is_inference(record: Record) -> bool:
    """May it get prompts?"""
    return bool(record.metadata.get("type") == INFERENCE)


def model_ids(record: Record) -> tuple[str, ...]:
    """Ids of the models it lists, each once, in its order."""
    return tuple(str(model["id"]) for model in model_objects(record))


def model_objects(record: Record) -> tuple[dict[str, Any], ...]:
    """What it contributes to `/v1/models`: `metadata.models_list` (the first of each id), else ids of `models`."""
    listed = record.metadata.get("models_list") or [{"id": model} for model in record.metadata.get("models") or ()]
    first: dict[str, dict[str, Any]] = {}
    for model in listed:
        first.setdefault(model["id"], model)
    return tuple(first.values())


def cache_type(record: Record) -> str:
    """ "static", "paged", or "" where it states none that we know."""
    stated = record.metadata.get("cache_type")
    return stated if stated in CACHE_TYPES else ""


def continues(record: Record, models: Sequence[Mapping[str, Any]]) -> bool:
    """Does it go on with an assistant message that is not complete? `models`: the objects of its model list.

    `metadata.continue_final_message` decides, else the engine's own name in its list; other kinds are never asked to.
    """
    stated = record.metadata.get("continue_final_message")
    if stated is not None:
        return bool(stated)
    owners = [model.get("owned_by") for model in models]
    return bool(owners) and all(isinstance(owner, str) and owner in CONTINUING for owner in owners)


def _text(given: Mapping[str, object], field: str, longest: int, default: str | None = None) -> str:
    value = given.get(field, default)
    if value is None:
        raise RecordError(field, "is required")
    if not isinstance(value, str):
        raise RecordError(field, "must be a string")
    if not 1 <= len(value) <= longest or _CONTROL.search(value):
        raise RecordError(field, f"must be 1 to {longest} characters, none of them a control character")
    return value


def _integer(given: Mapping[str, object], field: str, most: int, default: int | None = None) -> int:
    value = given.get(field, default)
    if value is None:
        raise RecordError(field, "is required")
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise RecordError(field, f"must be an integer from 1 to {most}")
    return value


def _split(field: str, url: object, host: str) -> SplitResult:
    """A URL in its parts, if it is one that may be connected to: http(s), this host, nothing but a path behind it."""
    if not isinstance(url, str) or not _URL.fullmatch(url) or "\\" in url:
        raise RecordError(field, "must be a URL of 1 to 2048 printable ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RecordError(field, "is not a URL") from None
    if parts.scheme not in ("http", "https") or port == 0:
        raise RecordError(field, "must begin with http:// or https:// and name a valid port, if it names one")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise RecordError(field, "must have no user name, query or fragment")
    if (parts.hostname or "").lower() != host.lower():
        raise RecordError(field, f"must have the host of the service, {host}")
    if any(segment in (".", "..") for segment in parts.path.lower().replace("%2e", ".").split("/")):
        raise RecordError(field, "must have a path without . and .. segments")
    return parts


def _metadata(value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise RecordError("metadata", "must be an object")
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        inner = [item for item in level if isinstance(item, dict | list | tuple)]
        level = [item for part in inner for item in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return value
    if any(isinstance(item, dict | list | tuple) for item in level):
        raise RecordError("metadata", f"must have at most {MAX_DEPTH} levels")
    return value


def _check_known_metadata(metadata: Mapping[str, Any], host: str) -> None:
    """The keys that mean something to us have their types; others are the owner's."""
    for key in ("type", "cache_type"):
        if metadata.get(key) is not None:
            _in_metadata(key, isinstance(metadata[key], str) and len(metadata[key]) <= 128, "must be a short string")
    for key in ("base_url", "health_url"):
        if metadata.get(key) is not None:
            _split(f"metadata.{key}", metadata[key], host)
    stated = metadata.get("continue_final_message")
    _in_metadata("continue_final_message", stated is None or isinstance(stated, bool), "must be true or false")
    capacity = metadata.get("capacity")
    fits = isinstance(capacity, int) and not isinstance(capacity, bool) and 1 <= capacity <= 1_000_000
    _in_metadata("capacity", capacity is None or fits, "must be an integer from 1 to 1000000 (requests at once)")
    tokens = metadata.get("kv_tokens")
    fits = isinstance(tokens, int) and not isinstance(tokens, bool) and 1 <= tokens <= MAX_KV_TOKENS
    _in_metadata("kv_tokens", tokens is None or fits, f"must be an integer from 1 to {MAX_KV_TOKENS}")
    for key in ("models", "models_list"):
        models = metadata.get(key)
        if models is None:
            continue
        _in_metadata(key, isinstance(models, list | tuple), "must be a list")
        _in_metadata(key, len(models) <= MAX_MODELS, f"must have at most {MAX_MODELS} entries")
        if key == "models_list":
            _in_metadata(key, all(isinstance(m, dict) and "id" in m for m in models), "must hold objects with an `id`")
            models = [model["id"] for model in models]
        what = f"must hold ids of 1 to {MAX_MODEL_ID} characters, none of them a control character"
        _in_metadata(key, all(_is_model_id(model) for model in models), what)


def _is_model_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_MODEL_ID and not _CONTROL.search(value)


def _in_metadata(key: str, right: bool, message: str) -> None:
    if not right:
        raise RecordError(f"metadata.{key}", message)


def _size(record: Record) -> int:
    """Bytes as JSON. What cannot be written as JSON is no metadata."""
    try:
        return len(msgspec.json.encode(record))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RecordError("metadata", f"cannot be written as JSON: {error}") from None
