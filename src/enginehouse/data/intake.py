"""What a request wants: from its bytes to a plan that the driver carries out.

Owns: putting together what a request asks for (`wire.asked`) and what the engine is to get. May not live here: finding
anything in a request (`wire.*`), the choice (`policy`), sending (`driver`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginehouse.core.ask import Ask
from enginehouse.data.plan import Plan
from enginehouse.data.request import Request
from enginehouse.wire import forwarded, multipart
from enginehouse.wire.asked import read_ask
from enginehouse.wire.errors import Unreadable
from enginehouse.wire.paths import Kind, Route, Where, rename_query_model
from enginehouse.wire.peek import rename_model

if TYPE_CHECKING:
    from enginehouse.data.worker import Worker

_NOBODY: Final = Ask()
# Members of an enumeration are looked up by name each time; these are on the way of every request.
_OWN: Final = Kind.OWN


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
    named, ask = read_ask(worker.config, worker.table, worker.shared, route, head, body, client, realtime_model)
    if ask.model != named and not realtime_model:
        target, body = _rename(route, head.content_type, target, body, ask.model)
    return Plan(request, route, sent, forwarded_for, False, ask, target, body, bool(realtime_model))


def client_of(worker: Worker, request: Request) -> str:
    """Who asks, for taking turns: the API key, where there is none the address."""
    head = request.head
    if head.authorization:
        return head.authorization.decode("latin-1")
    trusted = worker.config.trusted_proxies
    return forwarded.client_address(request.peer, head.forwarded_for, trusted)[0] or request.peer


def _rename(route: Route, content_type: bytes, target: bytes, body: bytes, model: str) -> tuple[bytes, bytes]:
    """An alias was asked for: the engine knows the model's real name only."""
    if route.where in (Where.QUERY, Where.REALTIME):
        return rename_query_model(target, model), body
    if content_type[:10].lower() == b"multipart/":
        return target, multipart.rename_model(content_type, body, model)
    return target, rename_model(body, model)
