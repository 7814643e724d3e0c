"""One connection of a client: bytes to requests, one at a time, in order.

Owns: the request parser, pipelining, body limits, the connection's phases and deadlines, closing without losing an
answer. May not live here: anything about engines or models (`driver`, `intake`).
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from typing import TYPE_CHECKING, Final

import httptools

from enginehouse.core.outcome import Outcome
from enginehouse.data import replies
from enginehouse.data.request import Request
from enginehouse.wire import errors, http1
from enginehouse.wire.forward import read_facts

if TYPE_CHECKING:
    from enginehouse.data.driver import Driver
    from enginehouse.data.tunnel import Tunnel
    from enginehouse.data.worker import Worker

#: Requests parsed ahead of the one being answered; more are a client's error.
MAX_PIPELINED: Final = 100
#: Bytes kept unparsed while a request is being answered; then reading pauses.
MAX_PENDING: Final = 64 * 1024
#: A body may take longer than the timeout only while it comes at least this fast. Bytes per second.
MIN_BODY_RATE: Final = 1024
#: After a final answer the rest of what the client sends is read and dropped for this long, so that the answer is not
#: lost to a reset (RFC 9112 9.6). Seconds.
LINGER: Final = 2.0


class Phase(enum.Enum):
    """What the connection is at."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    BUSY = "busy"
    LINGER = "linger"
    TUNNEL = "tunnel"
    CLOSED = "closed"


