"""Answers of engines, good and bad, in reads cut anywhere; and a holder that notes all it is told."""

from __future__ import annotations

import asyncio
import itertools
from typing import NamedTuple, cast

import httptools
from hypothesis import strategies as st

from bench.micro.dry import Wire, services
from enginehouse.core.outcome import Outcome
from enginehouse.data.engine_conn import EngineConn
from enginehouse.data.engine_pool import Upstream
from enginehouse.data.relay import Relay
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.http1 import Framing, answer_framing
from enginehouse.wire.known_heads import KnownHeads

Known = KnownHeads[AnswerHead]


class Sent(NamedTuple):
    """What an engine does about one request."""

    method: bytes
    reads: list[bytes]
    end: str
    """"" (the connection stays), "eof" or "reset"."""


class Story(NamedTuple):
    """What became of one request: everything a client or the pool could tell apart."""

    status: int
    """0: no head came."""
    head: object
    body: bytes
    end: object
    """"whole", ("upgraded", surplus), (outcome, error), or None where it never ended."""
    reusable: bool | None
    """None where it never ended."""
    lost: bool


class Kept(Wire):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        super().write(data)
        self.written.append(data)


class Decoded:
    """What llhttp, as a client has it, reads in the bytes that were written for one answer."""

    def __init__(self, written: bytes) -> None:
        self.body = b""
        self.is_whole = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(written)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_whole = True


class Holder:
    """Relays an answer as the driver does, to a client that speaks HTTP/1.1, and notes how it ended."""

    def __init__(self, conn: EngineConn, method: bytes) -> None:
        self.conn = conn
        self.method = method
        self.client = Kept()
        self.relay: Relay | None = None
        self.status = 0
        self.head: object = None
        self.whole: bytes | None = None
        """The body of an answer that came whole, with a known head."""
        self.end: object = None
        self.framing = Framing.NONE

    @property
    def body(self) -> bytes:
        """What the client has got so far."""
        if self.whole is not None or self.relay is None or self.method == b"HEAD":
            return self.whole or b""
        decoded = Decoded(b"".join(self.client.written))
        assert decoded.is_whole == (self.end == "whole")
        return decoded.body

    def _note(self, head: AnswerHead, length: int | None) -> None:
        assert self.head is None, "two heads for one request"
        headers = [(name, value) for name, value in head.headers if name.lower() != b"content-length"]
        facts = (head.status, head.keep_alive, head.lines, head.chunked, head.content_type, head.server, head.encoded)
        self.status = head.status
        self.head = (headers, facts, head.is_event_stream, head.upgrade, length)

    def answer_whole(self, head: AnswerHead, body: bytes) -> None:
        assert self.method != b"HEAD"
        self._note(head, len(body))
        self.whole, self.end = body, "whole"

    def answer_head(self, head: AnswerHead, length: int | None) -> Framing:
        self._note(head, length)
        framing = self.framing = answer_framing(self.method, head.status, head.chunked, length)
        if head.status != 101:
            self.relay = Relay(cast("asyncio.Transport", self.client), lambda: 1.0)
            self.relay.head(head, framing, length, b"", "1.1", True)
            if framing is Framing.CHUNKED:
                self.conn.chunks = self.relay
        return framing

    def answer_body(self, data: bytes) -> None:
        assert self.end is None, "more after the end"
        assert self.relay is not None, "a body without a head"
        self.relay.body(data)

    def answer_read(self, ended: bool) -> None:
        assert self.end is None, "told twice"
        if ended:
            self.end = "whole"
        if self.relay is not None and ended:
            self.relay.end()
        elif self.relay is not None:
            self.relay.flush()

    def answer_upgraded(self, surplus: bytes) -> None:
        self.end = ("upgraded", surplus)

    def answer_broke(self, outcome: Outcome, error: str) -> None:
        assert self.end is None, "told twice"
        self.end = (outcome, error)
        if self.relay is not None and not self.relay.begun:
            self.relay = None  # unsaid
        elif self.relay is not None and self.framing is not Framing.LENGTH:
            self.relay.flush()


