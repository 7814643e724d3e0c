"""One connection of a client: its requests are answered one at a time, in order.

Owns: pipelining, the connection's phases and deadlines, refusing what cannot be accepted, closing without losing an
answer, giving back what its bodies held. May not live here: parsing (`request_reader`), anything about engines or
models (`driver`, `intake`).
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from typing import TYPE_CHECKING, Final

from enginehouse.core.outcome import Outcome
from enginehouse.data import replies
from enginehouse.data.log_entries import refused
from enginehouse.data.request_reader import RequestReader, Stage
from enginehouse.wire import errors, http1

if TYPE_CHECKING:
    from enginehouse.data.driver import Driver
    from enginehouse.data.request import Request
    from enginehouse.data.tunnel import Pipe
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

    READING = "reading"
    BUSY = "busy"
    LINGER = "linger"
    TUNNEL = "tunnel"
    CLOSED = "closed"


# Members of an enumeration are looked up by name each time; these are on the way of every request.
_READING: Final = Phase.READING
_BUSY: Final = Phase.BUSY
_CLOSED: Final = Phase.CLOSED


class ClientConn:
    """Hands each whole request to a driver, and waits for it before the next. An `asyncio.Protocol` by its methods."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        # the connection
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self.phase = _READING
        self._due = 0.0
        """0.0: counted from the next look (`expire`)."""
        self._stage_since = 0.0
        self._write_full_since = 0.0
        # requests
        self._reader = RequestReader(self, worker.config, worker.known_heads)
        self.driver: Driver | None = None
        self.tunnel: Pipe | None = None
        self._answering: Request | None = None
        self._waiting: deque[Request] = deque()
        self._then_refuse: tuple[Request, Outcome, str] | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._starting = False
        self._feeding = False

    # -- asyncio -------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the peer; one connection too many is told so and closed."""
        self.transport = transport  # type: ignore[assignment]
        # Write at once, not at the end of the loop's turn; and what the kernel does not take is back-pressure already.
        self.transport.set_write_buffer_limits(high=0)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._reader.peer = peer[0]
        self.worker.clients.add(self)
        if len(self.worker.clients) > self.worker.config.max_connections:
            self._reader.over = True
            self._refuse(self._reader.current(), Outcome.CONNECTIONS_FULL, "")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: whatever runs for it ends now."""
        self.phase = _CLOSED
        self.worker.clients.discard(self)
        if self.tunnel is not None:
            self.tunnel.client_lost()
        elif self.driver is not None:
            self.driver.client_left()
            self.driver = None  # it holds this object
        self._drop_bodies()
        self._pending.clear()
        self._reader.close()

    def eof_received(self) -> bool:
        """A client that closes its sending side has left: SDKs and browsers do so only when they leave."""
        if self.phase is _BUSY and self.driver is not None:
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
        if self.phase is _READING:
            self._feed(data)
        elif self.phase is Phase.TUNNEL and self.tunnel is not None:
            self.tunnel.from_client(data)
        elif self.phase is _BUSY:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > MAX_PENDING:
            self.transport.pause_reading()

    def _feed(self, data: bytes) -> None:
        stage, now = self._reader.stage, self.worker.now()
        self._feeding = True
        self._reader.feed(data, now)
        self._feeding = False
        if self.phase is _READING:
            self._set_deadline(stage, now)

    def _set_deadline(self, before: Stage, now: float) -> None:
        """A head has one deadline; a body may be silent for a while, but may not trickle."""
        stage, config = self._reader.stage, self.worker.config
        if stage is not before:
            self._stage_since = now
        if stage is Stage.HEAD:
            self._due = self._stage_since + config.head_timeout
        elif stage is Stage.BODY:
            self._due = min(now, self._stage_since + self._reader.body_bytes / MIN_BODY_RATE) + config.body_timeout

    # -- the reader's requests (request_reader.Sink) -------------------------------------------------------------------

    def request_whole(self, request: Request, surplus: bytes) -> None:
        """Answer it, or let it wait for the one before."""
        if surplus:
            self._keep(surplus)
        if self.phase is _READING and not self._waiting:
            self._begin(request)
        elif len(self._waiting) < MAX_PIPELINED:
            self._waiting.append(request)
        else:
            self._reader.over = True
            self.worker.give_body(len(request.body))
            text = f"More than {MAX_PIPELINED} requests were sent ahead of their answers."
            self._refuse(request, Outcome.BAD_REQUEST, text)

    def request_refused(self, request: Request, outcome: Outcome, message: str) -> None:
        """Answer a request that was not even whole, behind the answers before it, and close."""
        self._refuse(request, outcome, message)

    def continue_wanted(self) -> None:
        """Behind an answer that is being written, the client has to send its body unasked."""
        if self.driver is None:
            self.transport.write(http1.CONTINUE)

    def take_body(self, size: int) -> bool:
        """The budget is the worker's."""
        return self.worker.take_body(size)

    def bug(self, error: BaseException) -> None:
        """A bug costs one request, not the connection's neighbours. Never raises: its caller has others to serve."""
        self.worker.report_bug(error)
        driver, self.driver = self.driver, None
        try:
            begun = driver is not None and driver.fail()
            if not begun and self.phase in (_READING, _BUSY):
                self._then_refuse = None
                self._drop_waiting()
                self._refuse(self._answering or self._reader.current(), Outcome.BUG, "")
                return
        except Exception as another:
            self.worker.report_bug(another)
        self.transport.abort()

    # -- answering -----------------------------------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        self.phase = _BUSY
        self._answering = request
        try:
            self.worker.begin(self, request)
        except Exception as error:  # whatever it was, the client gets an answer
            self.bug(error)

    def _start_next(self) -> None:
        """Answer waiting requests in order; a loop, because many may be answered at once."""
        if self._starting:
            return
        self._starting = True
        while self._waiting and self.phase is _READING:
            request = self._waiting.popleft()
            request.begun = self.worker.now()
            self._begin(request)
        self._starting = False
        if self.phase is _READING and self._then_refuse is not None:  # else another answer was the last one
            late, self._then_refuse = self._then_refuse, None
            self._refuse(*late)

    def answered(self, keep: bool) -> None:
        """The request is answered. `keep`: the connection may carry another one."""
        self.driver = None
        self._drop_answering()
        if self.phase is _CLOSED:
            return
        if not keep:
            self.close_gently()
            return
        self.phase = _READING
        self._due = 0.0
        if self._waiting or self._then_refuse is not None:
            self._start_next()
        if self._pending and self.phase is _READING and not self._feeding:
            self._feed(self._take_pending())

    def refuse_whole(self, request: Request, dialect: errors.Dialect, problem: errors.Unreadable) -> None:
        """Answer a request that is whole but cannot be accepted; the connection stays."""
        keep = request.keep_alive and not self.worker.stopping
        self._tell(request, dialect, problem, keep)
        self.answered(keep)

    def _refuse(self, request: Request, outcome: Outcome, message: str) -> None:
        if self.driver is not None or self._waiting:
            self._then_refuse = (request, outcome, message)
            return
        dialect = self.worker.classify(request.head.method, request.head.target).dialect
        self._tell(request, dialect, errors.Unreadable(outcome, message), False)
        self.close_gently()

    def _tell(self, request: Request, dialect: errors.Dialect, problem: errors.Unreadable, keep: bool) -> None:
        worker = self.worker
        sent = worker.id_of(request)
        answer = replies.unreadable(request, sent, dialect, problem, keep)
        self.transport.write(answer)
        now, outcome = worker.now(), problem.outcome
        worker.ended.add(refused(request, sent, now, outcome, outcome.row.status, replies.body_size(answer)), now)

    def _take_pending(self) -> bytes:
        pending, self._pending, self._pending_bytes = b"".join(self._pending), [], 0
        self.transport.resume_reading()
        return pending

    def enter_tunnel(self, tunnel: Pipe) -> bytes:
        """From now on bytes go to `tunnel`. Returns those that came ahead."""
        self.tunnel = tunnel
        self.phase = Phase.TUNNEL
        return self._take_pending()

    def await_tunnel(self, early: bytes) -> None:
        """The tunnel is being made by a driver: what came ahead and what comes now waits for it."""
        self.tunnel = None
        self.phase = _BUSY
        self._keep(early)

    def leave_tunnel(self) -> None:
        """The tunnel is over: close behind what was written."""
        self.tunnel = self.driver = None
        self.close_gently()

    def close_gently(self) -> None:
        """Everything is written; drop what still comes, then close."""
        if self.phase is _CLOSED:
            return
        self.phase = Phase.LINGER
        self._reader.over = True
        self._due = self.worker.now() + LINGER
        self._drop_bodies()
        self._pending.clear()
        if not self.transport.is_closing():
            self.transport.write_eof()

    # -- bodies held ---------------------------------------------------------------------------------------------------

    def _drop_answering(self) -> None:
        request, self._answering = self._answering, None
        if request is not None and request.body:
            self.worker.give_body(len(request.body))
            request.body = b""  # the reader remembers its last request

    def _drop_bodies(self) -> None:
        """Give back what every request of this connection holds."""
        self.worker.give_body(self._reader.drop_body())
        self._drop_answering()
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        for request in self._waiting:
            self.worker.give_body(len(request.body))
        self._waiting.clear()

    # -- deadlines -----------------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Open, and nothing of a request is there."""
        return self.phase is _READING and self._reader.stage is Stage.NOTHING

    def expire(self, now: float) -> None:
        """Called a few times a second."""
        if self._write_full_since and now - self._write_full_since > self.worker.config.send_timeout:
            if self.driver is not None:
                self.driver.client_left(Outcome.CLIENT_STALLED)
            self.transport.abort()
        elif self.phase is _BUSY:
            if self.driver is not None:
                self.driver.expire(now)
        elif self.phase is Phase.TUNNEL:
            if self.tunnel is not None:
                self.tunnel.expire(now)
        elif not self._due:
            self._due = now + self.worker.config.keepalive_timeout
        elif now < self._due:
            return
        elif self.is_idle:
            self.transport.close()
        elif self.phase is _READING:
            self._reader.over = True
            self._refuse(self._reader.current(), Outcome.CLIENT_TOO_SLOW, "")
        elif not self.transport.get_write_buffer_size():
            self.transport.abort()
