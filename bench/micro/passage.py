"""Cases of passing bytes on: heads read and made, whole requests, chunks of a stream.

Owns what each of these cases runs. May not live here: deciding by itself (`decisions`), the bytes (`messages`).
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import cast

from bench.common.traffic import chat
from bench.micro.dry import Dry, Wire, services
from bench.micro.measure import Case, Operation
from bench.micro.messages import MODEL, STREAM_HEAD, answer, chunk, request
from enginehouse.core.config.router import Policy, RouterConfig
from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.core.units import KIB
from enginehouse.data import replies
from enginehouse.data.client_conn import ClientConn
from enginehouse.data.intake import read_plan
from enginehouse.data.relay import whole_answer
from enginehouse.data.request import Request
from enginehouse.data.request_reader import RequestReader
from enginehouse.policy.choose import Choice
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.http1 import Framing
from enginehouse.wire.known_heads import MAX_HEADS, ONCE, KnownHeads
from enginehouse.wire.request_head import RequestHead

#: Heads that take turns where none is to be known: when one comes again, the table has forgotten that it came.
_FRESH = (ONCE + 1) * MAX_HEADS
_CLIENTS = 64


def _requests(fresh: bool) -> list[bytes]:
    return [request(b"X-Request-Id: %d\r\n" % number) for number in range(_FRESH)] if fresh else [request()]


def _answers(fresh: bool) -> list[bytes]:
    return [answer(number) for number in range(_FRESH if fresh else 1)]


class _Sink:
    """Takes requests; the last one is kept."""

    last: Request

    def request_whole(self, request: Request, surplus: bytes) -> None:
        """A request is complete."""
        self.last = request

    def request_refused(self, request: Request, outcome: Outcome, message: str) -> None:
        """The bench sends no bad ones."""
        raise AssertionError(outcome, message)

    def continue_wanted(self) -> None:
        """The bench asks for none."""

    def take_body(self, size: int) -> bool:
        """There is room."""
        return True

    def bug(self, error: BaseException) -> None:
        """There is none."""
        raise error


class _Holder:
    """Takes answers; the last head is kept."""

    last: AnswerHead

    def answer_whole(self, head: AnswerHead, body: bytes) -> None:
        """An answer with a known head."""
        self.last = head

    def answer_head(self, head: AnswerHead, length: int | None) -> Framing:
        """An answer whose head was parsed."""
        self.last = head
        return Framing.LENGTH

    def answer_body(self, data: bytes) -> None:
        """Its body."""

    def answer_chunk(self, chunk: bytes, start: int) -> None:
        """The bench sends none to this holder."""

    def answer_read(self, ended: bool) -> None:
        """Its end."""

    def answer_upgraded(self, surplus: bytes) -> None:
        """The bench asks for none."""

    def answer_broke(self, outcome: Outcome, error: str) -> None:
        """The bench sends no bad ones."""
        raise AssertionError(outcome, error)


def _read_request(fresh: bool) -> Operation:
    """From a read to a request with head and body."""
    sink = _Sink()
    known: KnownHeads[RequestHead] = KnownHeads()
    reader = RequestReader(sink, RouterConfig(), known)
    reads = cycle(_requests(fresh))
    return lambda: reader.feed(next(reads), 1.0)


def _read_answer(fresh: bool) -> Operation:
    """From sending a request to its answer with head and body."""
    dry = Dry(services(1), idle=0)
    conn = dry.connect(dry.worker.table.by_slot[0])
    holder = _Holder()
    reads = cycle(_answers(fresh))

    def one() -> None:
        conn.send(holder, b"POST", b"", b"")
        conn.data_received(next(reads))

    return one


def _known_request() -> tuple[Dry, Request]:
    dry = Dry(services(2, lambda _: (MODEL,)))
    sink = _Sink()
    RequestReader(sink, RouterConfig(), KnownHeads()).feed(request(), 1.0)
    sink.last.head.route = dry.worker.classify(sink.last.head.method, sink.last.head.target)
    return dry, sink.last


def _make_plan() -> Operation:
    dry, found = _known_request()
    route = found.head.route
    assert route is not None
    return partial(read_plan, dry.worker, found, route)


def _make_engine_head() -> Operation:
    dry, found = _known_request()
    route = found.head.route
    assert route is not None
    plan = read_plan(dry.worker, found, route)
    return partial(plan.engine_head, dry.worker.pool.upstream(dry.worker.table.by_slot[0]))


def _make_answer() -> Operation:
    """Our own lines, and with them the head and the body that the client gets."""
    head = AnswerHead(200, True, [(b"server", b"uvicorn"), (b"content-type", b"application/json")])
    body = answer().partition(b"\r\n\r\n")[2]

    choice = Choice(
        Service(name="engine-0001", slot=1, generation=1, host="h", addresses=("h",), port=80), "round_robin"
    )

    def one() -> bytes:
        ours = replies.our_lines(b"req-0123456789ab-1", choice, 1, 0.0001)
        return whole_answer(head, ours, "1.1", True, body)

    return one


def _whole(services_count: int, fresh: bool = False, log: bool = False, models: int = 1) -> Operation:
    """A request and its answer through the whole worker, over some clients in turn."""
    names = [MODEL, *(f"other-{number}" for number in range(1, models))]
    config = RouterConfig(access_log=os.devnull if log else "")
    dry = Dry(services(services_count, lambda number: (names[number % models],)), config, connected=services_count)
    clients = cycle([dry.client() for _ in range(_CLIENTS)])
    reads, answers = cycle(_requests(fresh)), cycle(_answers(fresh))

    def one() -> None:
        client = next(clients)
        client.data_received(next(reads))
        dry.engine(client).data_received(next(answers))

    one()
    _expect_idle(dry)
    return one


def _traced(sampled: bool) -> Operation:
    """The same with traces: of each request, or of none of them."""
    config = RouterConfig(otlp_endpoint="http://collector:4318", trace_sample=float(sampled))
    dry = Dry(services(2, lambda _: (MODEL,)), config, connected=2)
    traces, client = dry.worker.traces, dry.client()
    reads, answers = cycle(_requests(False)), cycle(_answers(False))
    assert traces is not None

    def one() -> None:
        client.data_received(next(reads))
        dry.engine(client).data_received(next(answers))
        if traces.any:
            traces.told()

    one()
    _expect_idle(dry)
    return one


def _prompted(size: int, services_count: int, policy: Policy) -> Operation:
    """The same with a prompt of so many bytes, each of some conversations in turn."""
    dry = Dry(services(services_count, lambda _: (MODEL,)), RouterConfig(policy=policy), connected=services_count)
    client = dry.client()
    rng = random.Random(1)
    reads, answers = cycle([request(body=chat(MODEL, size, rng)) for _ in range(_CLIENTS)]), cycle(_answers(False))

    def one() -> None:
        client.data_received(next(reads))
        dry.engine(client).data_received(next(answers))

    for _ in range(_CLIENTS):
        one()
    _expect_idle(dry)
    return one


def _expect_idle(dry: Dry) -> None:
    """A bench of errors would be a fast one."""
    client = next(iter(dry.worker.clients))
    wire = cast("Wire", client.transport)
    assert wire.writes == 0 or wire.last.startswith(b"HTTP/1.1 200 OK"), wire.last
    assert sum(dry.shared.loads[0]) == 0


def _relayed(pieces: Sequence[bytes]) -> Operation:
    """A stream that goes on for ever, in these reads."""
    dry = Dry(services(1, lambda _: (MODEL,)))
    client: ClientConn = dry.client()
    client.data_received(request())
    engine = dry.engine(client)
    engine.data_received(STREAM_HEAD)

    def one() -> None:
        for piece in pieces:
            engine.data_received(piece)

    one()
    assert cast("Wire", client.transport).last, "nothing was passed on"
    return one


def _cut(size: int) -> list[bytes]:
    """A chunk in two reads."""
    data = chunk()
    return [data[:size], data[size:]]


_COMPARED: tuple[Policy, ...] = ("round_robin", "least_load", "prefix")
_Make = Callable[[], Operation]
_HEADS: list[tuple[str, _Make]] = [
    ("heads: request read, head known", partial(_read_request, False)),
    ("heads: request read, head fresh", partial(_read_request, True)),
    ("heads: answer read, head known", partial(_read_answer, False)),
    ("heads: answer read, head fresh", partial(_read_answer, True)),
    ("heads: plan of a request", _make_plan),
    ("heads: head for the engine", _make_engine_head),
    ("heads: answer for the client", _make_answer),
]
_REQUESTS: list[tuple[str, _Make]] = [
    ("request: head known", partial(_whole, 2)),
    ("request: head fresh", partial(_whole, 2, fresh=True)),
    ("request: head known, access log", partial(_whole, 2, log=True)),
    ("request: head fresh, access log", partial(_whole, 2, fresh=True, log=True)),
    ("request: head known, traced", partial(_traced, True)),
    ("request: head known, not sampled for a trace", partial(_traced, False)),
    ("request: head known, 1000 services", partial(_whole, 1000, models=200)),
]
_PROMPTS: list[tuple[str, _Make]] = [
    (f"request of {size // KIB} KiB: {policy}, {count} services", partial(_prompted, size, count, policy))
    for size, count in ((8 * KIB, 8), (48 * KIB, 8), (8 * KIB, 64))
    for policy in _COMPARED
]
CASES = [
    *(Case(name, make) for name, make in _HEADS + _REQUESTS + _PROMPTS),
    Case("chunk: one in a read", partial(_relayed, [chunk()])),
    Case("chunk: two in a read", partial(_relayed, [chunk() * 2]), 2),
    Case("chunk: one in two reads", partial(_relayed, _cut(100))),
]