def connection(known: Known, max_head: int = 65536) -> EngineConn:
    conn = EngineConn(Upstream(services(1)[0]), known, max_head)
    conn.connection_made(cast("asyncio.Transport", Wire()))
    return conn


def play(sent: list[Sent], known: Known | None, max_head: int = 65536) -> list[Story]:
    """Answer requests one after the other, on one connection while it is reusable, as a pool does."""
    stories: list[Story] = []
    conn: EngineConn | None = None
    for method, reads, end in sent:
        if conn is None:
            conn = connection(KnownHeads() if known is None else known, max_head)
        holder = Holder(conn, method)
        conn.send(holder, method, b"", b"")
        reusable: bool | None = None
        for data in reads:
            if conn.lost:
                break
            if known is None:
                conn._known = KnownHeads()
            conn.data_received(data)
            if holder.end is not None and reusable is None:
                reusable = holder.end == "whole" and conn.reusable
                if reusable:
                    conn.release()  # back to the pool
                else:
                    conn.abort()
        if end and not conn.lost:
            conn.connection_lost(None if end == "eof" else ConnectionResetError("reset"))
        stories.append(Story(holder.status, holder.head, holder.body, holder.end, reusable, conn.lost))
        if conn.lost or not reusable:
            conn = None
    return stories


# strategies

_PLAIN = [b"Server: uvicorn", b"Content-Type: application/json", b"Connection: keep-alive", b"X-A: b",
          b"Content-Type: text/event-stream", b"Date: now", b"Keep-Alive: timeout=5"]  # fmt: skip
_ODD = [b"Connection: close", b"Server: llama.cpp", b"Content-Encoding: gzip", b"Transfer-Encoding: identity",
        b"Transfer-Encoding: gzip, chunked", b"Content-Length: 5", b"content-length: 5", b"CONTENT-LENGTH: 5",
        b"X: y\r\n folded", b"X: " + b"y" * 2100, b"Upgrade: h2c", b"Connection: Upgrade", b"X: \xff"]  # fmt: skip
_LINES = st.lists(st.sampled_from(_PLAIN * 6 + _ODD), max_size=3)
_STATUS = st.sampled_from([b"HTTP/1.1 200 OK"] * 12 + [
    b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 500 Oops",
    b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 999 ?",
])  # fmt: skip
_INTERIM = st.sampled_from([b""] * 9 + [
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 5\r\n\r\n", b"\r\n",
])  # fmt: skip
_LENGTH = st.sampled_from([b"Content-Length: %d"] * 6 + [b"content-length: %d"] * 4 + [
    b"CONTENT-LENGTH: %d", b"Content-Length:%d", b"Content-Length: 0%d", b"Content-Length: +%d", b"Content-Length: %d ",
    b"Content-Length: 0x%x", b"Content-Length: 000000000%d", b"X: %d",
])  # fmt: skip
_BODIES = st.sampled_from([b"", b"hello", b"hello", b'{"ok":true}', b"\r\n", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
    b"Content-Length: 3\r\n\r\nabc", b"0\r\n\r\n", b"x" * 5000]) | st.binary(max_size=20)  # fmt: skip
_WRONG = st.sampled_from([0] * 14 + [1, -1, 3])
_SURPLUS = st.sampled_from([b""] * 14 + [b"!", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"0\r\n\r\n"])
_SIZES = st.sampled_from(["%x"] * 8 + ["%X", "0%x", "%x;name=value", '%x;a="q;\\"x"'])
_TRAILERS = st.sampled_from([b""] * 6 + [
    b"X-Trailer: 1\r\n", b"Content-Type: x\r\n", b"X-Request-Id: evil\r\nSet-Cookie: a\r\n", b"5: hello\r\n",
])  # fmt: skip
#: Data of a chunk: events, and what could be taken for framing.
DATA = st.sampled_from([b'data: {"n":1}\n\n', b"data: [DONE]\n\n", b"\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"a" * 16,
                        b"\r\n0\r\n\r\n", b"x" * 300, b"x" * 4086, b"x" * 4090, b"x" * 5000]) | st.binary(
    min_size=1, max_size=40
)  # fmt: skip


