"""One connection to an engine: bytes to answer events for the driver that holds it.

Owns: the response parser and what llhttp leaves to its user (HEAD, end of file, 1xx, surplus bytes, trailers).
May not live here: what is done with an answer (`driver`, `relay`), which connections are kept (`engine_pool`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import httptools

from enginehouse.core.outcome import Outcome
from enginehouse.wire.http1 import Framing, Headers

if TYPE_CHECKING:
    from enginehouse.data.tunnel import Tunnel


#: A body up to this size goes out in one write with its head.
_TINY: Final = 64 * 1024


class Holder(Protocol):
    """Who holds a connection while a request is on it."""

    def answer_head(self, status: int, headers: Headers) -> Framing:
        """The head is complete. Returns how the body is framed."""

    def answer_body(self, data: bytes) -> None:
        """Some bytes of the body, decoded from their framing."""

    def answer_read(self, ended: bool) -> None:
        """Everything of one read was told; `ended`: the answer is complete."""

    def answer_upgraded(self, surplus: bytes) -> None:
        """101: the connection now carries something else; `surplus` came behind the head."""

    def answer_broke(self, outcome: Outcome, error: str) -> None:
        """The connection died or sent what is not HTTP."""


class EngineConn(asyncio.Protocol):
    """A connection that is idle in the pool, held by one driver, or the far side of a tunnel."""

    __slots__ = (
        "_complete",
        "_framing",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_keep_alive",
        "_max_head",
        "_method",
        "_parser",
        "_surplus",
        "holder",
        "idle_since",
        "key",
        "lost",
        "transport",
        "tunnel",
        "uses",
    )

    def __init__(self, key: tuple[int, int], max_head: int) -> None:
        self.key = key
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made, before any use
        self.holder: Holder | None = None
        self.tunnel: Tunnel | None = None
        self.uses = 0
        self.idle_since = 0.0
        self.lost = False
        self._max_head = max_head
        self._parser = httptools.HttpResponseParser(self)
        self._method = b""
        self._reset()

    def _reset(self) -> None:
        self._headers: Headers = []
        self._head_bytes = 0
        self._in_head = True
        self._complete = False
        self._surplus = False
        self._keep_alive = False
        self._framing = Framing.NONE

    # -- by the driver -------------------------------------------------------------------------------------------------

    def send(self, holder: Holder, method: bytes, head: bytes, body: bytes) -> None:
        """Send a request and hold the connection until its answer is complete."""
        self.holder = holder
        self.uses += 1
        self._method = method
        self._reset()
        if len(body) <= _TINY:
            self.transport.write(head + body if body else head)
        else:
            self.transport.write(head)
            self.transport.write(body)

    @property
    def reusable(self) -> bool:
        """True after a complete answer that leaves the connection clean."""
        return (
            self._complete
            and not self._surplus
            and not self.lost
            and self._framing is not Framing.EOF
            and not (self._framing is Framing.NONE and self._method == b"HEAD")
            and self._keep_alive
            and self.transport.get_write_buffer_size() == 0
        )

    def release(self) -> None:
        """The holder is done with it; late events reach nobody."""
        self.holder = None

    def abort(self) -> None:
        """Close at once: the engine sees it within its next read."""
        self.holder = None
        self.lost = True
        if self.transport is not None:
            self.transport.abort()

    # -- asyncio -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Parse one read and tell the holder once at its end."""
        if self.tunnel is not None:
            self.tunnel.from_engine(data)
            return
        holder = self.holder
        if holder is None:
            # RFC 9112 9.2 leaves bytes without a request undefined: they must never answer the next one.
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            holder.answer_upgraded(data[upgrade.args[0] :])
            return
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserError as error:
            if not self._complete:
                holder.answer_broke(Outcome.BAD_RESPONSE, str(error))
                return
            self._surplus = True
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._max_head:
                holder.answer_broke(Outcome.BAD_RESPONSE, f"its head is larger than {self._max_head} bytes")
                return
        if self.holder is holder and not (self._in_head and not self._complete):
            holder.answer_read(self._complete)

    def connection_lost(self, exc: Exception | None) -> None:
        """An end of file ends an answer without length, and breaks every other one."""
        self.lost = True
        if self.tunnel is not None:
            self.tunnel.engine_lost()
            return
        holder, self.holder = self.holder, None
        if holder is None:
            return
        if exc is None and self._framing is Framing.EOF and not self._in_head:
            self._complete = True
            holder.answer_read(True)
        else:
            holder.answer_broke(Outcome.BROKE_BEFORE_HEAD, str(exc) if exc else "it closed the connection")

    def pause_writing(self) -> None:
        """Back-pressure towards the client, for tunnels; a request's body is in memory anyway."""
        if self.tunnel is not None:
            self.tunnel.engine_full()

    def resume_writing(self) -> None:
        """The engine reads again."""
        if self.tunnel is not None:
            self.tunnel.engine_free()

    # -- httptools -----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A second message behind a complete one is surplus."""
        if self._complete:
            self._surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Headers after the head are trailers: dropped (RFC 9110 6.5.1)."""
        if self._in_head and not self._complete:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Tell the holder, unless it is interim (1xx)."""
        if self._complete or self.holder is None:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self._in_head = False
        self._keep_alive = bool(self._parser.should_keep_alive())  # llhttp forgets it at the end of the message
        self._framing = self.holder.answer_head(status, self._headers)
        self._complete = self._framing is Framing.NONE

    def on_body(self, data: bytes) -> None:
        """Pass on, unless the answer may not have a body (HEAD)."""
        if self._complete or self.holder is None:
            self._surplus = True
        else:
            self.holder.answer_body(data)

    def on_message_complete(self) -> None:
        """The end of an interim answer starts the wait for the final one."""
        if self._in_head:
            self._headers = []
            self._head_bytes = 0
        else:
            self._complete = True
