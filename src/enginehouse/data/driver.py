"""One request's way through the worker: the only executor of the exchange machine's commands.

Owns: taking and releasing the service's slot, connecting, sending, handing the answer to the relay, deadlines of the
attempt, telling the client's connection when it is over. May not live here: choosing and retrying (`policy`,
`machines.exchange`), finding out what the request wants (`intake`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from enginehouse.core.outcome import Outcome
from enginehouse.data import replies
from enginehouse.data.access_log import BATCH
from enginehouse.data.engine_conn import EngineConn
from enginehouse.data.engine_pool import Upstream
from enginehouse.data.held import HeldError, may_hold
from enginehouse.data.log_entries import entry
from enginehouse.data.relay import Relay, whole_answer
from enginehouse.data.request import Request
from enginehouse.data.tunnel import Tunnel
from enginehouse.machines.exchange import Answer, Break, Command, Connect, Event, Exchange, Finish, PassOn, Refuse
from enginehouse.policy.choose import Busy, Choice, Refusal, choose
from enginehouse.policy.retry import backoff
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.errors import Dialect
from enginehouse.wire.http1 import Framing, answer_framing
from enginehouse.wire.realtime import close_frame

if TYPE_CHECKING:
    from enginehouse.data.client_conn import ClientConn
    from enginehouse.data.plan import Plan
    from enginehouse.data.worker import Worker

#: Control answers by then or not at all; engines have times of their own. Seconds.
CONTROL_TIMEOUT: Final = 10.0

# Members of an enumeration are looked up by name each time; these are on the way of every request.
_ASKED: Final = Event.ASKED
_ENDED: Final = Event.ENDED
_ANSWERED: Final = Outcome.ANSWERED
_BROKE_BEFORE_HEAD: Final = Outcome.BROKE_BEFORE_HEAD


class Driver:
    """Runs one exchange."""

    def __init__(self, worker: Worker, conn: ClientConn, request: Request, plan: Plan) -> None:
        self._worker = worker
        self._conn = conn
        self._request = request
        self._plan = plan
        self._exchange = Exchange(self._choose)
        # times, monotonic seconds
        self._sent = 0.0
        self._first_byte = 0.0
        self._limit = 0.0
        self._due = 0.0
        self._seen = 0
        # the attempt
        self._upstream: Upstream | None = None
        self._engine: EngineConn | None = None
        self._connecting: asyncio.Task[None] | asyncio.TimerHandle | None = None
        self._reused = False
        self._why = ""
        # the answer
        self._head: AnswerHead | None = None
        self._held: HeldError | None = None
        self._relay: Relay | None = None
        self._whole = -1
        """Bytes of an answer that was passed on at once, without a relay."""
        self._full = False

    def start(self) -> None:
        """Take the first step."""
        self._do(self._exchange.handle(_ASKED))

    def _choose(self, tried: tuple[str, ...]) -> Choice | Refusal:
        worker, ask = self._worker, self._plan.ask
        if self._plan.own:
            return worker.control if not tried else Refusal(Outcome.NO_SERVICE, "")
        turn = worker.turn(ask.model, not tried)
        found = choose(worker.table, ask, tried, worker.loads, worker.now(), turn, worker.rng)
        return found.refusal if isinstance(found, Busy) else found

    def _do(self, command: Command) -> None:
        if isinstance(command, Connect):
            self._connect(command)
        elif isinstance(command, Finish):
            self._finish(command.outcome)
        elif isinstance(command, Refuse):
            self._refuse(command.refusal.outcome, replies.refusal_text(self._worker, command.refusal))
        elif isinstance(command, Answer):
            name = self._exchange.choice.service.name if self._exchange.choice else ""
            self._refuse(command.outcome, replies.failure_text(command.outcome, name, self._why))
        elif isinstance(command, Break):
            self._break(command.outcome)
        elif isinstance(command, PassOn):
            self._pass_on()

    def _connect(self, command: Connect) -> None:
        """Take the service's slot, before anything is awaited; then connect, after a back-off if others rejected it."""
        worker = self._worker
        service = command.choice.service
        upstream = self._upstream = worker.pool.upstream(service)
        worker.counters.take(service)
        self._reused = False
        self._first_byte = 0.0
        self._head = self._held = None
        self._wait_for(worker.config.connect_timeout)
        if command.rejections:
            wait = backoff(command.rejections, worker.rng)
            self._connecting = asyncio.get_running_loop().call_later(wait, self._open, upstream, command.fresh)
        else:
            self._open(upstream, command.fresh)

    def _open(self, upstream: Upstream, fresh: bool) -> None:
        pool = self._worker.pool
        conn = None if fresh else pool.lend(upstream)
        if conn is not None:
            self._reused = True
            self._send(conn)
        else:
            self._connecting = pool.connect(upstream, self._send, self._connect_failed)

    def _send(self, conn: EngineConn) -> None:
        """A connection is there: send the request on it."""
        self._connecting = None
        self._engine = conn
        upstream, plan = self._upstream, self._plan
        assert upstream is not None
        self._sent = self._worker.now()
        self._wait_for(CONTROL_TIMEOUT if plan.own else self._worker.config.first_byte_timeout)
        conn.send(self, self._request.head.method, plan.engine_head(upstream), plan.body)

    def _connect_failed(self, outcome: Outcome, why: str) -> None:
        self._connecting = None
        self._why = why
        self._attempt_over(outcome)
        self._do(self._exchange.handle(Event.CONNECT_FAILED, outcome))

    def _attempt_over(self, outcome: Outcome) -> None:
        """The one place where an attempt's slot is released and its connection let go."""
        upstream, self._upstream = self._upstream, None
        engine, self._engine = self._engine, None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if upstream is None:
            return
        worker = self._worker
        now = worker.now()
        if self._reused and outcome is _BROKE_BEFORE_HEAD and not self._first_byte:
            worker.counters.release_uncounted(upstream.service)
        else:
            waited = self._first_byte - self._sent if self._first_byte else -1.0
            if worker.counters.release(upstream.service, outcome, waited, now):
                worker.service_failed()
        if engine is not None:
            if self._full and not engine.lost:
                engine.transport.resume_reading()
            ended = outcome is _ANSWERED or outcome is Outcome.REJECTED
            if ended and engine.reusable:
                worker.pool.give_back(engine, now)
            else:
                engine.abort()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _refuse(self, outcome: Outcome, message: str) -> None:
        """No answer of an engine reached the client: an error of our own."""
        if self._plan.switched:
            self._conn.transport.write(close_frame(1013, message))
            self._over(outcome, 101, False)
            return
        keep = self._request.keep_alive and not self._worker.stopping
        answer = replies.error(self._request, self._plan.route.dialect, outcome, message, None, self._our_lines(), keep)
        self._conn.transport.write(answer)
        self._whole = replies.body_size(answer)
        self._over(outcome, outcome.row.status, keep)

    def _break(self, outcome: Outcome) -> None:
        assert self._relay is not None
        self._attempt_over(outcome)
        self._relay.break_off(outcome, self._plan.route.dialect)
        self._over(outcome, self._status, False)

    def _finish(self, outcome: Outcome) -> None:
        self._attempt_over(outcome)
        if outcome is _ANSWERED:
            relay = self._relay
            keep = relay.keep if relay is not None else self._request.keep_alive and not self._worker.stopping
            self._over(outcome, self._status, keep)
        elif outcome is not Outcome.BUG:  # of which the client's connection tells
            self._log(outcome, self._status)

    def _pass_on(self) -> None:
        self._relay_held()
        assert self._relay is not None
        self._relay.end()
        self._over(Outcome.REJECTED, self._status, self._relay.keep)

    def _over(self, outcome: Outcome, status: int, keep: bool) -> None:
        self._log(outcome, status)
        self._conn.answered(keep)

    @property
    def _status(self) -> int:
        return self._head.status if self._head is not None else 0

    def _log(self, outcome: Outcome, status: int) -> None:
        log = self._worker.access_log
        if not log.is_on:
            return
        now, head, exchange = self._worker.now(), self._head, self._exchange
        service = exchange.choice.service.name if exchange.choice is not None else ""
        sent = self._relay.sent if self._relay is not None else max(self._whole, 0)
        stream = head is not None and head.is_event_stream
        times = now, self._first_byte
        log.add(entry(self._request, self._plan, times, service, exchange.attempts, outcome, status, sent, stream))
        if len(log.waiting) >= BATCH:
            log.flush(now)

    def _our_lines(self) -> bytes:
        """The `x-` lines of every answer."""
        overhead = (self._sent or self._worker.now()) - self._request.begun
        return replies.our_lines(self._plan.request_id, self._exchange.choice, self._exchange.attempts, overhead)

    # -- the answer (engine_conn.Holder) -------------------------------------------------------------------------------

    def answer_whole(self, head: AnswerHead, body: bytes) -> None:
        """The whole answer came in one read: one write passes it on."""
        if head.status >= 400 or self._plan.switched or self._plan.route.makes_id:
            self.answer_head(head, len(body))
            self.answer_body(body)
            self.answer_read(True)
            return
        request, worker = self._request, self._worker
        self._first_byte = worker.now()
        self._head = head
        self._whole = len(body)
        keep = request.keep_alive and not worker.stopping
        self._conn.transport.write(whole_answer(head, self._our_lines(), request.head.version, keep, body))
        self._do(self._exchange.handle(_ENDED))

    def answer_head(self, head: AnswerHead, length: int | None) -> Framing:
        """The commit point: from here on nothing is tried again. Errors in a foreign shape wait for their body."""
        worker, method = self._worker, self._request.head.method
        self._first_byte = worker.now()
        self._wait_for(worker.config.idle_timeout)
        self._head = head
        framing = answer_framing(method, head.status, head.chunked, length)
        if head.status == 101:
            return framing
        if self._plan.switched:
            self.answer_broke(Outcome.BAD_RESPONSE, f"it answered {head.status} to the WebSocket's handshake")
        elif head.coded:
            self.answer_broke(Outcome.BAD_RESPONSE, "its Transfer-Encoding is another than chunked")
        elif not self._plan.own and may_hold(worker.config, method, head, length):
            self._held = HeldError(head)
        else:
            self._relay_head(head, framing, length)
        return framing

    def _relay_head(self, head: AnswerHead, framing: Framing, length: int | None) -> Relay:
        relay = self._relay = Relay(self._conn.transport)
        keep = self._request.keep_alive and not self._worker.stopping
        relay.head(head, framing, length, self._our_lines(), self._request.head.version, keep)
        if head.is_event_stream:
            relay.watch_events(named=self._plan.route.dialect is Dialect.RESPONSES)
        if self._plan.route.makes_id and head.status < 300:
            relay.watch_for_id()
        elif framing is Framing.CHUNKED and self._engine is not None and relay.takes_chunks:
            self._engine.chunks = relay
        return relay

    def answer_body(self, data: bytes) -> None:
        """Some bytes of the body."""
        if self._relay is not None:
            self._relay.body(data)
        elif self._held is not None and not self._held.add(data):
            held, self._held = self._held, None
            self._relay_head(held.head, Framing.CHUNKED, None).body(held.body)

    def answer_read(self, ended: bool) -> None:
        """Write what one read brought; at the end of the answer, finish."""
        if ended and self._held is not None:
            if self._held.head.status in self._worker.config.retry_statuses:
                self._attempt_over(Outcome.REJECTED)
                self._do(self._exchange.handle(Event.REJECTED, Outcome.REJECTED))
                return
            self._relay_held()
        relay = self._relay
        if relay is None:
            if ended:
                self.answer_broke(Outcome.BAD_RESPONSE, "it said 101 and did not switch protocols")
            return
        if ended and relay.cut_short:
            self._do(self._exchange.handle(Event.BROKE_LATE, Outcome.BROKE_MIDWAY))
            return
        if ended:
            relay.end()
        else:
            relay.flush()
        if relay.found_id and self._upstream is not None:
            self._worker.remember(relay.found_id, self._upstream.service)
            relay.found_id = ""
        if ended:
            self._do(self._exchange.handle(_ENDED))

    def _relay_held(self) -> None:
        """Pass on an engine's error, in the shape that the client's SDK expects."""
        held, self._held = self._held, None
        assert held is not None
        verbatim = self._worker.config.verbatim_errors
        head, body = (held.head, held.body) if verbatim else held.in_shape(self._plan.route.dialect)
        self._relay_head(head, Framing.LENGTH, len(body)).body(body)

    def answer_upgraded(self, surplus: bytes) -> None:
        """101: from here on bytes go both ways untouched."""
        if not self._request.websocket or self._status != 101 or self._head is None or self._engine is None:
            self.answer_broke(Outcome.BAD_RESPONSE, "it switched protocols without being asked")
            return
        lines = b"" if self._plan.switched else replies.switching(self._head, self._our_lines())
        Tunnel(self._conn, self._engine, self._worker.config.idle_timeout, self._tunnel_closed).open(lines, surplus)

    def _tunnel_closed(self, outcome: Outcome) -> None:
        self._exchange.handle(Event.ENDED, outcome)
        self._attempt_over(outcome)
        self._log(outcome, self._status)

    def answer_broke(self, outcome: Outcome, error: str) -> None:
        """The connection died or sent garbage; before or after the commit point."""
        self._why = error
        if self._relay is not None:
            self._do(self._exchange.handle(Event.BROKE_LATE, Outcome.BROKE_MIDWAY))
            return
        reused = self._reused and not self._first_byte
        self._attempt_over(outcome)
        self._do(self._exchange.handle(Event.BROKE_EARLY, outcome, reused))

    # -- the client ----------------------------------------------------------------------------------------------------

    def client_left(self, outcome: Outcome = Outcome.CLIENT_LEFT) -> None:
        """The client closed, or stalled: the engine's connection is closed at once, and nobody is blamed."""
        self._do(self._exchange.handle(Event.CLIENT_LEFT, outcome))

    def client_full(self) -> None:
        """Back-pressure: stop reading from the engine."""
        self._full = True
        if self._engine is not None and not self._engine.lost:
            self._engine.transport.pause_reading()

    def client_free(self) -> None:
        """The client reads again."""
        self._full = False
        self._due = 0.0
        if self._engine is not None and not self._engine.lost:
            self._engine.transport.resume_reading()

    def stop(self) -> None:
        """The worker's deadline has passed: end it honestly."""
        if self._relay is not None:
            self._do(self._exchange.handle(Event.BROKE_LATE, Outcome.CUT_AT_STOP))
        else:
            self._attempt_over(Outcome.CUT_AT_STOP)
            self._do(self._exchange.handle(Event.TIMED_OUT_EARLY, Outcome.STOPPING))

    def fail(self) -> bool:
        """A bug: let everything go. Returns whether a part of an answer was sent already."""
        self._attempt_over(Outcome.BUG)
        self._do(self._exchange.handle(Event.STOPPED, Outcome.BUG))
        return self._relay is not None or self._whole >= 0

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def _wait_for(self, limit: float) -> None:
        """What is waited for now may take `limit` seconds, counted from the next look (`expire`)."""
        self._limit = limit
        self._due = 0.0

    def expire(self, now: float) -> None:
        """Called a few times a second: connect, first byte and idle have a deadline each."""
        sent = self._relay.sent if self._relay is not None else 0
        if not self._due or self._full or sent != self._seen:
            self._due = now + self._limit
            self._seen = sent
        elif now >= self._due:
            self._timed_out()

    def _timed_out(self) -> None:
        if self._relay is not None:
            self._do(self._exchange.handle(Event.BROKE_LATE, Outcome.IDLE_TIMEOUT))
            return
        outcome = Outcome.CONNECT_TIMEOUT if self._connecting is not None else Outcome.FIRST_BYTE_TIMEOUT
        event = Event.CONNECT_FAILED if self._connecting is not None else Event.TIMED_OUT_EARLY
        self._attempt_over(outcome)
        self._do(self._exchange.handle(event, outcome))
