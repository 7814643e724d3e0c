"""What may be ordered through the dashboard, by whoever the guard lets: draining a service, and taking it back.

Owns the route, reading the order, and passing it to the registry, as `enginehouse drain` does. May not live here: who
may (`guard`), what a drain is (the registry), and when a service is drained (`views`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from enginehouse.control.discovery import BUGS
from enginehouse.control.guard import Guard
from enginehouse.control.roster import Roster
from enginehouse.core.record import DRAINING, RUNNING
from enginehouse.wire.own_paths import DASHBOARD

#: Bytes of an order; a name has 255 at most.
MAX_ORDER: Final = 4096

#: Changes fields of a service at the registry. Its errors have messages fit to be shown.
Order = Callable[[str, Mapping[str, str]], Awaitable[None]]

log = logging.getLogger(__name__)


class _Drain(msgspec.Struct, forbid_unknown_fields=True):
    service: str
    undo: bool = False


class Actions:
    """`order` is None where there is no registry."""

    def __init__(self, guard: Guard, roster: Roster, order: Order | None) -> None:
        self._guard = guard
        self._roster = roster
        self._order = order

    def routes(self) -> list[Route]:
        """For the app. None of them takes anything but POST."""
        return [Route(DASHBOARD + "/actions/drain", self.drain, methods=["POST"])]

    async def drain(self, request: Request) -> Response:
        """`{"service": NAME, "undo": false}`: it gets no new requests and finishes those it has, or gets some again."""
        if refused := self._guard.refusal(request.headers):
            return error(*refused)
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return error(415, None, "An order is JSON: send it with `Content-Type: application/json`.")
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_ORDER:
                return error(413, "request_too_large", f"An order has {MAX_ORDER} bytes at most.")
        try:
            asked = msgspec.json.decode(body, type=_Drain)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return error(400, None, 'An order looks like {"service": "NAME", "undo": false}.')
        return await self._carry_out(asked)

    async def _carry_out(self, asked: _Drain) -> Response:
        name, status = asked.service, RUNNING if asked.undo else DRAINING
        entry = self._roster.entries.get(name)
        if entry is None:
            return error(404, "service_not_found", f"There is no service {name}; GET /services shows those there are.")
        if entry.source == "static" or self._order is None:
            how = f'{name} is in the router\'s file of static services: give it "status": "{status}" there.'
            return error(409, "service_is_static", how)
        try:
            await self._order(name, {"status": status})
        except BUGS:
            raise
        except Exception as problem:  # whatever a registry's client raises
            log.warning("%s was to be %s through the dashboard: %s", name, status, problem)
            return error(502, "registry_refused", f"{name} could not be changed: {problem}.")
        log.info("%s is %s, ordered through the dashboard", name, status)
        return Response(msgspec.json.encode({"service": name, "status": status}), media_type="application/json")


def error(status: int, code: str | None, message: str) -> Response:
    """A refusal, in the shape of all the router's errors."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Response(msgspec.json.encode(body), status, media_type="application/json")
