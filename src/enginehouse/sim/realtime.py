"""`/v1/realtime`: a WebSocket that tells who it is and sends every message back.

Owns the connection from the handshake on. May not live here: frames (wsproto's).
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs

from wsproto import ConnectionType, events
from wsproto.connection import Connection
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from enginehouse.sim.request import Request
from enginehouse.sim.shapes import dump
from enginehouse.sim.state import Sim


def take_over(sim: Sim, transport: asyncio.Transport, request: Request, rest: bytes) -> Realtime | None:
    """Answer the handshake and hand the connection over; None where it is no good handshake."""
    handshake = H11Handshake(ConnectionType.SERVER)
    try:
        handshake.initiate_upgrade_connection(list(request.headers), request.target.decode("latin-1"))
        accepted = events.AcceptConnection(extra_headers=[(b"x-sim-name", sim.name.encode())])
        transport.write(handshake.send(accepted))
    except (LocalProtocolError, RemoteProtocolError):
        return None
    model = parse_qs(request.query).get("model", [sim.config.models[0] if sim.config.models else ""])[0]
    speaker = Realtime(sim, transport)
    transport.set_protocol(speaker)
    session = {"id": sim.new_id("sess_"), "object": "realtime.session", "model": model, "engine": sim.name}
    speaker.say(dump({"type": "session.created", "session": session}).decode())
    if rest:
        speaker.data_received(rest)
    return speaker


class Realtime(asyncio.Protocol):
    """The connection after its handshake."""

    def __init__(self, sim: Sim, transport: asyncio.Transport) -> None:
        self._sim = sim
        self._transport = transport
        self._frames = Connection(ConnectionType.SERVER)
        self._parts: list[Any] = []

    def stop(self) -> None:
        """The engine stops."""
        self._write(self._frames.send(events.CloseConnection(1001)))
        self._transport.close()

    def abort(self) -> None:
        """End now."""
        self._transport.abort()

    def say(self, message: str | bytes) -> None:
        """Send one message."""
        self._write(
            self._frames.send(
                events.BytesMessage(message) if isinstance(message, bytes) else events.TextMessage(message)
            )
        )

    def data_received(self, data: bytes) -> None:
        self._sim.stats.bytes_received += len(data)
        try:
            self._frames.receive_data(data)
            for event in self._frames.events():
                self._happened(event)
        except (LocalProtocolError, RemoteProtocolError):
            self._transport.close()

    def _happened(self, event: events.Event) -> None:
        if isinstance(event, events.Message):
            self._parts.append(event.data)
            if event.message_finished:
                parts, self._parts = self._parts, []
                self.say(type(parts[0])().join(parts))
        elif isinstance(event, events.Ping):
            self._write(self._frames.send(event.response()))
        elif isinstance(event, events.CloseConnection):
            self._write(self._frames.send(event.response()))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._sim.disconnected(self)

    def _write(self, data: bytes) -> None:
        self._sim.stats.bytes_sent += len(data)
        self._transport.write(data)