class ClientConn(asyncio.Protocol):
    """Parses requests, hands each whole one to a driver, and waits for it before the next."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        # the connection
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.peer = ""
        self.phase = Phase.IDLE
        self.due = worker.now() + worker.config.keepalive_timeout
        self._body_started = 0.0
        self._parser = httptools.HttpRequestParser(self)
        self._write_full_since = 0.0
        # the request being read
        self._request = Request("")
        self._in_head = True
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        # requests being answered or waiting
        self.driver: Driver | None = None
        self.tunnel: Tunnel | None = None
        self._answering: Request | None = None
        self._waiting: deque[Request] = deque()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._then_refuse: tuple[Outcome, str] | None = None
        self._starting = False
        self._feeding = False

    # -- asyncio -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the peer; one connection too many is told so and closed."""
        self.transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self.worker.clients.add(self)
        if len(self.worker.clients) > self.worker.config.max_connections:
            self._refuse(Outcome.CONNECTIONS_FULL, "")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: whatever runs for it ends now."""
        self.phase = Phase.CLOSED
        self.worker.clients.discard(self)
        self._drop_bodies()
        self._pending.clear()
        if self.tunnel is not None:
            self.tunnel.client_lost()
        elif self.driver is not None:
            self.driver.client_left()

    def eof_received(self) -> bool:
        """A client that closes its sending side has left: SDKs and browsers do so only when they leave."""
        if self.phase is Phase.BUSY and self.driver is not None:
            self.driver.client_left()
            self.transport.abort()
        return False

    def pause_writing(self) -> None:
        """The client reads slower than the engine writes."""
        self._write_full_since = self.worker.now()
        if self.tunnel is not None:
            self.tunnel.client_full()
        elif self.driver is not None:
            self.driver.client_full()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._write_full_since = 0.0
        if self.tunnel is not None:
            self.tunnel.client_free()
        elif self.driver is not None:
            self.driver.client_free()

    def data_received(self, data: bytes) -> None:
        """Parse, or keep for later while a request is being answered."""
        phase = self.phase
        if phase is Phase.TUNNEL and self.tunnel is not None:
            self.tunnel.from_client(data)
        elif phase is Phase.BUSY:
            self._pending.append(data)
            self._pending_bytes += len(data)
            if self._pending_bytes > MAX_PENDING:
                self.transport.pause_reading()
        elif phase is not Phase.LINGER and phase is not Phase.CLOSED:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self.phase is Phase.IDLE:
            self.phase = Phase.HEAD
            self.due = self.worker.now() + self.worker.config.head_timeout
        elif self.phase is Phase.BODY:
            self._body_deadline()
        self._feeding = True
        try:
            self._parser.feed_data(data)
            if self._in_head and self.phase is Phase.HEAD:
                self._head_bytes += len(data)
                self._check_head_size()
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._bug(error.__context__ or error)
        except httptools.HttpParserError as error:
            self._refuse(Outcome.BAD_REQUEST, f"The request is not valid HTTP/1.1: {error}.")
        finally:
            self._feeding = False

    # -- httptools -----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A new request; also behind another one in the same read."""
        self._request = Request(self.peer)
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """The target comes in pieces where reads cut it."""
        self._request.target += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers also come here: dropped."""
        if self._in_head:
            self._request.headers.append((name, value))
            self._head_bytes += len(name) + len(value)

    def on_headers_complete(self) -> None:
        """Everything that can be refused by the head alone is refused here."""
        self._in_head = False
        request, parser = self._request, self._parser
        request.method = parser.get_method()
        request.version = parser.get_http_version()
        facts = request.facts = read_facts(request.headers)
        if self._ignoring:
            return
        if self._head_bytes > self.worker.config.max_head:
            self._check_head_size()
            return
        problem = http1.head_problem(
            http1.HeadFacts(request.version, facts.hosts, facts.transfer_encodings, facts.expects)
        )
        if problem:
            self._refuse(Outcome.BAD_REQUEST, problem)
        elif request.method == b"CONNECT":
            self._refuse(Outcome.METHOD_NOT_ALLOWED, "")
        elif facts.length is not None and int(facts.length) > self.worker.config.max_body:
            self._refuse(Outcome.BODY_TOO_LARGE, "")
        elif facts.expects:
            self._expected(facts.expects)
        if not self._ignoring:
            request.keep_alive = parser.should_keep_alive()
            if self.driver is None:
                self.phase = Phase.BODY
                self._body_started = self.worker.now()
                self._body_deadline()

    def on_body(self, data: bytes) -> None:
        """Collect; refuse at the limit of one body or of all bodies together."""
        if self._ignoring:
            return
        size = len(data)
        if self._body_bytes + size > self.worker.config.max_body:
            self._refuse(Outcome.BODY_TOO_LARGE, "")
        elif not self.worker.take_body(size):
            self._refuse(Outcome.BODIES_FULL, "")
        else:
            self._body.append(data)
            self._body_bytes += size

    def on_message_complete(self) -> None:
        """The request is whole: answer it, or let it wait for the one before."""
        if self._ignoring or self._parser.should_upgrade():
            return
        self._complete()

    # -- the request being read ----------------------------------------------------------------------------------------

    @property
    def _ignoring(self) -> bool:
        """True once a refusal is sent or waiting: what else the client sends is not looked at."""
        return self._then_refuse is not None or self.phase in (Phase.LINGER, Phase.CLOSED)

    def _check_head_size(self) -> None:
        if self._head_bytes > self.worker.config.max_head:
            self._refuse(Outcome.HEAD_TOO_LARGE, "")

    def _body_deadline(self) -> None:
        """Silence is cut after a while, and so is a body that trickles."""
        allowed = self.worker.config.body_timeout
        self.due = min(self.worker.now(), self._body_started + self._body_bytes / MIN_BODY_RATE) + allowed

    def _expected(self, expects: list[bytes]) -> None:
        if len(expects) != 1 or expects[0].strip().lower() != b"100-continue":
            self._refuse(Outcome.EXPECTATION_FAILED, "")
        elif self.driver is None and self._request.version == "1.1":
            self.transport.write(http1.CONTINUE)

    def _complete(self) -> None:
        request = self._request
        request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        if len(self._waiting) >= MAX_PIPELINED:
            self._refuse(Outcome.BAD_REQUEST, f"More than {MAX_PIPELINED} requests were sent ahead of their answers.")
            return
        self._body_bytes = 0
        self._waiting.append(request)
        self._start_next()

    def _drop_bodies(self) -> None:
        """Give back what every request of this connection holds, in the one place where that is done."""
        self.worker.give_body(self._body_bytes)
        self._body = []
        self._body_bytes = 0
        self._drop_answering()
        for request in self._waiting:
            self.worker.give_body(len(request.body))
        self._waiting.clear()

    def _drop_answering(self) -> None:
        request, self._answering = self._answering, None
        if request is not None:
            self.worker.give_body(len(request.body))

    def _upgrade(self, surplus: bytes) -> None:
        """GET + websocket becomes a tunnel; any other upgrade is ignored and the body read (RFC 9110 7.8)."""
        if self._ignoring:
            return
        request = self._request
        if request.method == b"GET" and request.facts.upgrade.lower() == b"websocket":
            request.websocket = True
            request.keep_alive = False
            if surplus:
                self._pending.append(surplus)
                self._pending_bytes += len(surplus)
            self._complete()
            return
        # llhttp stops at an upgrade it was not asked to judge: read the same head again without the offer.
        head = [b"%b %b HTTP/%b\r\n" % (request.method, request.target, request.version.encode())]
        head += [b"%b: %b\r\n" % h for h in request.headers if h[0].lower() not in (b"upgrade", b"http2-settings")]
        self._parser = httptools.HttpRequestParser(self)
        self._feed(b"".join(head) + b"\r\n" + surplus)

    # -- answering -----------------------------------------------------------------------------------------------------

    def _start_next(self) -> None:
        """Answer waiting requests in order; a loop, because many may be answered at once."""
        if self._starting:
            return
        self._starting = True
        try:
            while self._waiting and self.driver is None and self.phase not in (Phase.LINGER, Phase.CLOSED):
                self.phase = Phase.BUSY
                request = self._answering = self._waiting.popleft()
                try:
                    self.worker.begin(self, request)
                except Exception as error:  # a bug must cost one request, not the connection's neighbours
                    self._bug(error)
        finally:
            self._starting = False
        if self.driver is None and not self._waiting and self._then_refuse is not None:
            outcome, message = self._then_refuse
            self._then_refuse = None
            self._refuse(outcome, message)

    def answered(self, keep: bool) -> None:
        """The request is answered. `keep`: the connection may carry another one."""
        self.driver = None
        self._drop_answering()
        if self.phase is Phase.CLOSED:
            return
        if not keep:
            self.close_gently()
            return
        self.phase = Phase.IDLE
        self.due = self.worker.now() + self.worker.config.keepalive_timeout
        self._start_next()
        if self.phase is Phase.IDLE and self._pending and not self._feeding:
            pending, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
            self.transport.resume_reading()
            self._feed(pending)

    def enter_tunnel(self) -> bytes:
        """From now on bytes go to `tunnel`. Returns those that came behind the upgrade request."""
        self.phase = Phase.TUNNEL
        pending, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
        self.transport.resume_reading()
        return pending

    def leave_tunnel(self) -> None:
        """The tunnel is over: close behind what was written."""
        self.driver = None
        self.close_gently()

    def close_gently(self) -> None:
        """Everything is written; drop what still comes, then close."""
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.LINGER
        self.due = self.worker.now() + LINGER
        self._drop_bodies()
        self._pending.clear()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _refuse(self, outcome: Outcome, message: str) -> None:
        """Answer a request that was not even whole, behind the answers before it, and close."""
        if self.driver is not None or self._waiting:
            self._then_refuse = (outcome, message)
            return
        self.transport.write(replies.refusal(self.worker, self._request, outcome, message))
        self.close_gently()

    def refuse_whole(self, request: Request, dialect: errors.Dialect, problem: errors.Unreadable) -> None:
        """Answer a request that is whole but cannot be accepted; the connection stays."""
        keep = request.keep_alive and not self.worker.stopping
        self.transport.write(replies.unreadable(self.worker, request, dialect, problem, keep))
        self.answered(keep)

    def _bug(self, error: BaseException) -> None:
        self.worker.report_bug(error)
        driver, self.driver = self.driver, None
        if driver is not None and driver.fail():
            self.transport.abort()
            return
        self._then_refuse = None
        self._drop_bodies()
        self._refuse(Outcome.BUG, "")

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Called a few times a second."""
        if self._write_full_since and now - self._write_full_since > self.worker.config.send_timeout:
            if self.driver is not None:
                self.driver.client_stalled()
            self.transport.abort()
        elif self.phase is Phase.BUSY:
            if self.driver is not None:
                self.driver.expire(now)
        elif self.phase is Phase.TUNNEL:
            if self.tunnel is not None:
                self.tunnel.expire(now)
        elif now >= self.due:
            if self.phase in (Phase.HEAD, Phase.BODY):
                self._refuse(Outcome.CLIENT_TOO_SLOW, "")
            elif self.phase is Phase.IDLE:
                self.transport.close()
            elif not self.transport.get_write_buffer_size():
                self.transport.abort()