@st.composite
def chunked(draw: st.DrawFn, odd: bool = True) -> tuple[list[bytes], list[bytes]]:
    """The chunks of a body, and their data. `odd`: sizes in other spellings, extensions and trailers, too."""
    data = draw(st.lists(DATA, max_size=6))
    sizes = [(draw(_SIZES) if odd else "%x") % len(piece) for piece in data]
    chunks = [b"%b\r\n%b\r\n" % (size.encode(), piece) for size, piece in zip(sizes, data, strict=True)]
    return [*chunks, b"0\r\n" + (draw(_TRAILERS) if odd else b"") + b"\r\n"], data


@st.composite
def reads_of(draw: st.DrawFn, head: bytes, chunks: list[bytes]) -> list[bytes]:
    """A stream in reads: mostly one for each chunk, some with several, some cut."""
    reads = [head]
    for chunk in chunks:
        how = draw(st.sampled_from(["alone"] * 5 + ["with the last", "cut"]))
        if how == "with the last":
            reads[-1] += chunk
        elif how == "cut":
            reads += draw(cut(chunk, ("anywhere", "at CRLF")))
        else:
            reads.append(chunk)
    return reads


@st.composite
def cut(draw: st.DrawFn, data: bytes, ways: tuple[str, ...] = ("whole", "whole", "anywhere", "at CRLF")) -> list[bytes]:
    """The same bytes in one or more reads."""
    how = draw(st.sampled_from(ways))
    if how == "anywhere" and len(data) > 1:
        places = draw(st.sets(st.integers(1, len(data) - 1), max_size=5))
    elif how == "at CRLF":
        # Where an engine flushes, and just beside it.
        ends = [at + draw(st.sampled_from([0, 0, 0, 0, 1, 2, -1])) for at in _line_ends(data) if draw(st.booleans())]
        places = {at for at in ends if 0 < at < len(data)}
    else:
        places = set()
    marks = [0, *sorted(places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(marks)]


def _line_ends(data: bytes) -> list[int]:
    """Behind each CRLF; of a very long list the first."""
    return [at + 2 for at in range(len(data) - 1) if data[at : at + 2] == b"\r\n"][:40]


@st.composite
def _exchanges(draw: st.DrawFn) -> list[list[Sent]]:
    """Answers on some connections; few heads, so that most of them come again."""
    heads = draw(st.lists(st.tuples(_STATUS, _LINES, _LENGTH, st.booleans()), min_size=1, max_size=3))
    made = []
    for _ in range(draw(st.integers(1, 3))):
        sent = []
        for _ in range(draw(st.integers(1, 5))):
            status, lines, length, is_chunked = draw(st.sampled_from(heads))
            body = draw(_BODIES)
            if is_chunked and draw(st.booleans()):
                body = b"".join(draw(chunked())[0])
                lines = [*lines, b"Transfer-Encoding: chunked"]
            else:
                lines = [*lines, length % max(len(body) + draw(_WRONG), 0)]
            data = draw(_INTERIM) + b"\r\n".join([status, *lines]) + b"\r\n\r\n" + body + draw(_SURPLUS)
            method = draw(st.sampled_from([b"POST"] * 8 + [b"GET", b"HEAD"]))
            end = draw(st.sampled_from([""] * 8 + ["eof", "reset"]))
            sent.append(Sent(method, draw(cut(data)), end))
        made.append(sent)
    return made


exchanges = _exchanges()
