"""A client's bytes to whole requests: head, body, and what can be refused by looking at them alone.

Owns: the request parser, the limits of head and body, what llhttp leaves to its user (two Hosts, faulty framing,
upgrades that nobody asked it to judge). May not live here: when a request is answered, deadlines (`client_conn`),
anything about models.
"""

from __future__ import annotations

import enum
from io import BytesIO
from typing import TYPE_CHECKING, Protocol

import httptools

from enginehouse.core.outcome import Outcome
from enginehouse.data.request import Request
from enginehouse.wire import http1
from enginehouse.wire.forward import read_facts

if TYPE_CHECKING:
    from enginehouse.core.config.router import RouterConfig


class Stage(enum.Enum):
    """What is being read."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


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


class RequestReader:
    """Parses one connection's requests, one after the other."""

    __slots__ = (
        "_config",
        "_first",
        "_head_bytes",
        "_more",
        "_parser",
        "_request",
        "_sink",
        "body_bytes",
        "over",
        "stage",
    )

    def __init__(self, sink: Sink, config: RouterConfig, peer: str) -> None:
        self._sink = sink
        self._config = config
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request(peer)
        self._head_bytes = 0
        self._first = b""
        self._more: BytesIO | None = None
        self.body_bytes = 0
        """Bytes of the unfinished body, reserved with `take_body`."""
        self.stage = Stage.NOTHING
        self.over = False
        """True once a request was refused or the protocol switched: what else comes is not looked at."""

    def feed(self, data: bytes) -> None:
        """Some bytes from the client."""
        if self.stage is Stage.NOTHING:
            self.stage = Stage.HEAD
        try:
            self._parser.feed_data(data)
            if self.stage is Stage.HEAD:
                self._head_bytes += len(data)
                self._check_head_size()
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self.over = True
            self._sink.bug(error.__context__ or error)
        except httptools.HttpParserError as error:
            self._refuse(Outcome.BAD_REQUEST, f"The request is not valid HTTP/1.1: {error}.")

    def drop_body(self) -> int:
        """Forget the unfinished body; the bytes that were reserved for it."""
        size, self.body_bytes = self.body_bytes, 0
        self._first, self._more = b"", None
        return size

    def current(self) -> Request:
        """What is known of the request being read, for the error about it."""
        return self._request

    def _refuse(self, outcome: Outcome, message: str = "") -> None:
        if not self.over:
            self.over = True
            self._sink.request_refused(self._request, outcome, message)

    def _check_head_size(self) -> None:
        if self._head_bytes > self._config.max_head:
            self._refuse(Outcome.HEAD_TOO_LARGE)

    # -- httptools -----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A new request; also behind another one in the same read."""
        self._request = Request(self._request.peer)
        self._head_bytes = 0
        self.stage = Stage.HEAD

    def on_url(self, url: bytes) -> None:
        """The target comes in pieces where reads cut it."""
        self._request.target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers also come here: dropped."""
        if self.stage is Stage.HEAD:
            self._request.headers.append((name, value))
            self._head_bytes += len(name) + len(value)

    def on_headers_complete(self) -> None:
        """Everything that can be refused by the head alone is refused here."""
        self.stage = Stage.BODY
        request, parser = self._request, self._parser
        request.method = parser.get_method()
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        facts = request.facts = read_facts(request.headers)
        if self.over:
            return
        self._check_head_size()
        problem = http1.head_problem(request.version, facts.hosts, facts.transfer_encodings)
        if problem:
            self._refuse(Outcome.BAD_REQUEST, problem)
        elif request.method == b"CONNECT":
            self._refuse(Outcome.METHOD_NOT_ALLOWED)
        elif facts.length is not None and int(facts.length) > self._config.max_body:
            self._refuse(Outcome.BODY_TOO_LARGE)
        elif facts.expects and not self.over:
            self._expected(facts.expects)

    def _expected(self, expects: list[bytes]) -> None:
        if len(expects) != 1 or expects[0].strip().lower() != b"100-continue":
            self._refuse(Outcome.EXPECTATION_FAILED)
        elif self._request.version == "1.1":
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
        if not self.over and not self._parser.should_upgrade():
            self._whole(b"")

    def _whole(self, surplus: bytes) -> None:
        request = self._request
        request.body = self._first if self._more is None else self._more.getvalue()
        self.drop_body()
        self.stage = Stage.NOTHING
        self._sink.request_whole(request, surplus)

    def _upgrade(self, surplus: bytes) -> None:
        """GET + websocket becomes a tunnel; any other upgrade is ignored and the body read (RFC 9110 7.8)."""
        if self.over:
            return
        request = self._request
        if request.method == b"GET" and request.facts.upgrade.lower() == b"websocket":
            self.over = True
            request.websocket = True
            request.keep_alive = False
            self._whole(surplus)
            return
        # llhttp stops at an upgrade it was not asked to judge: read the same head again without the offer.
        head = [b"%b %b HTTP/%b\r\n" % (request.method, request.target, request.version.encode())]
        head += [b"%b: %b\r\n" % h for h in request.headers if h[0].lower() not in (b"upgrade", b"http2-settings")]
        self._parser = httptools.HttpRequestParser(self)
        self.feed(b"".join(head) + b"\r\n" + surplus)
