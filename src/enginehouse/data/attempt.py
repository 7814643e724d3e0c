"""One service asked: its slot, its connection, its times, and its answer until it is known what kind of answer it is.

Owns: taking and releasing the service's slot, connecting, sending, the attempt's deadlines, holding an error until its
body is whole. May not live here: which service is asked and what follows from how it ends (`driver`,
`machines.exchange`), passing on (`relay`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from enginehouse.core.outcome import Outcome
from enginehouse.data.engine_conn import EngineConn
from enginehouse.data.engine_pool import Upstream
from enginehouse.data.held import HeldError, elsewhere, may_hold
from enginehouse.data.prefill import Prefill
from enginehouse.machines.exchange import Event
from enginehouse.policy.choose import Choice
from enginehouse.wire.answer_head import AnswerHead, retry_after
from enginehouse.wire.errors import Dialect
from enginehouse.wire.http1 import Framing, answer_framing
from enginehouse.wire.sse import begins_output
from enginehouse.wire.trace_context import Try

if TYPE_CHECKING:
    from enginehouse.data.driver import Driver
    from enginehouse.data.relay import Relay
    from enginehouse.data.resumption import Resumption

#: Control answers by then or not at all; engines have times of their own. Seconds.
CONTROL_TIMEOUT: Final = 10.0

# Members of an enumeration are looked up by name each time; these are on the way of every request.
_ANSWERED: Final = Outcome.ANSWERED
_BROKE_BEFORE_HEAD: Final = Outcome.BROKE_BEFORE_HEAD
_RESPONSES: Final = Dialect.RESPONSES
#: The engine answered, but not to the client.
_TURNED_DOWN: Final = frozenset((Outcome.REJECTED, Outcome.UNFIT))
#: Attempts that broke off: who is to blame, the engine or the request, is known only when another one has tried.
_DOUBTFUL: Final = frozenset((Outcome.BROKE_BEFORE_HEAD, Outcome.BROKE_MIDWAY))


class Attempt:
    """Holds one connection to one service for the driver (`engine_conn.Holder`)."""

    __slots__ = (
        "_connecting",
        "_driver",
        "_due",
        "_held",
        "_limit",
        "_prefill",
        "_reused",
        "_seen",
        "_sink",
        "_upstream",
        "choice",
        "engine",
        "first_byte",
        "head",
        "sent",
    )

    def __init__(self, driver: Driver, choice: Choice) -> None:
        """Takes the service's slot, before anything is awaited."""
        self.choice = choice
        self._driver = driver
        self._upstream: Upstream | None = driver.worker.pool.upstream(choice.service)
        worker, score, prompt = driver.worker, choice.score, driver.plan.ask.prompt
        worker.counters.take(choice.service)
        self._prefill = (
            None if score is None or prompt is None else Prefill(worker.counters, worker.loads.index, score, prompt)
        )
        self.engine: EngineConn | None = None
        self._connecting: asyncio.Task[None] | asyncio.TimerHandle | None = None
        self._reused = False
        # times, monotonic seconds
        self.sent = 0.0
        self.first_byte = 0.0
        self._limit = driver.worker.config.connect_timeout
        self._due = 0.0
        self._seen = 0
        # the answer
        self.head: AnswerHead | None = None
        self._held: HeldError | None = None
        self._sink: Relay | Resumption | None = None

    # -- towards the engine --------------------------------------------------------------------------------------------

    def open_after(self, wait: float, fresh: bool) -> None:
        """Connect in `wait` seconds; the slot is taken all the while."""
        self._connecting = asyncio.get_running_loop().call_later(wait, self.open, fresh)

    def open(self, fresh: bool) -> None:
        """Send the request on an idle connection, or make one; `fresh`: never on one that was used before."""
        upstream = self._upstream
        assert upstream is not None
        pool = self._driver.worker.pool
        conn = None if fresh else pool.lend(upstream)
        if conn is not None:
            self._reused = True
            self._send(conn)
        else:
            self._connecting = pool.connect(upstream, self._send, self._connect_failed)

    def _send(self, conn: EngineConn) -> None:
        """A connection is there: send the request on it."""
        driver, upstream = self._driver, self._upstream
        assert upstream is not None
        self._connecting = None
        self.engine = conn
        self.sent = driver.worker.now()
        plan = driver.plan
        driver.sent = driver.sent or self.sent
        config = driver.worker.config
        limit = CONTROL_TIMEOUT if plan.own else config.first_byte_timeout
        if not config.retry_timeouts and driver.resumed is None:
            limit = max(0.0, limit + driver.sent - self.sent)  # one deadline over all attempts until the first byte
        self._wait_for(limit)
        conn.send(self, driver.request.head.method, plan.engine_head(upstream), plan.body)

    def _connect_failed(self, outcome: Outcome, why: str) -> None:
        self._connecting = None
        self._driver.failed(self, Event.CONNECT_FAILED, outcome, why)

    def over(self, outcome: Outcome) -> None:
        """The one place where an attempt's slot is released and its connection let go. Nothing, the second time."""
        upstream, self._upstream = self._upstream, None
        engine, self.engine = self.engine, None
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if upstream is None:
            return
        worker = self._driver.worker
        now = worker.now()
        trace = self._driver.request.trace
        if trace is not None:
            trace.tries.append(Try(self.choice.service.name, outcome, self.sent, now))
        if self._prefill is not None:
            self._settle(self._prefill, outcome)
        self._count(upstream, outcome, now)
        if engine is not None:
            if self._driver.full and not engine.lost:
                engine.transport.resume_reading()
            if (outcome is _ANSWERED or outcome in _TURNED_DOWN) and engine.reusable:
                worker.pool.give_back(engine, now)
            else:
                engine.abort()
        worker.freed(upstream.service, outcome)

    def _count(self, upstream: Upstream, outcome: Outcome, now: float) -> None:
        worker, service = self._driver.worker, upstream.service
        if outcome is Outcome.OUTRUN or self._silent_on_reused(outcome):
            worker.counters.release_uncounted(service)
            return
        waited = self._first_byte_after()
        if outcome is _ANSWERED:
            head = self.head
            # 501: what was asked for does not exist there, which is no defect.
            failed = head is not None and head.status >= 500 and head.status != 501
            worker.counters.release(service, outcome, waited, now, failed)
            return
        doubtful = outcome in _DOUBTFUL
        if worker.counters.release(service, outcome, waited, now, False, not doubtful):
            worker.service_failed()
        if doubtful:
            self._driver.doubt(service, outcome)
        elif outcome is Outcome.REJECTED and self.head is not None:
            worker.counters.rest(service, retry_after(self.head), now)

    def _first_byte_after(self) -> float:
        """Seconds from sending it to the first byte, of an event stream to that of its body; negative for none."""
        if not self.first_byte:
            return -1.0
        relay = self._driver.reply.relay
        first = self.first_byte if relay is None else max(self.first_byte, relay.first_read)
        return first - self.sent

    def _settle(self, prefill: Prefill, outcome: Outcome) -> None:
        """Nothing is queued any more; what the service learned by it stays, if it got it and took it."""
        driver, head = self._driver, self.head
        prefill.release()
        refused = outcome in _TURNED_DOWN or (outcome is _ANSWERED and head is not None and head.status >= 400)
        if refused or not self.sent or self._silent_on_reused(outcome):
            prefill.undo()
        elif outcome is _ANSWERED and driver.resumed is None and (usage := driver.reply.usage()) is not None:
            prefill.learn(usage)

    def _silent_on_reused(self, outcome: Outcome) -> bool:
        """The engine had closed the connection already: not a request, not a failure."""
        return self._reused and outcome is _BROKE_BEFORE_HEAD and not self.first_byte

    # -- the answer (engine_conn.Holder) -------------------------------------------------------------------------------

    def answer_whole(self, head: AnswerHead, body: bytes) -> None:
        """The whole answer came in one read: one write passes it on."""
        if head.status >= 400 or not self._driver.plain:
            self.answer_head(head, len(body))
            if self.engine is not None:  # else the head alone ended the attempt
                self.answer_body(body)
                self.answer_read(True)
            return
        self.first_byte = self._driver.worker.now()
        self.head = head
        self._driver.pass_whole(self, head, body)

    def answer_head(self, head: AnswerHead, length: int | None) -> Framing:
        """Errors that may be tried elsewhere, or are in a foreign shape, wait for their body; all else is passed on."""
        driver = self._driver
        method = driver.request.head.method
        self.first_byte = driver.worker.now()
        self._wait_for(driver.worker.config.idle_timeout)
        self.head = head
        framing = answer_framing(method, head.status, head.chunked, length)
        if head.status == 101:
            return framing
        if driver.plan.switched:
            self._unfit(f"it answered {head.status} to the WebSocket's handshake")
        elif head.coded:
            self.answer_broke(Outcome.BAD_RESPONSE, "its Transfer-Encoding is another than chunked")
        elif driver.resumed is not None:
            if head.status == 200 and head.is_event_stream and not head.encoded:
                self._sink = driver.splice(self)
            else:
                self._unfit(f"it answered {head.status} to the request to go on")
        elif not driver.plan.own and may_hold(driver.worker.config, method, head, length):
            self._held = HeldError(head)
        else:
            if driver.worker.counters.trials and head.status < 500:
                driver.worker.counters.answers(self.choice.service, self.first_byte)
            self._sink = driver.open_relay(self, head, framing, length)
            if self._prefill is None:
                self._pass_chunks()
        return framing

    def _pass_chunks(self) -> None:
        """From here on chunks go straight to the relay, where they can."""
        relay = self._driver.reply.relay
        if self.engine is not None and relay is not None and self._sink is relay and relay.takes_chunks:
            self.engine.chunks = relay

    def _look_for_token(self, prefill: Prefill, data: bytes) -> None:
        """Some engines send the head, comments and events before they have computed the prompt."""
        head, driver = self.head, self._driver
        stream = head is not None and head.is_event_stream
        if not stream or begins_output(data, driver.plan.route.dialect is _RESPONSES):
            now, relay = driver.worker.now(), driver.reply.relay
            prefill.first_token(now - self.sent if stream else -1.0)
            if stream and relay is not None and driver.resumed is None:
                relay.first_read = now
            self._pass_chunks()

    def _unfit(self, why: str) -> None:
        self._driver.failed(self, Event.REJECTED, Outcome.UNFIT, why)

    def answer_body(self, data: bytes) -> None:
        """Some bytes of the body."""
        if self._sink is not None:
            if self._prefill is not None and self._prefill.waits:
                self._look_for_token(self._prefill, data)
            self._sink.body(data)
        elif self._held is not None and not self._held.add(data):
            held, self._held = self._held, None
            self._sink = self._driver.open_relay(self, held.head, Framing.CHUNKED, None)
            self._sink.body(held.body)

    def answer_read(self, ended: bool) -> None:
        """Write what one read brought; at the end of the answer, finish."""
        driver, held = self._driver, self._held
        if ended and held is not None:
            self._held = None
            outcome = elsewhere(driver.worker.config, held.head.status, driver.plan.ask.model)
            if outcome is not None:
                driver.rejected(self, held, outcome)
                return
            self._sink = driver.relay_held(self, held)
        sink = self._sink
        if sink is None:
            if ended:
                self.answer_broke(Outcome.BAD_RESPONSE, "it said 101 and did not switch protocols")
            return
        if sink.failed or (ended and sink.cut_short):
            driver.broke_late(self, Outcome.BROKE_MIDWAY)
        elif ended:
            driver.relayed(self)
        else:
            sink.flush()
            driver.reply.look_for_id(self.choice.service)

    def answer_upgraded(self, surplus: bytes) -> None:
        """101: from here on bytes go both ways untouched."""
        head = self.head
        if not self._driver.request.websocket or head is None or head.status != 101 or self.engine is None:
            self.answer_broke(Outcome.BAD_RESPONSE, "it switched protocols without being asked")
        else:
            self._driver.switch(self, head, self.engine, surplus)

    def answer_broke(self, outcome: Outcome, error: str) -> None:
        """The connection died or sent garbage; before or after the commit point."""
        if self._sink is not None and not self._driver.reply.unsay():
            self._driver.broke_late(self, Outcome.BROKE_MIDWAY)
        else:
            self._sink = None
            self._driver.failed(self, Event.BROKE_EARLY, outcome, error, self._reused and not self.first_byte)

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def _wait_for(self, limit: float) -> None:
        """What is waited for now may take `limit` seconds, counted from the next look (`expire`)."""
        self._limit = limit
        self._due = 0.0

    def pause(self) -> None:
        """The client reads slower than the engine writes."""
        if self.engine is not None and not self.engine.lost:
            self.engine.transport.pause_reading()

    def resume(self) -> None:
        """The client reads again: silence is counted from the next look."""
        self._due = 0.0
        if self.engine is not None and not self.engine.lost:
            self.engine.transport.resume_reading()

    def expire(self, now: float, sent: int) -> None:
        """Called a few times a second: connect, first byte and idle have a deadline each. `sent`: bytes passed on."""
        if not self._due or self._driver.full or sent != self._seen:
            self._due = now + self._limit
            self._seen = sent
        elif now >= self._due:
            self._timed_out()

    def is_slow(self, now: float) -> bool:
        """Does its first byte take so long that another service is to be asked, too?"""
        limit = self._driver.worker.config.hedge_after
        return bool(
            limit and self.sent and not self.first_byte and now - self.sent >= limit and not self._driver.plan.own
        )

    def _timed_out(self) -> None:
        if self._sink is not None:
            self._driver.broke_late(self, Outcome.IDLE_TIMEOUT)
        elif self._connecting is not None:
            self._driver.failed(self, Event.CONNECT_FAILED, Outcome.CONNECT_TIMEOUT, "")
        else:
            self._driver.failed(self, Event.TIMED_OUT_EARLY, Outcome.FIRST_BYTE_TIMEOUT, "")
