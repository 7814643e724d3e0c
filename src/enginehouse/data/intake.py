"""What a request wants: from its bytes to a plan that the driver carries out.

Owns: putting together what `wire` finds in a request (path, model, keys, client address) into an `Ask` and the head
for the engine. May not live here: the finding itself (`wire.*`), the choice (`policy`), sending (`driver`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from enginehouse.core.ask import Ask
from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.data.request import Request
from enginehouse.wire import forwarded, multipart
from enginehouse.wire.errors import Unreadable
from enginehouse.wire.forward import request_id, request_lines
from enginehouse.wire.paths import Kind, Route, Where, query_model, rename_query_model
from enginehouse.wire.peek import peek, rename_model, text_bytes

if TYPE_CHECKING:
    from enginehouse.data.worker import Worker

#: RFC 9110 8.6: a method that expects a body says its length even when it is 0.
_WITH_BODY = frozenset((b"POST", b"PUT", b"PATCH"))

#: RFC 9110 8.6: a method that expects a body says its length even when it is 0.
_WITH_BODY = frozenset((b"POST", b"PUT", b"PATCH"))


class Plan(NamedTuple):
    """How a request is to be proxied."""

    request: Request
    route: Route
    request_id: bytes
    forwarded_for: bytes
    own: bool
    """For the router's own paths: goes to control."""
    ask: Ask
    target: bytes
    body: bytes
    switched: bool = False
    """The client's side is a WebSocket already."""

    def engine_head(self, service: Service) -> bytes:
        """The head as this service gets it: the client's, less what is not for it, with what we add."""
        request = self.request
        host = f"[{service.host}]" if ":" in service.host else service.host
        extra = b"authorization: Bearer %b\r\n" % service.api_key.encode() if service.api_key else b""
        if request.websocket:
            extra += b"connection: Upgrade\r\nupgrade: websocket\r\n"
        elif self.body or request.method in _WITH_BODY:
            extra += b"content-length: %d\r\n" % len(self.body)
        return b"%b %b%b HTTP/1.1\r\nHost: %b:%d\r\n%bx-request-id: %b\r\nx-forwarded-for: %b\r\n%b\r\n" % (
            request.method,
            service.prefix.encode(),
            self.target,
            host.encode(),
            service.port,
            request_lines(request.headers, request.facts.connection, bool(service.api_key)),
            self.request_id,
            self.forwarded_for,
            extra,
        )


def read_plan(worker: Worker, request: Request, route: Route, realtime_model: str = "") -> Plan:
    """Read what is needed to route the request. Raises `Unreadable` for one that cannot be accepted.

    `realtime_model` was named within a WebSocket that the router has accepted already.
    """
    if route.outcome is not None:
        raise Unreadable(route.outcome, "")
    facts = request.facts
    client, forwarded_for = forwarded.client_address(request.peer, facts.forwarded_for, worker.config.trusted_proxies)
    sent = request_id(facts.request_id) or worker.new_request_id()
    target = route.target
    if route.kind is Kind.OWN:
        return Plan(request, route, sent, forwarded_for, True, Ask(), target, request.body)
    named = _Names(realtime_model) if realtime_model else _read_names(worker, request, route, target)
    entry = worker.table.models.get(named.model) if named.model else None
    real = entry.model if entry is not None else named.model
    ask = Ask(
        model=real,
        session=forwarded.session_key(real, named.prompt_cache_key, client, facts.user_agent),
        remembered=worker.recall(named.made_id) if named.made_id else -1,
        cache_type=_cache_type(worker, request.body, route),
    )
    body = request.body
    if real != named.model and not realtime_model:
        target, body = _rename(route, facts.content_type, target, body, real)
    return Plan(request, route, sent, forwarded_for, False, ask, target, body, bool(realtime_model))


class _Names(NamedTuple):
    """What the request itself names."""

    model: str = ""
    prompt_cache_key: str = ""
    made_id: str = ""


def _read_names(worker: Worker, request: Request, route: Route, target: bytes) -> _Names:
    where, facts, body = route.where, request.facts, request.body
    if where is Where.QUERY or where is Where.REALTIME:
        return _Names(query_model(target) or "")
    if where is Where.REMEMBERED:
        return _Names(made_id=route.id)
    if where is Where.NOWHERE or not (body or route.strict):
        return _Names()
    if facts.content_encoding and facts.content_encoding.lower() != b"identity":
        if route.strict and not worker.config.encoded_bodies:
            raise Unreadable(Outcome.BODY_ENCODED, "")
        return _Names()
    if facts.content_type[:10].lower() == b"multipart/":
        names = _Names(_form_model(facts.content_type, body, route.strict))
    else:
        found = peek(body, route.strict)
        names = _Names(found.model or "", found.prompt_cache_key, found.previous_response_id)
    if not names.model and route.strict and worker.config.require_model:
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
    if not worker.table.has_cache_types or route.where is not Where.JSON:
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
