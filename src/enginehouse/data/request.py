"""A request as the client sent it. Owns the parsed pieces; nothing here decides anything."""

from __future__ import annotations

from enginehouse.wire.request_head import NO_HEAD, RequestHead
from enginehouse.wire.trace_context import Trace


class Request:
    """Head and body of one request; the body is whole before anything is chosen."""

    __slots__ = ("begun", "body", "head", "peer", "trace", "websocket")

    def __init__(self, peer: str, begun: float, head: RequestHead = NO_HEAD, body: bytes = b"") -> None:
        self.peer = peer
        self.begun = begun
        """When its first byte was read, monotonic seconds."""
        self.head = head
        self.body = body
        self.websocket = False
        self.trace: Trace | None = None
        """Its span, where it is traced."""

    def overhead(self, sent: float, waited: float) -> float:
        """Seconds that the router added until it was sent for the first time; those it had to wait are left out."""
        return max(0.0, sent - self.begun - waited)

    @property
    def keep_alive(self) -> bool:
        """Whether the client's connection may carry another request."""
        return self.head.keep_alive and not self.websocket
