"""What a request wants: from its bytes to a plan that the driver carries out.

Owns: putting together what `wire` finds in a request (path, model, keys, client address) into an `Ask` and the head
for the engine. May not live here: the finding itself (`wire.*`), the choice (`policy`), sending (`driver`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginehouse.core.ask import Ask
from enginehouse.core.outcome import Outcome
from enginehouse.data.plan import Plan
from enginehouse.data.request import Request
from enginehouse.wire import forwarded, multipart
from enginehouse.wire.errors import Unreadable
from enginehouse.wire.paths import Kind, Route, Where, query_model, rename_query_model
from enginehouse.wire.peek import peek, rename_model, text_bytes

if TYPE_CHECKING:
    from enginehouse.data.worker import Worker

_NOBODY: Final = Ask()
# Members of an enumeration are looked up by name each time; these are on the way of every request.
_OWN: Final = Kind.OWN
_JSON: Final = Where.JSON


def read_plan(worker: Worker, request: Request, route: Route, realtime_model: str = "") -> Plan:
    """Read what is needed to route the request. Raises `Unreadable` for one that cannot be accepted.

    `realtime_model` was named within a WebSocket that the router has accepted already.
    """
    if route.outcome is not None:
        raise Unreadable(route.outcome, "")
    head = request.head
    client, forwarded_for = forwarded.client_address(request.peer, head.forwarded_for, worker.config.trusted_proxies)
    sent = worker.id_of(request)
    target, body = route.target, request.body
    if route.kind is _OWN:
        return Plan(request, route, sent, forwarded_for, True, _NOBODY, target, body)
    model, key, made_id = (realtime_model, "", "") if realtime_model else _read_names(worker, request, route, target)
    entry = worker.table.models.get(model) if model else None
    real = entry.model if entry is not None else model
    ask = Ask(
        real,
        forwarded.session_key(real, key, client, head.user_agent) if key or client else "",
        worker.recall(made_id) if made_id else -1,
        _cache_type(worker, body, route) if worker.table.has_cache_types else "",
    )
    if real != model and not realtime_model:
        target, body = _rename(route, head.content_type, target, body, real)
    return Plan(request, route, sent, forwarded_for, False, ask, target, body, bool(realtime_model))


def client_of(worker: Worker, request: Request) -> str:
    """Who asks, for taking turns: the API key, where there is none the address."""
    head = request.head
    if head.authorization:
        return head.authorization.decode("latin-1")
    trusted = worker.config.trusted_proxies
    return forwarded.client_address(request.peer, head.forwarded_for, trusted)[0] or request.peer


#: Model, prompt cache key and id of an earlier answer; "" for what is not named.
_Names = tuple[str, str, str]


def _read_names(worker: Worker, request: Request, route: Route, target: bytes) -> _Names:
    where, head, body = route.where, request.head, request.body
    if where is not _JSON and where is not Where.MULTIPART:
        if where is Where.REMEMBERED:
            return "", "", route.id
        return (query_model(target) or "" if where is not Where.NOWHERE else ""), "", ""
    if not (body or route.strict):
        return "", "", ""
    if head.content_encoding and head.content_encoding.lower() != b"identity":
        if route.strict and not worker.config.encoded_bodies:
            raise Unreadable(Outcome.BODY_ENCODED, "")
        return "", "", ""
    if head.content_type[:10].lower() == b"multipart/":
        names = _form_model(head.content_type, body, route.strict), "", ""
    else:
        found = peek(body, route.strict)
        names = found.model or "", found.prompt_cache_key, found.previous_response_id
    if not names[0] and route.strict and worker.config.require_model:
        raise Unreadable(Outcome.MODEL_MISSING, "", "model")
    return names


def _form_model(content_type: bytes, body: bytes, strict: bool) -> str:
    try:
        return multipart.read_model(content_type, body) or ""
    except Unreadable:
        if strict:
            raise
        return ""


def _cache_type(worker: Worker, body: bytes, route: Route) -> str:
    """CONTRACTS 1.2, size routing: more text than the threshold prefers static caches, less paged ones."""
    if route.where is not Where.JSON:
        return ""
    threshold = worker.config.cache_type_routing_threshold
    return "static" if len(body) > threshold and text_bytes(body) > threshold else "paged"


def _rename(route: Route, content_type: bytes, target: bytes, body: bytes, model: str) -> tuple[bytes, bytes]:
    """An alias was asked for: the engine knows the model's real name only."""
    if route.where in (Where.QUERY, Where.REALTIME):
        return rename_query_model(target, model), body
    if content_type[:10].lower() == b"multipart/":
        return target, multipart.rename_model(content_type, body, model)
    return target, rename_model(body, model)
