"""The HTTP server below the registry's application: uvicorn, with the deadlines and the bounds it lacks.

Owns: one connection (`Connection`: a client that sends or reads too slowly is cut, errors of framing have OpenAI's
shape) and a `Server` that ends quickly although followers are connected. May not live here: paths, JSON of services.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import h11
import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from enginehouse.core.units import MIB
from enginehouse.registry.http import BUSY, MAX_HEAD, ApiError, new_request_id

#: Seconds from the first byte of a request to its last one, and from connecting to the first one.
REQUEST_DEADLINE = 30.0
#: Seconds for which a client may read nothing of what waits for it.
READING_DEADLINE = 30.0
#: Seconds for which an idle connection is kept: longer than the time between two heartbeats.
KEEPALIVE = 75
#: Seconds for which, and bytes for as many of which, a refused client is still listened to: closing at once, with bytes
#: of his unread, would reset the connection and with it the answer on its way (RFC 9112, 9.6).
LINGER = 2.0
LINGER_BYTES = 4 * MIB
#: Seconds that running requests get when the registry stops.
STOP_DEADLINE = 3
#: Connections besides those of followers.
MAX_CONNECTIONS = 8192

_NOT_HTTP = ApiError(400, f"The request is not valid HTTP/1.1, or its head is larger than {MAX_HEAD} bytes")
_TOO_SLOW = ApiError(408, "The request did not arrive in time", code="request_timeout")
_TOO_MANY = ApiError(503, "Too many connections; try again", kind=BUSY, code="server_is_overloaded")
_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 503: b"Service Unavailable"}


class Connection(H11Protocol):
    """One client. h11 and not httptools, because it ignores an upgrade it does not know and bounds the head."""

    max_connections = MAX_CONNECTIONS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._unread: int | None = None  # bytes still to be ignored of a client that was refused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(_TOO_MANY)
        else:
            self._arriving = self.loop.call_later(REQUEST_DEADLINE, self._refuse, _TOO_SLOW)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._unread is None:
            super().data_received(data)
            self._time_arrival()
            return
        self._unread -= len(data)
        if self._unread < 0:
            self.transport.abort()

    def _time_arrival(self) -> None:
        """The deadline runs while a request has begun and is not complete."""
        if self._unread is not None or self.transport.is_closing():
            return
        state = self.conn.their_state
        arrives = state is h11.SEND_BODY or (state is h11.IDLE and bool(self.conn.trailing_data[0]))
        if not arrives and self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None
        elif arrives and self._arriving is None:
            self._arriving = self.loop.call_later(REQUEST_DEADLINE, self._refuse, _TOO_SLOW)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self.loop.call_later(READING_DEADLINE, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP. Called by uvicorn, with words of its own that say no more than that."""
        self._refuse(_NOT_HTTP)

    def _refuse(self, error: ApiError) -> None:
        """Answer without the application, and close. Where an answer has begun already, only close."""
        self._cancel_timers()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing():
            body = msgspec.json.encode({"error": error.body})
            head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
            named = head % (error.status, _REASONS[error.status], len(body), new_request_id().encode())
            self.transport.write(named + b"connection: close\r\n\r\n" + body)
            self.transport.write_eof()
            self._unread = LINGER_BYTES
            self._arriving = self.loop.call_later(LINGER, self.transport.abort)
        else:
            self.transport.abort()

    def _cancel_timers(self) -> None:
        for timer in (self._arriving, self._reading):
            if timer is not None:
                timer.cancel()
        self._arriving = self._reading = None


class Server(uvicorn.Server):
    """Serves one application on one listening socket until `should_exit`."""

    def __init__(self, app: ASGIApp, max_connections: int, ending: Callable[[], None]) -> None:
        """`ending` is called when the server begins to stop: what never ends by itself has to end then."""
        connection = type("Connection", (Connection,), {"max_connections": max_connections})
        super().__init__(
            uvicorn.Config(
                app,
                http=connection,
                ws="none",
                lifespan="off",
                loop="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEPALIVE,
                timeout_graceful_shutdown=STOP_DEADLINE,
                h11_max_incomplete_event_size=MAX_HEAD,
            )
        )
        self._ending = ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to whoever runs us: uvicorn would end the process by the signal it got."""
        yield
