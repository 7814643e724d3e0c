"""One connection to an engine: bytes to answer events for the driver that holds it.

Owns: the response parser, the two shorter ways round it (a whole answer with a known head, a read that is one chunk),
and what llhttp leaves to its user (HEAD, end of file, 1xx, surplus bytes, trailers).
May not live here: what is done with an answer (`driver`, `relay`), which connections are kept (`engine_pool`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import httptools

from enginehouse.core.outcome import Outcome
from enginehouse.data.relay import Relay
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.http1 import Framing, Headers
from enginehouse.wire.known_heads import KnownHeads
from enginehouse.wire.one_chunk import data_start

if TYPE_CHECKING:
    from enginehouse.data.engine_pool import Upstream
    from enginehouse.data.tunnel import Tunnel


#: A body up to this size goes out in one write with its head.
_TINY: Final = 64 * 1024
#: Requests after which llama.cpp closes a connection (cpp-httplib's keep-alive maximum, less one).
_LLAMA_CPP_USES: Final = 99
# Members of an enumeration are looked up by name each time; these are on the way of every request.
_LENGTH: Final = Framing.LENGTH
_EOF: Final = Framing.EOF
_NONE: Final = Framing.NONE


class Holder(Protocol):
    """Who holds a connection while a request is on it."""

    def answer_whole(self, head: AnswerHead, body: bytes) -> None:
        """A whole answer, framed by its length, came in one read. Never to HEAD, never without a body."""

    def answer_head(self, head: AnswerHead, length: int | None) -> Framing:
        """The head is complete. Returns how the body is framed."""

    def answer_body(self, data: bytes) -> None:
        """Some bytes of the body, decoded from their framing."""

    def answer_read(self, ended: bool) -> None:
        """Everything of one read was told; `ended`: the answer is complete."""

    def answer_upgraded(self, surplus: bytes) -> None:
        """101: the connection now carries something else; `surplus` came behind the head."""

    def answer_broke(self, outcome: Outcome, error: str) -> None:
        """The connection died or sent what is not HTTP."""


class EngineConn:
    """A connection that is idle in the pool, held by one driver, or the far side of a tunnel.

    An `asyncio.Protocol` by its methods.
    """

    __slots__ = (
        "_at_chunk",
        "_body_bytes",
        "_complete",
        "_framing",
        "_head",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_known",
        "_max_head",
        "_method",
        "_parser",
        "_read",
        "_surplus",
        "chunks",
        "holder",
        "idle_since",
        "lost",
        "transport",
        "tunnel",
        "upstream",
        "uses",
    )

    def __init__(self, upstream: Upstream, known: KnownHeads[AnswerHead], max_head: int) -> None:
        self.upstream = upstream
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made, before any use
        self.holder: Holder | None = None
        self.chunks: Relay | None = None
        """Takes reads that are one chunk each, if the holder wants them passed on as they are."""
        self.tunnel: Tunnel | None = None
        self.uses = 0
        self.idle_since = 0.0
        self.lost = False
        self._known = known
        self._max_head = max_head
        self._parser: httptools.HttpResponseParser | None = None
        self._method = b""
        self._headers: Headers = []
        self._head: AnswerHead | None = None
        self._head_bytes = 0
        self._body_bytes = 0
        self._read = b""
        self._in_head = False
        self._complete = False
        self._surplus = False
        self._at_chunk = False
        self._framing = Framing.NONE

    # -- by the driver -------------------------------------------------------------------------------------------------

    def send(self, holder: Holder, method: bytes, head: bytes, body: bytes) -> None:
        """Send a request and hold the connection until its answer is complete."""
        self.holder = holder
        self.uses += 1
        self._method = method
        self.chunks = None
        self._head = None
        self._in_head = True
        self._complete = self._surplus = self._at_chunk = False
        self._head_bytes = self._body_bytes = 0
        if len(body) <= _TINY:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    @property
    def reusable(self) -> bool:
        """True after a complete answer that leaves the connection clean."""
        head = self._head
        return (
            self._complete
            and head is not None
            and head.keep_alive
            and not (head.server == b"llama.cpp" and self._llama_cpp_closes(head))
            and not self._surplus
            and not self.lost
            and self._framing is not _EOF
            and not (self._framing is _NONE and self._method == b"HEAD")
            and self.transport.get_write_buffer_size() == 0
        )

    def _llama_cpp_closes(self, head: AnswerHead) -> bool:
        """It closes after a stream, an error and its 100th answer, whatever its Keep-Alive header says."""
        return head.is_event_stream or head.status >= 400 or self.uses >= _LLAMA_CPP_USES

    def release(self) -> None:
        """The holder is done with it; late events reach nobody."""
        self.holder = self.chunks = None

    def abort(self) -> None:
        """Close at once: the engine sees it within its next read."""
        self.holder = self.chunks = None
        self.lost = True
        if self.transport is not None:
            self.transport.abort()

    # -- asyncio -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; it writes at once, not at the end of the loop's turn."""
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        """Parse one read and tell the holder once at its end."""
        if self.tunnel is not None:
            self.tunnel.from_engine(data)
            return
        holder = self.holder
        if holder is None:
            # RFC 9112 9.2 leaves bytes without a request undefined: they must never answer the next one.
            self.abort()
        elif self._at_chunk:
            start = data_start(data) if self.chunks is not None else 0
            if start and self.chunks is not None:
                self.chunks.chunk(data, start)
            else:
                self._parse(holder, data)
        elif self._head_bytes or self._method == b"HEAD" or not self._take(holder, data):
            self._parse(holder, data)

    def _take(self, holder: Holder, data: bytes) -> bool:
        """Tell the holder of a whole answer with a known head, if the read, the answer's first, is one."""
        head, start = self._known.find(data)
        if head is None:
            self._read = data
            return False
        self._in_head = False
        self._complete = True
        self._head = head
        self._framing = _LENGTH
        holder.answer_whole(head, data[start:])
        return True

    def _parse(self, holder: Holder, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpResponseParser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.holder is holder:
                holder.answer_upgraded(data[upgrade.args[0] :])
            return
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserError as error:
            if self._nonsense(holder, str(error)):
                return
        finally:
            self._read = b""
        self._head_bytes += len(data)
        if self._at_chunk:
            # Behind the end of a chunk the parser may have taken a part of the next one's size line.
            self._at_chunk = data.endswith(b"\r\n")
        if self._in_head:
            if self._head_bytes > self._max_head:
                holder.answer_broke(Outcome.BAD_RESPONSE, f"its head is larger than {self._max_head} bytes")
                return
        if self.holder is holder and not (self._in_head and not self._complete):
            holder.answer_read(self._complete)

    def _nonsense(self, holder: Holder, error: str) -> bool:
        """Something is no HTTP: it breaks the answer, or is surplus behind it. True: there is nothing left to tell."""
        if self.holder is not holder:
            return True  # the head alone ended the attempt
        if not self._complete:
            holder.answer_broke(Outcome.BAD_RESPONSE, error)
            return True
        self._surplus = True
        if self._framing is _LENGTH:
            # No other answer follows, so this one is longer than it says: as it stands it may be cut short.
            holder.answer_broke(Outcome.BAD_RESPONSE, "it sent more than its Content-Length announced")
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """An end of file ends an answer without length, and breaks every other one."""
        self.lost = True
        self._parser = None  # it holds this object
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
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Headers after the head are trailers: dropped (RFC 9110 6.5.1)."""
        if self._in_head and not self._complete:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Tell the holder, unless it is interim (1xx)."""
        parser = self._parser
        if self._complete or self.holder is None or parser is None:
            return
        status = parser.get_status_code()
        if status < 200 and status != 101:
            if status < 100:  # which llhttp lets pass
                self.holder.answer_broke(Outcome.BAD_RESPONSE, f"its status is {status:03}")
            return
        self._in_head = False
        # Asked now, because llhttp forgets at the end of the message whether the connection stays.
        head = self._head = AnswerHead(status, bool(parser.should_keep_alive()), self._headers)
        length = next((int(value) for name, value in self._headers if name.lower() == b"content-length"), None)
        self._framing = self.holder.answer_head(head, length)
        self._complete = self._framing is Framing.NONE
        self._at_chunk = self._framing is Framing.CHUNKED

    def on_chunk_header(self) -> None:
        """A chunk has begun."""
        self._at_chunk = False

    def on_body(self, data: bytes) -> None:
        """Pass on, unless the answer may not have a body (HEAD)."""
        if self._complete or self.holder is None:
            self._surplus = True
        else:
            self._body_bytes += len(data)
            self.holder.answer_body(data)

    def on_chunk_complete(self) -> None:
        """A chunk has ended; another one may begin."""
        self._at_chunk = not self._complete

    def on_message_complete(self) -> None:
        """The end of an interim answer starts the wait for the final one."""
        self._at_chunk = False
        if self._in_head:
            self._head_bytes = 0
            return
        self._complete = True
        if self._read and self._head is not None and self._framing is Framing.LENGTH:
            self._known.learn(self._read, self._body_bytes, self._head)
