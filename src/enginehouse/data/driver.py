"""One request's way through the worker: the only executor of the exchange machine's commands.

Owns: which attempts run, waiting for a service, going on with a stream on another service, telling the client's
connection when it is over. May not live here: one attempt at one service (`attempt`), what the client gets (`reply`),
choosing and retrying (`policy`, `machines.exchange`), finding out what the request wants (`intake`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.data import replies
from enginehouse.data.attempt import Attempt
from enginehouse.data.continuing import Continuation, continuation
from enginehouse.data.doubts import Doubts
from enginehouse.data.engine_conn import EngineConn
from enginehouse.data.held import HeldError
from enginehouse.data.intake import client_of
from enginehouse.data.prefill import warm_share
from enginehouse.data.relay import Relay
from enginehouse.data.reply import Reply
from enginehouse.data.request import Request
from enginehouse.data.resumption import Resumption
from enginehouse.data.tunnel import Tunnel
from enginehouse.machines import exchange as step
from enginehouse.machines.exchange import Event, Exchange, State
from enginehouse.policy.choose import Busy, Choice, Refusal, choose
from enginehouse.policy.line import line_apart
from enginehouse.policy.retry import backoff
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.http1 import Framing

if TYPE_CHECKING:
    from enginehouse.data.client_conn import ClientConn
    from enginehouse.data.plan import Plan
    from enginehouse.data.worker import Worker

# Members of an enumeration are looked up by name each time; these are on the way of every request.
_ASKED: Final = Event.ASKED
_ENDED: Final = Event.ENDED
_ANSWERED: Final = Outcome.ANSWERED


class Driver:
    """Runs one exchange."""

    def __init__(self, worker: Worker, conn: ClientConn, request: Request, plan: Plan) -> None:
        self.worker = worker
        self.request = request
        self.plan = plan
        """As the next attempt sends it."""
        self._asked = plan
        """As the client sent it."""
        self._conn = conn
        self.reply = Reply(worker, conn, request, plan)
        worker.retries.requests += 1
        self._exchange = Exchange(self._choose, worker.retries)
        # attempts
        self._attempt: Attempt | None = None
        self._rival: Attempt | None = None
        """A second attempt that runs because the first is slow."""
        self.choice: Choice | None = None
        self.sent = 0.0
        """When the request was sent for the first time, monotonic seconds."""
        self._doubts: Doubts | None = None
        self._why = ""
        self._held: HeldError | None = None
        """What the last engine said that rejected the request."""
        # waiting
        self.waits_since = 0.0
        """Since when it is in a line, monotonic seconds; 0.0 while it is in none."""
        self._line = ""
        self._waited = 0.0
        self._position = 0
        # the answer
        self.plain = not (plan.switched or plan.route.makes_id)
        """A whole answer may be passed on without a further look."""
        self.full = False
        """The client reads slower than the engine writes."""
        self.resumed: Continuation | None = None
        """What the client has of the stream whose engine died, once another one is to go on with it."""

    def start(self) -> None:
        """Take the first step."""
        self._do(self._exchange.handle(_ASKED))

    # -- commands ------------------------------------------------------------------------------------------------------

    def _choose(self, tried: tuple[str, ...]) -> Choice | Busy | Refusal:
        worker, ask = self.worker, self.plan.ask
        if self.plan.own:
            return worker.control if not tried else Refusal(Outcome.NO_SERVICE, "")
        if worker.crowded[0] and not tried and not self.waits_since and worker.room.behind(ask):
            return Busy(ask.model, Refusal(Outcome.QUEUE_FULL, ask.model))
        if self.resumed is not None:
            tried = (*tried, *self.resumed.unfit(worker.table, ask))
        turn = worker.turn(ask.model, not tried)
        return choose(worker.table, ask, tried, worker.loads, worker.now(), turn, worker.rng)

    def _do(self, command: step.Command) -> None:
        if isinstance(command, step.Connect):
            self._connect(command)
        elif isinstance(command, step.Finish):
            self._finish(command.outcome)
        elif isinstance(command, step.Wait):
            self._wait(line_apart(self.plan.ask.model) if command.line is None else command.line)
        elif isinstance(command, step.Reconnect):
            assert self.choice is not None
            self._attempt = Attempt(self, self.choice)
            self._attempt.open(True)
        elif isinstance(command, step.Race):
            self.worker.mended.hedged += 1
            self._rival = Attempt(self, command.choice)
            self._rival.open(False)
        elif isinstance(command, step.Refuse):
            self._refuse(command.refusal.outcome, replies.refusal_text(self.worker, command.refusal))
        elif isinstance(command, step.Answer):
            name = self.choice.service.name if self.choice else ""
            self._refuse(command.outcome, replies.failure_text(command.outcome, name, self._why))
        elif isinstance(command, step.Break):
            self._break(command.outcome)
        elif isinstance(command, step.PassOn):
            self._pass_on(command.outcome)

    def _connect(self, command: step.Connect) -> None:
        """Begin an attempt, after a back-off if others rejected the request."""
        self.choice = command.choice
        if self._exchange.attempts > 1:
            self.worker.mended.repeated += 1
        attempt = self._attempt = Attempt(self, command.choice)
        if command.rejections:
            attempt.open_after(backoff(command.rejections, self.worker.rng), command.fresh)
        else:
            attempt.open(command.fresh)

    # -- waiting (waiting.Waiter) --------------------------------------------------------------------------------------

    def _wait(self, line: str) -> None:
        now, room = self.worker.now(), self.worker.room
        self.waits_since, self._line = now, line
        position = room.join(line, self, client_of(self.worker, self.request), now, self._waited)
        self._position = self._position or position
        if position:
            self.worker.mended.waited += 1
        else:
            self.worker.mended.turned_away += 1
            self.woken(Event.TURNED_AWAY)

    def _stop_waiting(self) -> None:
        if self.waits_since:
            self._waited += self.worker.now() - self.waits_since
            self.waits_since = 0.0

    def _leave_line(self) -> None:
        if self.waits_since:
            self.worker.room.leave(self)
            self._stop_waiting()

    def woken(self, event: Event) -> bool:
        """Go on, or give up; False: wait on."""
        try:
            command = self._exchange.handle(event)
            if isinstance(command, step.Wait) and command.line == self._line:
                return False
            if event is Event.LATE:
                self.worker.mended.late += 1
            self._stop_waiting()
            self._do(command)
        except Exception as error:  # a bug costs this request only, not those behind it
            self._conn.bug(error)
        return True

    # -- attempts that fail --------------------------------------------------------------------------------------------

    def failed(self, attempt: Attempt, event: Event, outcome: Outcome, why: str, reused: bool = False) -> None:
        """Nothing of this attempt reached the client."""
        self._why = why
        self.reply.first_byte = attempt.first_byte
        attempt.over(outcome)
        self._lose(attempt)
        self._do(self._exchange.handle(event, outcome, reused))

    def rejected(self, attempt: Attempt, held: HeldError, outcome: Outcome) -> None:
        """The engine says that it cannot take the request; its answer is kept for the case that nobody can."""
        self._held = held
        self.reply.head = held.head
        self.failed(attempt, Event.REJECTED, outcome, "")

    def _lose(self, attempt: Attempt) -> None:
        if attempt is self._rival:
            self._rival = None
        elif attempt is self._attempt:
            self._attempt, self._rival = self._rival, None
            if self._attempt is not None:
                self.choice = self._attempt.choice

    def doubt(self, service: Service, outcome: Outcome) -> None:
        """It broke off while it worked on the request."""
        if self._doubts is None:
            self._doubts = Doubts()
        self._doubts.add(service, outcome)

    def broke_late(self, attempt: Attempt, outcome: Outcome) -> None:
        """A part of the answer was passed on: another service goes on with it, or the client is told."""
        relay = self.reply.relay
        assert relay is not None
        attempt.over(outcome)
        self._lose(attempt)
        found = continuation(self._asked, relay)
        if found is None:
            self._do(self._exchange.handle(Event.BROKE_LATE, outcome))
        elif found.closing:
            relay.body(found.closing)
            relay.end()
            self._do(self._exchange.handle(_ENDED))
        else:
            self.resumed, self.plain, self.plan = found, False, found.plan
            relay.flush()
            self._do(self._exchange.handle(Event.BROKE_STREAM, outcome))

    # -- the end -------------------------------------------------------------------------------------------------------

    def _refuse(self, outcome: Outcome, message: str) -> None:
        """No answer of an engine reached the client: an error of our own."""
        status = self.reply.refuse(outcome, message, self.our_lines())
        self._over(outcome, status, status != 101 and self.reply.keep)

    def _end_attempts(self, outcome: Outcome) -> None:
        attempt, rival = self._attempt, self._rival
        self._attempt = self._rival = None
        if attempt is not None:
            attempt.over(outcome)
        if rival is not None:
            rival.over(outcome)

    def _break(self, outcome: Outcome) -> None:
        relay = self.reply.relay
        assert relay is not None
        self._end_attempts(outcome)
        relay.break_off(outcome, self.plan.route.dialect)
        self._over(outcome, self.reply.status, False)

    def _finish(self, outcome: Outcome) -> None:
        self._end_attempts(outcome)
        if outcome is _ANSWERED:
            self._over(outcome, self.reply.status, self.reply.keep)
        else:
            self._leave_line()
            self._let_go()
            if outcome is not Outcome.BUG or self.reply.begun:  # else the client's connection tells of it
                self._log(outcome, self.reply.status)

    def _pass_on(self, outcome: Outcome) -> None:
        if self._held is None:  # what was refused was a handshake
            self._do(step.Answer(outcome))
            return
        relay = self.reply.engine_error(self._held, self.our_lines())
        relay.end()
        self._over(outcome, self.reply.status, relay.keep)

    def _over(self, outcome: Outcome, status: int, keep: bool) -> None:
        self._let_go()
        self._log(outcome, status)
        self._conn.answered(keep)

    def _let_go(self) -> None:
        if self._doubts is not None:
            self._doubts.settle(self._exchange.poisonous, self.worker.counters, self.worker.now())
        relay = self.reply.relay
        if relay is not None and relay.replay is not None:
            relay.replay.drop()

    def _log(self, outcome: Outcome, status: int) -> None:
        self.reply.log(self.choice, self._exchange.attempts, self._waited, self.sent, outcome, status)

    def our_lines(self) -> bytes:
        """The `x-` lines of every answer."""
        waited, attempts = self._waited, self._exchange.attempts
        overhead = self.request.overhead(self.sent or self.worker.now(), waited)
        warm = warm_share(self.choice, self.plan.ask.prompt)
        return replies.our_lines(
            self.plan.request_id, self.choice, attempts, overhead, "", waited, self._position, warm
        )

    # -- answers -------------------------------------------------------------------------------------------------------

    def commit(self, attempt: Attempt) -> None:
        """This attempt answers: from here on nothing is tried again."""
        reply = self.reply
        reply.head, reply.first_byte = attempt.head, attempt.first_byte
        if self._rival is not None:
            self._outrun(attempt)
        if self._doubts is not None:
            self._doubts.settle(self._exchange.poisonous, self.worker.counters, self.worker.now())

    def _outrun(self, winner: Attempt) -> None:
        """The other one is ended, and nobody blames it."""
        loser = self._attempt if winner is self._rival else self._rival
        self._attempt, self._rival = winner, None
        self.choice = winner.choice
        if loser is not None:
            loser.over(Outcome.OUTRUN)
        self._exchange.handle(Event.WON)

    def pass_whole(self, attempt: Attempt, head: AnswerHead, body: bytes) -> None:
        """An answer that came in one read and needs no further look."""
        self.commit(attempt)
        self.reply.pass_whole(head, body, self.our_lines())
        self._do(self._exchange.handle(_ENDED))

    def open_relay(self, attempt: Attempt, head: AnswerHead, framing: Framing, length: int | None) -> Relay:
        """Pass this answer on as it comes."""
        self.commit(attempt)
        return self.reply.open(head, framing, length, self.our_lines(), attempt.choice.service)

    def relay_held(self, attempt: Attempt, held: HeldError) -> Relay:
        """Pass on an engine's error, in the shape that the client's SDK expects."""
        self.commit(attempt)
        return self.reply.engine_error(held, self.our_lines())

    def splice(self, attempt: Attempt) -> Resumption:
        """This attempt goes on with the stream that broke off."""
        relay, resumed = self.reply.relay, self.resumed
        assert relay is not None
        assert resumed is not None
        self.worker.mended.resumed += 1
        self.reply.count_gaps(attempt.choice.service)
        return Resumption(relay, resumed.kind, resumed.partial)

    def relayed(self, attempt: Attempt) -> None:
        """The answer is complete."""
        self.reply.look_for_id(attempt.choice.service)
        self.reply.end()
        self._do(self._exchange.handle(_ENDED))

    def switch(self, attempt: Attempt, head: AnswerHead, engine: EngineConn, surplus: bytes) -> None:
        """The engine switched protocols: bytes go both ways from now on."""
        self.commit(attempt)
        lines = b"" if self.plan.switched else replies.switching(head, self.our_lines())
        Tunnel(self._conn, engine, self.worker.config.idle_timeout, self._tunnel_closed).open(lines, surplus)

    def _tunnel_closed(self, outcome: Outcome) -> None:
        self._exchange.handle(_ENDED, outcome)
        self._end_attempts(outcome)
        self._log(outcome, self.reply.status)

    # -- the client ----------------------------------------------------------------------------------------------------

    def client_left(self, outcome: Outcome = Outcome.CLIENT_LEFT) -> None:
        """The client closed, or stalled: the engine's connection is closed at once, and nobody is blamed."""
        self._do(self._exchange.handle(Event.CLIENT_LEFT, outcome))

    def client_full(self) -> None:
        """Back-pressure: stop reading from the engine."""
        self.full = True
        if self._attempt is not None:
            self._attempt.pause()

    def client_free(self) -> None:
        """The client reads again."""
        self.full = False
        if self._attempt is not None:
            self._attempt.resume()

    def stop(self) -> None:
        """The worker ends: end it honestly."""
        if self._exchange.state is State.DONE:
            return
        self._leave_line()
        self._exchange.handle(Event.STOPPED, Outcome.CUT_AT_STOP)
        if self.reply.relay is not None:
            self._break(Outcome.CUT_AT_STOP)
        else:
            self._end_attempts(Outcome.CUT_AT_STOP)
            self._refuse(Outcome.STOPPING, "")

    def fail(self) -> bool:
        """A bug: let everything go. Returns whether a part of an answer was sent already."""
        self._end_attempts(Outcome.BUG)
        self._do(self._exchange.handle(Event.STOPPED, Outcome.BUG))
        return self.reply.begun

    # -- deadlines -----------------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Called a few times a second."""
        attempt, rival, relay = self._attempt, self._rival, self.reply.relay
        sent = relay.sent if relay is not None else 0
        if attempt is not None:
            attempt.expire(now, sent)
        if rival is not None:
            rival.expire(now, sent)
        elif attempt is not None and attempt is self._attempt and attempt.is_slow(now):
            # The first byte takes long: ask a second service, unless others wait for one.
            if self._exchange.state is State.TRYING and not self.worker.crowded[0]:
                self._do(self._exchange.handle(Event.SLOW))
