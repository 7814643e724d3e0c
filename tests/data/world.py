"""A worker whose every event is somebody's decision: no sockets, no clock, no chance of its own.

Owns the stand-ins for transports, connecting and time, and what can happen next (`World.possible`). May not live here:
what must hold (`test_any_order`).
"""

from __future__ import annotations

import asyncio
import mmap
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from bench.fuzz.corpus import ANSWERS, TAG
from bench.fuzz.mutate import mutate
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Fleet, Service
from enginehouse.core.shared import SIZE, Shared
from enginehouse.data.worker import Worker

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}]%b}'
LONG = b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * 6000 + b'"}],"stream":true}'
EVENT = b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[%b]}\n\n'
WORD = EVENT % b'{"index":0,"delta":{"content":"word "},"finish_reason":null}'
LAST = EVENT % b'{"index":0,"delta":{},"finish_reason":"stop"}' + b"data: [DONE]\n\n"
USAGE = b'data: {"usage":{"prompt_tokens":1500,"prompt_tokens_details":{"cached_tokens":%d}}}\n\n'
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ERROR = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n" + b'{"error":"busy"}'[:15]


def request(
    body: bytes, method: bytes = b"POST", path: bytes = b"/v1/chat/completions", version: bytes = b"1.1"
) -> bytes:
    return b"%b %b HTTP/%b\r\nHost: house\r\nContent-Length: %d\r\n\r\n%b" % (method, path, version, len(body), body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


REQUESTS = {
    "asks": request(CHAT % b""),
    "asks for a stream": request(CHAT % b',"stream":true'),
    "asks at length for a stream": request(LONG),
    "asks for a stream in HTTP/1.0": request(CHAT % b',"stream":true', version=b"1.0"),
    "asks twice": request(CHAT % b"") * 2,
    "makes a response": request(b'{"model":"m","input":"a"}', path=b"/v1/responses"),
    "asks for what nobody has": request(b'{"model":"gone"}'),
    "asks the router itself": request(b"", b"GET", b"/services"),
    "begins to ask": request(CHAT % b"")[:-10],
    "talks nonsense": b"nonsense\r\n\r\n",
}
SAID = {
    "answers": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    "answers with an id": b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n" + b'{"id":"resp_1"}',
    "begins to answer": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
    "begins to stream": SSE + chunk(WORD),
    "says only a head": SSE,
    "says a word": chunk(WORD),
    "says half a word": chunk(WORD)[:20],
    "says to be patient": chunk(b": still here\n\n"),
    "ends its stream": chunk(LAST) + b"0\r\n\r\n",
    "ends its stream with usage": chunk(USAGE % 0) + chunk(LAST) + b"0\r\n\r\n",
    "ends its stream with what was cached": chunk(USAGE % 1400 + LAST) + b"0\r\n\r\n",
    "streams all": SSE + chunk(WORD) + chunk(LAST) + b"0\r\n\r\n",
    "ends abruptly": b"0\r\n\r\n",
    "is busy": ERROR % b"503 Service Unavailable",
    "fails": ERROR % b"500 Internal Server Error",
    "says to wait": b"HTTP/1.1 100 Continue\r\n\r\n",
    "talks nonsense": b"\0\1nonsense\r\n",
    "says too much": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}{}",
}
STREAMS = ("asks for a stream", "asks at length for a stream")
#: What an engine says first, and what it says next, when it knows what it does.
HEADS = ("answers", "begins to answer", "begins to stream", "begins to stream", "streams all", "is busy", "fails")
BODIES = (
    "says a word",
    "says half a word",
    "says to be patient",
    "ends its stream",
    "ends its stream with usage",
    "ends its stream with what was cached",
)
#: What is spliced into what is said, where that is to be broken.
OTHERS = (*REQUESTS.values(), *SAID.values(), *ANSWERS.values())
Step = tuple[str, Callable[[], object]]


