"""An answer on its way to the client: bytes in, bytes out, one write per read of the engine.

Owns: re-framing (chunked, length, until close), watching a stream's tail, the end of a stream that broke, ids found
in an answer's first bytes. May not live here: when to relay, what to try next (`driver`, `machines.exchange`).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final

from enginehouse.core.outcome import Outcome
from enginehouse.data.measures import Histogram
from enginehouse.data.replay import Replay
from enginehouse.wire import errors, sse
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.errors import Dialect
from enginehouse.wire.http1 import LAST_CHUNK, Framing
from enginehouse.wire.tail import Tail

#: First bytes of an answer in which the id that the engine made is looked for.
ID_PREFIX: Final = 16 * 1024
#: How a chunk ends that holds whole events, as nearly all do.
_EVENT_END: Final = b"\n\n\r\n"
_CHUNKED: Final = Framing.CHUNKED


def whole_answer(head: AnswerHead, ours: bytes, version: str, keep: bool, body: bytes) -> bytes:
    """An answer of which everything is there, framed by its length. `ours` are our own header lines."""
    return b"%b%bcontent-length: %d\r\n%b\r\n%b" % (head.lines, ours, len(body), _connection(version, keep), body)


def _connection(version: str, keep: bool) -> bytes:
    """What the client is told about its connection."""
    if not keep:
        return b"connection: close\r\n"
    return b"connection: keep-alive\r\n" if version == "1.0" else b""


class Relay:
    """Everything between the engine's parser and the client's transport for one answer that comes in pieces."""

    __slots__ = (
        "_chunked",
        "_clock",
        "_events",
        "_framing",
        "_half",
        "_last_read",
        "_news",
        "_out",
        "_prefix",
        "_transport",
        "_write",
        "begun",
        "first_read",
        "found_id",
        "gaps",
        "keep",
        "replay",
        "sent",
        "tail",
    )

    def __init__(self, transport: asyncio.Transport, clock: Callable[[], float]) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._last_read = 0.0
        self.first_read = 0.0
        """When the first part of an event stream's body was passed on, or the first token, where that was looked for;
        monotonic seconds, 0.0 before that."""
        self._news = False
        """A part of the body is queued."""
        self._transport = transport
        self._write: Callable[[bytes], None] = transport.write
        self._out: list[bytes] = []
        self._framing = Framing.NONE
        self._chunked = False
        self._events: sse.Scanner | None = None
        self._prefix: bytearray | None = None
        self._half = b""
        self.replay: Replay | None = None
        """Keeps what is passed on, where another engine could go on with it."""
        self.begun = False
        """Something was written: the client knows of an answer."""
        self.tail: Tail | None = None
        """Keeps the last bytes, where something is looked for in them at the end."""
        self.found_id = ""
        self.keep = True
        """False: the connection to the client ends with this answer."""
        self.sent = 0
        """Bytes of the body so far, without framing."""
        self.gaps: Histogram | None = None
        """Where the times between two reads that brought something are counted, for event streams."""

    def head(
        self, head: AnswerHead, framing: Framing, length: int | None, ours: bytes, version: str, keep: bool
    ) -> None:
        """Queue the head. `ours` are our own header lines; `version` and `keep`: of the client's connection."""
        self._framing = framing
        end = b""
        if framing in (Framing.CHUNKED, Framing.EOF):
            if version == "1.1":
                self._chunked = True
                end = b"transfer-encoding: chunked\r\n"
            else:
                keep = False
        elif length is not None and head.status != 204:
            # Also on HEAD and 304, where it tells the length of what is not sent; never on 204 (RFC 9110 8.6).
            end = b"content-length: %d\r\n" % length
        self.keep = keep
        self._out.append(b"%b%b%b%b\r\n" % (head.lines, ours, end, _connection(version, keep)))

    def watch_events(self, named: bool) -> None:
        """The answer is an event stream (`named`: see `sse.Scanner`)."""
        self._events = sse.Scanner(named)

    def watch_for_id(self) -> None:
        """Look for an id in the first bytes (`found_id`)."""
        self._prefix = bytearray()

    @property
    def takes_chunks(self) -> bool:
        """Whether chunks may be passed on as they are, framing and all (`chunk`)."""
        return self._chunked and self._framing is _CHUNKED and self._prefix is None

    def chunk(self, chunk: bytes, start: int) -> None:
        """Write one read that is one chunk, its data being `chunk[start:-2]`; what came before was flushed."""
        replay = self.replay
        if replay is not None and (self._half or chunk[-4:] != _EVENT_END):
            self.body(chunk[start:-2])
            self.flush()
            return
        self._write(chunk)
        if self.gaps is not None:
            self._count_gap(self.gaps)
        if self.tail is not None:
            self.tail.add(chunk)
        self.sent += len(chunk) - start - 2
        if replay is not None:
            replay.keep(chunk, self.sent)
        if self._events is not None:
            self._events.feed_chunk(chunk, start)

    def body(self, data: bytes) -> None:
        """Queue some bytes of the body. Of a stream that another engine could go on with: whole events only."""
        if self.replay is not None:
            if self._half:
                data = self._half + data
            whole = sse.whole_events(data)
            self._half = data[whole:]
            if not whole:
                return
            data = data[:whole]
            self.replay.keep((data,), self.sent + whole)
        self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        self._news = True
        self.sent += len(data)
        if self.tail is not None:
            self.tail.add(data)
        if self._chunked:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)
        if self._events is not None:
            self._events.feed(data)
        if self._prefix is not None:
            self._prefix += data[:ID_PREFIX]
            self.found_id = sse.find_id(bytes(self._prefix)) or ""
            if self.found_id or len(self._prefix) >= ID_PREFIX:
                self._prefix = None

    def flush(self) -> None:
        """Write what is queued, at once."""
        if self._out:
            self.begun = True
            self._transport.write(b"".join(self._out))
            self._out.clear()
            if self.gaps is not None and self._news:
                self._news = False
                self._count_gap(self.gaps)

    def _count_gap(self, gaps: Histogram) -> None:
        """0.1 µs of the 6 that a chunk costs. A mean for each stream would cost nothing, and hide every stall."""
        now = self._clock()
        if self._last_read:
            gaps.add(now - self._last_read)
        else:
            self.first_read = now
        self._last_read = now

    @property
    def failed(self) -> bool:
        """An answer of any shape is passed on."""
        return False

    @property
    def cut_short(self) -> bool:
        """An event stream that ended with its connection, without its final event: broken, though it looks ended."""
        return self._framing is Framing.EOF and self._events is not None and not self._events.finished

    def end(self) -> None:
        """The answer is complete."""
        if self._half:
            self._pass_on(self._half)
            self._half = b""
        if self._chunked:
            self._out.append(LAST_CHUNK)
        self.flush()

    def forget_half(self) -> None:
        """The engine died within an event: the client does not get its beginning."""
        self._half = b""

    def break_off(self, outcome: Outcome, dialect: Dialect) -> None:
        """The answer broke: say so where an event can be framed, else end so that no client takes it for whole."""
        self.keep = False
        self.forget_half()
        if self._framing is Framing.LENGTH:
            # What this read brought might make up the length that was announced; so would an event of ours.
            self._out.clear()
        elif self._events is not None and self._events.at_boundary:
            if not self._events.finished:
                event = errors.stream_break(outcome, dialect)
                self.sent += len(event)
                self._out += (b"%x\r\n" % len(event), event, b"\r\n") if self._chunked else (event,)
            self.end()
        elif self._chunked:
            self.flush()  # no last chunk: the client's parser reports it, and what was sent still arrives
        else:
            _reset(self._transport)


def _reset(transport: asyncio.Transport) -> None:
    """Close with RST: where the end of the connection is the end of the answer, a FIN would say that it is whole."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
