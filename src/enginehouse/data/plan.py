"""How a request is to be proxied, and its head as a service gets it.

Owns `Plan`. May not live here: how a plan is made (`intake`), who carries it out (`driver`).
"""

from __future__ import annotations

from typing import Final

from enginehouse.core.ask import Ask
from enginehouse.data.engine_pool import Upstream
from enginehouse.data.request import Request
from enginehouse.wire.paths import Route

#: RFC 9110 8.6: a method that expects a body says its length even when it is 0.
_WITH_BODY: Final = frozenset((b"POST", b"PUT", b"PATCH"))


class Plan:
    """How a request is to be proxied."""

    __slots__ = ("ask", "body", "forwarded_for", "own", "request", "request_id", "route", "switched", "target")

    def __init__(
        self,
        request: Request,
        route: Route,
        request_id: bytes,
        forwarded_for: bytes,
        own: bool,
        ask: Ask,
        target: bytes,
        body: bytes,
        switched: bool = False,
    ) -> None:
        self.request = request
        self.route = route
        self.request_id = request_id
        self.forwarded_for = forwarded_for
        self.own = own
        """For the router's own paths: goes to control."""
        self.ask = ask
        self.target = target
        self.body = body
        self.switched = switched
        """The client's side is a WebSocket already."""

    def with_body(self, body: bytes) -> Plan:
        """The same with another body."""
        return Plan(
            self.request,
            self.route,
            self.request_id,
            self.forwarded_for,
            self.own,
            self.ask,
            self.target,
            body,
            self.switched,
        )

    def engine_head(self, upstream: Upstream) -> bytes:
        """The head as this service gets it: the client's, less what is not for it, with what we add."""
        head = self.request.head
        host_lines = upstream.host_lines
        if self.own and head.hosts:  # control asks whether a page of another site has sent it
            host_lines = b" HTTP/1.1\r\nHost: %b\r\n" % head.hosts[0]
        extra = upstream.authorization
        lines = head.unauthorized_lines if extra else head.lines
        if self.request.websocket:
            extra += b"connection: Upgrade\r\nupgrade: websocket\r\n"
        elif self.body or head.method in _WITH_BODY:
            extra += b"content-length: %d\r\n" % len(self.body)
        return b"".join(
            (
                head.method,
                b" ",
                upstream.prefix,
                self.target,
                host_lines,
                lines,
                b"x-request-id: ",
                self.request_id,
                b"\r\nx-forwarded-for: ",
                self.forwarded_for,
                b"\r\n",
                extra,
                b"\r\n",
            )
        )