class Wire:
    """A transport. What is written is kept; closing tells the protocol in the loop's next round, as a real one does."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.written = bytearray()
        self.closed = False
        self.paused = False
        self.full = False

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.written += data

    def refuse(self, data: bytes) -> None:
        """What a transport does that was closed for writing."""
        raise RuntimeError(f"Cannot call write() after write_eof(): {data[:20]!r}")

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 1) if name == "peername" else default

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 1 if self.full else 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Whether it is full is decided elsewhere."""

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def write_eof(self) -> None:
        """The other side sees the end when it looks."""

    def abort(self) -> None:
        self.lose(None)

    close = abort

    def lose(self, error: Exception | None) -> None:
        """The connection ends, whoever wanted it."""
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)


class Chance(random.Random):
    """No back-off, and always the first choice."""

    def random(self) -> float:
        return 0.0


class World:
    """One worker, its clients, and whoever it connects to. Made and used within a running loop."""

    def __init__(self, rng: random.Random, services: int = 0, broken: float = 0.0, **settings: Any) -> None:
        """`services`: how many there are, by chance if it is 0; `broken`: share of what is said that is changed."""
        self.rng = rng
        self._broken = broken
        self.now = 1000.0
        self.shared = Shared(memoryview(mmap.mmap(-1, SIZE)))
        self.worker = Worker(RouterConfig(**settings), self.shared, 0, "/nonexistent/api")
        self.worker.now = lambda: self.now
        self.worker.rng = Chance()
        self.services = [_service(slot) for slot in range(services or rng.choice((1, 2, 3)))]
        self.version = 0
        self._use(self.services)
        self.clients: list[Wire] = []
        self.engines: list[Wire] = []
        self.connecting: list[asyncio.Future[None]] = []
        self.asked: Counter[Wire] = Counter()
        """Requests that each client sent, whole or not."""
        self.story: list[str] = []
        self.states: Counter[str] = Counter()
        """Of the machines of requests, after each step."""
        loop = cast("Any", asyncio.get_running_loop())
        loop.create_connection = loop.create_unix_connection = self._connect

    def _use(self, services: list[Service]) -> None:
        self.version += 1
        fleet = Fleet(version=self.version, synced=True, services=tuple(services), known_models=("m", "gone"))
        self.worker.use_fleet(fleet)

    async def _connect(self, factory: Callable[[], Any], *_where: object, **_how: object) -> tuple[Any, Any]:
        """What the pool asks the loop for: made, or not, when somebody decides."""
        decided = asyncio.get_running_loop().create_future()
        self.connecting.append(decided)
        try:
            await decided
        finally:
            self.connecting.remove(decided)
        protocol = factory()
        wire = Wire(protocol)
        self.engines.append(wire)
        protocol.connection_made(wire)
        return wire, protocol

    async def connected(self) -> None:
        """Every connection that is being made is."""
        await settled()
        for future in list(self.connecting):
            future.set_result(None)
        await settled()

    # -- what can happen -----------------------------------------------------------------------------------------------

    def possible(self) -> list[Step]:
        """By name, for people who read of a failure."""
        here = [wire for wire in self.clients if not wire.closed]
        found: list[Step] = [
            *([("a client comes", self._come)] if len(here) < 4 else []),
            ("a moment passes", lambda: self._pass(0.3)),
            ("a while passes", lambda: self._pass(3.0)),
            ("the fleet changes", self._change),
        ]
        for future in self.connecting:
            if not future.done():
                found += 3 * [("connected", partial(future.set_result, None))]
                found.append(("refused", partial(future.set_exception, OSError("refused"))))
        for number, wire in enumerate(self.clients):
            if not wire.closed:
                found += self._of_client(f"client {number}", wire)
        for number, wire in enumerate(self.engines):
            if not wire.closed:
                found += self._of_engine(f"connection {number}", wire)
        return found

    def _of_client(self, who: str, wire: Wire) -> list[Step]:
        found: list[Step] = [
            (f"{who} leaves", lambda: wire.lose(None)),
            (f"{who} closes its side", lambda: self._half(wire)),
            (f"{who} takes no more", lambda: self._fill(wire)),
        ]
        if wire.full:
            found += 2 * [(f"{who} reads on", lambda: self._empty(wire))]
        if not wire.paused and wire.protocol.driver is None:
            name = self.rng.choice(STREAMS if self.rng.random() < 0.5 else tuple(REQUESTS))
            found += 6 * [(f"{who} {name}", lambda: self._ask(wire, self._said(REQUESTS[name])))]
        return found

    def _of_engine(self, who: str, wire: Wire) -> list[Step]:
        conn = wire.protocol
        found: list[Step] = [
            (f"{who} is closed", lambda: wire.lose(None)),
            (f"{who} is reset", lambda: wire.lose(ConnectionResetError())),
        ]
        if not wire.paused:
            sensible = HEADS if conn._in_head else BODIES
            name = self.rng.choice(sensible if self.rng.random() < 0.8 else tuple(SAID))
            times = 1 if conn.holder is None else 6
            found += times * [(f"{who} {name}", lambda: conn.data_received(self._said(SAID[name])))]
        return found

    def _said(self, data: bytes) -> bytes:
        """As it is said, or so that nobody should; never nothing."""
        if self.rng.random() >= self._broken:
            return data
        return mutate(data, OTHERS, self.rng)[0].replace(TAG, b"00000001") or b"\0"

    def _ask(self, wire: Wire, data: bytes) -> None:
        self.asked[wire] += max(1, data.count(b" HTTP/"))
        wire.protocol.data_received(data)

    def _come(self) -> None:
        conn = cast("Any", self.worker.client())
        wire = Wire(conn)
        self.clients.append(wire)
        conn.connection_made(wire)

    def _half(self, wire: Wire) -> None:
        if not wire.protocol.eof_received():
            wire.lose(None)

    def _fill(self, wire: Wire) -> None:
        if not wire.full:
            wire.full = True
            wire.protocol.pause_writing()

    def _empty(self, wire: Wire) -> None:
        wire.full = False
        wire.protocol.resume_writing()

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self.worker.beat()

    def _change(self) -> None:
        self._use(self.rng.choice((self.services, self.services[:1], [], self.services[1:])))

    def check(self) -> None:
        """Between two steps."""
        running = queued = held = 0
        for conn in self.worker.clients:
            driver = conn.driver
            if driver is not None:
                self.states[driver._exchange.state.value] += 1
                for attempt in (driver._attempt, driver._rival):
                    if attempt is not None:
                        running += 1
                        if (prefill := attempt._prefill) is not None:
                            queued += prefill._queued
                            held += prefill._held
        assert (self.load(), self.queued(), self.held()) == (running, queued, held), self.story
        self.states["prompts queued"] += queued > 0
        self.states["prompts computed"] += running > 0 and not queued

    # -- the end -------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Every client leaves; then every engine closes."""
        for wire in [*self.clients, *self.engines]:
            wire.lose(None)

    def load(self) -> int:
        """Slots taken, of all services."""
        return sum(map(abs, self.shared.loads[0]))

    def queued(self) -> int:
        """Tokens to be computed, of all services."""
        return sum(map(abs, self.shared.queued[0]))

    def held(self) -> int:
        """Tokens of the prompts in flight, of all services."""
        return sum(map(abs, self.shared.held[0]))


async def settled() -> None:
    """Everything that follows from what has happened has happened, but for what needs another event."""
    for _ in range(6):
        await asyncio.sleep(0)


def _service(slot: int) -> Service:
    return Service(
        name=f"s{slot}",
        slot=slot,
        generation=1,
        host="127.0.0.1",
        addresses=("127.0.0.1",),
        port=1,
        models=("m",),
        capacity=slot,
        continues=True,
        up=True,
    )
