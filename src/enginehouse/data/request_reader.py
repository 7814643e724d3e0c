"""A client's bytes to whole requests: head, body, and what can be refused by looking at them alone.

Owns: the request parser, the shorter way for heads that repeat (`wire.known_heads`), the limits of head and body, what
llhttp leaves to its user (two Hosts, faulty framing, upgrades that nobody asked it to judge). May not live here: when a
request is answered, deadlines (`client_conn`), anything about models.
"""

from __future__ import annotations

import enum
from io import BytesIO
from typing import TYPE_CHECKING, Final, Protocol

import httptools

from enginehouse.core.outcome import Outcome
from enginehouse.data.request import Request
from enginehouse.wire import http1
from enginehouse.wire.http1 import Headers
from enginehouse.wire.known_heads import MAX_DIGITS, KnownHeads
from enginehouse.wire.request_head import NO_HEAD, RequestHead

if TYPE_CHECKING:
    from enginehouse.core.config.router import RouterConfig


class Stage(enum.Enum):
    """What is being read."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


_NOTHING: Final = Stage.NOTHING


class Sink(Protocol):
    """Who takes the requests."""

    def request_whole(self, request: Request, surplus: bytes) -> None:
        """A request is complete. `surplus`: bytes behind a protocol switch."""

    def request_refused(self, request: Request, outcome: Outcome, message: str) -> None:
        """A request cannot be accepted; nothing is read after it."""

    def continue_wanted(self) -> None:
        """The client waits for `100 Continue`, and may have it."""

    def take_body(self, size: int) -> bool:
        """Reserve bytes for a body; False when all bodies together are too large already."""

    def bug(self, error: BaseException) -> None:
        """An error that is ours happened while reading."""


class _Nobody:
    """The sink of a reader that is closed: nothing reaches it any more."""

    def request_whole(self, request: Request, surplus: bytes) -> None:
        """Nothing is done."""

    def request_refused(self, request: Request, outcome: Outcome, message: str) -> None:
        """Nothing is done."""

    def continue_wanted(self) -> None:
        """Nothing is done."""

    def take_body(self, size: int) -> bool:
        """There is no room."""
        return False

    def bug(self, error: BaseException) -> None:
        """Nobody is there to be told."""


_NOBODY: Final = _Nobody()


class RequestReader:
    """Parses one connection's requests, one after the other."""

    __slots__ = (
        "_config",
        "_first",
        "_head_bytes",
        "_head_read",
        "_headers",
        "_known",
        "_left",
        "_more",
        "_parser",
        "_read",
        "_read_size",
        "_request",
        "_sink",
        "_target",
        "body_bytes",
        "over",
        "peer",
        "stage",
    )

    def __init__(self, sink: Sink, config: RouterConfig, known: KnownHeads[RequestHead]) -> None:
        self._sink: Sink = sink
        self._config = config
        self._known = known
        self.peer = ""
        """The client's address."""
        self._parser: httptools.HttpRequestParser | None = None
        self._request = Request("", 0.0)
        self._target = b""
        self._headers: Headers = []
        self._head_bytes = 0
        """Of the lines of the head that are complete."""
        self._head_read = 0
        """Of the reads that brought nothing but a part of the head."""
        self._read_size = 0
        self._read = b""
        self._left = 0
        self._first = b""
        self._more: BytesIO | None = None
        self.body_bytes = 0
        """Bytes of the unfinished body, reserved with `take_body`."""
        self.stage = Stage.NOTHING
        self.over = False
        """True once a request was refused or the protocol switched: what else comes is not looked at."""

    def feed(self, data: bytes, now: float) -> None:
        """Some bytes from the client, read at `now`."""
        if self.over:
            return
        if self._left:
            self._continue(data, now)
            return
        if self.stage is _NOTHING:
            head, start = self._known.find(data)
            if head is not None and self._take(head, data[start:], now):
                return
            self.stage = Stage.HEAD
            self._read = data
            self._request = Request(self.peer, now)
            self._target = b""
            self._head_read = 0
        self._parse(data)
        self._read = b""
        length = self._request.head.length
        if self.stage is Stage.BODY and length is not None and not self.over:
            # What is left of a body with a length needs no parser. This one would wait for it for ever.
            self._left = int(length) - self.body_bytes
            self._parser = None

    def _continue(self, data: bytes, now: float) -> None:
        """More of a body with a length, and perhaps of the next request."""
        left = self._left
        rest = b""
        if len(data) > left:
            data, rest = data[:left], data[left:]
        self._left = left - len(data)
        self.on_body(data)
        if self.over or self._left:
            return
        self._whole(b"")
        if rest:
            self.feed(rest, now)

    def _take(self, head: RequestHead, body: bytes, now: float) -> bool:
        """A whole request with a known head; not where its body meets a limit, which the parser's way tells."""
        if body and (len(body) > self._config.max_body or not self._sink.take_body(len(body))):
            return False
        self._request = request = Request(self.peer, now, head, body)
        self._sink.request_whole(request, b"")
        return True

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpRequestParser(self)
        self._read_size = len(data)
        try:
            parser.feed_data(data)
            if self.stage is Stage.HEAD:
                self._head_read += len(data)
                self._check_head_size(self._head_read)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self.over = True
            self._sink.bug(error.__context__ or error)
        except httptools.HttpParserError as error:
            self._refuse(Outcome.BAD_REQUEST, f"The request is not valid HTTP/1.1: {error}.")

    def close(self) -> None:
        """Let go of the parser and the sink, which hold this reader: else only the collector would free all three."""
        self._parser = None
        self._sink = _NOBODY
        self.over = True

    def drop_body(self) -> int:
        """Forget the unfinished body; the bytes that were reserved for it."""
        size, self.body_bytes = self.body_bytes, 0
        self._first, self._more = b"", None
        return size

    def current(self) -> Request:
        """What is known of the request being read, for the error about it."""
        if self._request.head is NO_HEAD:
            self._request.head = RequestHead(b"GET", self._target or b"/", "1.1", True, [])
        return self._request

    def _refuse(self, outcome: Outcome, message: str = "") -> None:
        if not self.over:
            self.over = True
            self._sink.request_refused(self.current(), outcome, message)

    def _check_head_size(self, size: int) -> None:
        if size > self._config.max_head:
            self._refuse(Outcome.HEAD_TOO_LARGE)

    # -- httptools -----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A new request; also behind another one in the same read."""
        if self.stage is not Stage.HEAD:
            self._request = Request(self.peer, self._request.begun)
            self.stage = Stage.HEAD
            self._head_read = -self._read_size  # which is added if no more than a part of the head came
        self._target = b""
        self._headers = []
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """The target comes in pieces where reads cut it."""
        self._target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers also come here: dropped."""
        if self.stage is Stage.HEAD:
            self._headers.append((name, value))
            self._head_bytes += len(name) + len(value) + 4  # ": " and CRLF

    def on_headers_complete(self) -> None:
        """Everything that can be refused by the head alone is refused here."""
        self.stage = Stage.BODY
        parser = self._parser
        assert parser is not None
        version, keep = parser.get_http_version(), parser.should_keep_alive()
        head = RequestHead(parser.get_method(), self._target, version, keep, self._headers)
        self._request.head = head
        if self.over:
            return
        self._check_head_size(self._head_bytes)
        problem = http1.head_problem(version, head.hosts, head.transfer_encodings)
        if problem:
            self._refuse(Outcome.BAD_REQUEST, problem)
        elif head.method == b"CONNECT":
            self._refuse(Outcome.METHOD_NOT_ALLOWED)
        elif head.length is not None and int(head.length) > self._config.max_body:
            self._refuse(Outcome.BODY_TOO_LARGE)
        elif head.expects and not self.over:
            self._expected(head.expects)

    def _expected(self, expects: list[bytes]) -> None:
        if len(expects) != 1 or expects[0].strip().lower() != b"100-continue":
            self._refuse(Outcome.EXPECTATION_FAILED)
        elif self._request.head.version == "1.1":
            self._sink.continue_wanted()

    def on_body(self, data: bytes) -> None:
        """Collect; refuse at the limit of one body or of all bodies together."""
        if self.over:
            return
        size = len(data)
        if self.body_bytes + size > self._config.max_body:
            self._refuse(Outcome.BODY_TOO_LARGE)
        elif not self._sink.take_body(size):
            self._refuse(Outcome.BODIES_FULL)
        else:
            self._collect(data)
            self.body_bytes += size

    def _collect(self, data: bytes) -> None:
        """Most bodies come in one piece. Others grow in a `BytesIO`, whose value is had without a second copy."""
        if not self.body_bytes:
            self._first = data
            return
        if self._more is None:
            self._more = BytesIO()
            self._more.write(self._first)
            self._first = b""
        self._more.write(data)

    def on_message_complete(self) -> None:
        """The request is whole, unless llhttp takes it for a protocol switch (`_upgrade` decides)."""
        assert self._parser is not None
        if not self.over and not self._parser.should_upgrade():
            self._whole(b"")

    def _whole(self, surplus: bytes) -> None:
        request = self._request
        request.body = self._first if self._more is None else self._more.getvalue()
        # With the longest length in it the head must still be within its limit, which is not looked at again.
        if self._read and request.head.repeats and self._head_bytes + MAX_DIGITS <= self._config.max_head:
            self._known.learn(self._read, len(request.body), request.head)
        self.drop_body()
        self.stage = Stage.NOTHING
        self._sink.request_whole(request, surplus)

    def _upgrade(self, surplus: bytes) -> None:
        """GET + websocket becomes a tunnel; any other upgrade is ignored and the body read (RFC 9110 7.8)."""
        if self.over:
            return
        request, head = self._request, self._request.head
        if head.method == b"GET" and head.upgrade.lower() == b"websocket":
            self.over = True
            request.websocket = True
            self._whole(surplus)
            return
        # llhttp stops at an upgrade it was not asked to judge: read the same head again without the offer.
        lines = [b"%b %b HTTP/%b\r\n" % (head.method, head.target, head.version.encode())]
        lines += [b"%b: %b\r\n" % h for h in head.headers if h[0].lower() not in (b"upgrade", b"http2-settings")]
        self._parser = None
        self._read = b""
        self.stage = Stage.HEAD
        self._parse(b"".join(lines) + b"\r\n" + surplus)
