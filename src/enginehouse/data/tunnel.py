"""Two connections joined after a protocol switch: bytes go both ways untouched, each side holds the other back.

Owns: joining, back-pressure, the silence deadline, closing both. May not live here: the switch itself (`driver`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from enginehouse.core.outcome import Outcome

if TYPE_CHECKING:
    from enginehouse.data.client_conn import ClientConn
    from enginehouse.data.engine_conn import EngineConn


class Pipe(Protocol):
    """Where a client's connection leads after a protocol switch."""

    def from_client(self, data: bytes) -> None:
        """Bytes of the client."""

    def client_lost(self) -> None:
        """The client closed."""

    def client_full(self) -> None:
        """The client reads too slowly."""

    def client_free(self) -> None:
        """The client caught up."""

    def expire(self, now: float) -> None:
        """Called a few times a second."""

    def stop(self) -> None:
        """The worker stops."""


class Tunnel:
    """A client's and an engine's connection, joined until one of them ends."""

    def __init__(
        self, client: ClientConn, engine: EngineConn, idle_timeout: float, closed: Callable[[Outcome], None]
    ) -> None:
        self._client = client
        self._engine = engine
        self._idle_timeout = idle_timeout
        self._closed = closed
        self._alive = True
        self._due = 0.0
        self._over = False

    def open(self, head: bytes, surplus: bytes) -> None:
        """Tell the client (`head`, "" if it knows already), pass on what both sent ahead, and join."""
        client, engine = self._client, self._engine
        engine.tunnel = self
        early = client.enter_tunnel(self)
        if head or surplus:
            client.transport.write(head + surplus)
        if early:
            engine.transport.write(early)

    def from_client(self, data: bytes) -> None:
        """Client -> engine."""
        self._alive = True
        if not self._engine.lost:
            self._engine.transport.write(data)

    def from_engine(self, data: bytes) -> None:
        """Engine -> client."""
        self._alive = True
        self._client.transport.write(data)

    def client_full(self) -> None:
        """The client reads slower than the engine writes."""
        if not self._engine.lost:
            self._engine.transport.pause_reading()

    def client_free(self) -> None:
        """The client caught up."""
        if not self._engine.lost:
            self._engine.transport.resume_reading()

    def engine_full(self) -> None:
        """The engine reads slower than the client writes."""
        self._client.transport.pause_reading()

    def engine_free(self) -> None:
        """The engine caught up."""
        self._client.transport.resume_reading()

    def client_lost(self) -> None:
        """The client closed."""
        self._end(Outcome.CLIENT_LEFT)

    def engine_lost(self) -> None:
        """The engine closed: the client gets what was written, then the end."""
        self._end(Outcome.ANSWERED)

    def expire(self, now: float) -> None:
        """Called a few times a second: silence in both directions ends the tunnel."""
        if self._alive:
            self._alive = False
            self._due = now + self._idle_timeout
        elif now >= self._due:
            self._end(Outcome.CLIENT_LEFT)

    def stop(self) -> None:
        """The worker stops."""
        self._end(Outcome.CUT_AT_STOP)

    def _end(self, outcome: Outcome) -> None:
        if self._over:
            return
        self._over = True
        self._engine.tunnel = None
        self._closed(outcome)
        self._client.leave_tunnel()
