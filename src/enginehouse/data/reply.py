"""What the client gets of one request, and what is noted of it.

Owns: the answer's way to the client's transport: whole, through a relay, as an error of ours or an engine's; what is
told of it when it is over. May not live here: whose answer it is (`driver`), the bytes of heads and errors (`replies`,
`wire.errors`), re-framing (`relay`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.data import replies
from enginehouse.data.continuing import keeps
from enginehouse.data.held import HeldError
from enginehouse.data.log_entries import entry
from enginehouse.data.prefill import warm_share
from enginehouse.data.relay import Relay, whole_answer
from enginehouse.data.replay import Replay
from enginehouse.data.request import Request
from enginehouse.policy.choose import Choice
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.errors import Dialect
from enginehouse.wire.http1 import Framing
from enginehouse.wire.realtime import close_frame
from enginehouse.wire.tail import TAIL, Tail
from enginehouse.wire.usage import Usage, usage

if TYPE_CHECKING:
    from enginehouse.data.client_conn import ClientConn
    from enginehouse.data.plan import Plan
    from enginehouse.data.worker import Worker

_ANTHROPIC: Final = Dialect.ANTHROPIC
_IN_LINE: Final = (Outcome.QUEUE_FULL, Outcome.QUEUE_TIMEOUT)


class Reply:
    """The client's side of one request."""

    __slots__ = (
        "_body",
        "_conn",
        "_plan",
        "_request",
        "_usage",
        "_wants_usage",
        "_whole",
        "_worker",
        "first_byte",
        "head",
        "relay",
    )

    def __init__(self, worker: Worker, conn: ClientConn, request: Request, plan: Plan) -> None:
        self._worker = worker
        self._conn = conn
        self._request = request
        self._plan = plan
        self.head: AnswerHead | None = None
        """Of the engine's answer that is passed on."""
        self.first_byte = 0.0
        """When the engine sent it, monotonic seconds."""
        self.relay: Relay | None = None
        """Where the answer comes in pieces."""
        self._whole = -1
        """Bytes of the body of an answer that was passed on at once."""
        self._body = b""
        """That body, where something is looked for in it."""
        self._usage: Usage | None = None
        self._wants_usage = plan.route.generates

    @property
    def begun(self) -> bool:
        """A part of it was sent, or is to be."""
        return self.relay is not None or self._whole >= 0

    @property
    def keep(self) -> bool:
        """May the connection carry another request?"""
        return self.relay.keep if self.relay is not None else self._may_stay()

    def _may_stay(self) -> bool:
        return self._request.keep_alive and not self._worker.stopping

    @property
    def status(self) -> int:
        """Of the engine's answer, 0 where there is none."""
        return self.head.status if self.head is not None else 0

    def pass_whole(self, head: AnswerHead, body: bytes, ours: bytes) -> None:
        """An answer that came in one read and needs no further look: one write. `ours` are our own header lines."""
        self._whole = len(body)
        if self._wants_usage and not head.encoded:
            self._body = body
        self._conn.transport.write(whole_answer(head, ours, self._request.head.version, self._may_stay(), body))

    def open(self, head: AnswerHead, framing: Framing, length: int | None, ours: bytes, service: Service) -> Relay:
        """Pass this answer of `service` on as it comes."""
        plan = self._plan
        relay = self._make_relay(head, framing, length, ours)
        if head.is_event_stream and not plan.own:  # an event about its end would be taken for one of ours
            self.count_gaps(service)
            relay.watch_events(named=plan.route.dialect is Dialect.RESPONSES)
            # Where its length was told, nothing can be added to it.
            if framing is not Framing.LENGTH and keeps(self._worker.config, plan, head):
                relay.replay = Replay(self._worker.replay_memory)
        if plan.route.makes_id and head.status < 300:
            relay.watch_for_id()
        if self._wants_usage and head.status == 200 and not head.encoded:
            relay.tail = Tail(wants_first=plan.route.dialect is _ANTHROPIC)
        return relay

    def count_gaps(self, service: Service) -> None:
        """From now on the times between the chunks of a stream are those of this service."""
        if self.relay is not None and not self._plan.own:
            self.relay.gaps = self._worker.measures.served(self._plan.ask.model, service.name).gaps

    def _make_relay(self, head: AnswerHead, framing: Framing, length: int | None, ours: bytes) -> Relay:
        relay = self.relay = Relay(self._conn.transport, self._worker.now)
        relay.head(head, framing, length, ours, self._request.head.version, self._may_stay())
        return relay

    def engine_error(self, held: HeldError, ours: bytes) -> Relay:
        """Pass on an engine's error, in the shape that the client's SDK expects."""
        verbatim = self._worker.config.verbatim_errors
        head, body = (held.head, held.body) if verbatim else held.in_shape(self._plan.route.dialect)
        relay = self._make_relay(head, Framing.LENGTH, len(body), ours)
        relay.body(body)
        return relay

    def unsay(self) -> bool:
        """Forget the answer that was begun, if nothing of it was written. False where that is too late."""
        relay = self.relay
        if relay is None or relay.begun:
            return False
        if relay.replay is not None:
            relay.replay.drop()
        self.relay = self.head = None
        return True

    def refuse(self, outcome: Outcome, message: str, ours: bytes) -> int:
        """No answer of an engine reached the client: an error of our own. Returns its status."""
        if self._plan.switched:
            self._conn.transport.write(close_frame(1013, message))
            return 101
        dialect, later = self._plan.route.dialect, None
        if outcome in _IN_LINE:
            later = self._worker.room.retry_after(self._plan.ask.model, self._worker.now())
        answer = replies.error(self._request, dialect, outcome, message, None, ours, self.keep, later)
        self._conn.transport.write(answer)
        self._whole = replies.body_size(answer)
        return outcome.row.status

    def end(self) -> None:
        """The answer is complete."""
        if self.relay is not None:
            self.relay.end()

    def usage(self) -> Usage | None:
        """How many tokens it took, if the engine has told at the end of its answer. For when it is over."""
        if self._wants_usage:
            self._wants_usage = False
            relay = self.relay
            if relay is not None and relay.tail is not None:
                self._usage = usage(relay.tail.last(), relay.tail.first)
            elif self._body:
                self._usage = usage(self._body[-TAIL:])
        return self._usage

    def look_for_id(self, service: Service) -> None:
        """Where the engine has made an id that later requests may name, all workers hear of it."""
        relay = self.relay
        if relay is not None and relay.found_id:
            self._worker.remember(relay.found_id, service)
            relay.found_id = ""

    def log(
        self, choice: Choice | None, attempts: int, waited: float, sent_at: float, outcome: Outcome, status: int
    ) -> None:
        """Note that it is over. `waited` in seconds; `sent_at`: when it was sent first, 0.0 for never."""
        worker, plan, head = self._worker, self._plan, self.head
        now = worker.now()
        service, reason = (choice.service.name, choice.reason) if choice is not None else ("", "")
        sent = self.relay.sent if self.relay is not None else max(self._whole, 0)
        stream = head is not None and head.is_event_stream
        times = now, self._told_first(), waited
        warm, took = warm_share(choice, plan.ask.prompt), self.usage()
        overhead = self._request.overhead(sent_at, waited) if sent_at else -1.0
        told = entry(
            self._request, plan, times, service, attempts, outcome, status, sent, stream, took, warm, reason, overhead
        )
        worker.ended.add(told, now)

    def _told_first(self) -> float:
        """When the answer began: of an event stream with its body, since vLLM sends the head before it computes."""
        relay = self.relay
        return self.first_byte if relay is None or relay.gaps is None else relay.first_read
