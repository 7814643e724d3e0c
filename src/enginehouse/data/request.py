"""A request as the client sent it. Owns the parsed pieces; nothing here decides anything."""

from __future__ import annotations

from enginehouse.wire.forward import Facts
from enginehouse.wire.http1 import Headers


class Request:
    """Head and body of one request. `headers` are as sent, in order; `body` is whole before anything is chosen."""

    __slots__ = ("body", "facts", "headers", "keep_alive", "method", "peer", "target", "version", "websocket")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.method = b""
        self.target = b""
        self.version = "1.1"
        self.headers: Headers = []
        self.facts = Facts()
        self.body = b""
        self.keep_alive = True
        self.websocket = False
