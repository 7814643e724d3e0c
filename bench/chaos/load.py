"""Steady load, and an account of it in which no request is missing.

Owns `Load`: requests sent at a fixed rate whatever becomes of those before (a slow answer delays nobody else's
request), connections kept as SDKs keep them, and one `Seen` for each request. May not live here: the faults, and which
rows may have what.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from bench.chaos.asks import Ask, Expected
from bench.chaos.client import End, Got, Line, connect, request
from bench.chaos.verdict import Kind, Shape, Verdict, judge

#: Seconds that a client waits for the whole of its answer; longer than all time-outs of the router together.
PATIENCE = 30.0
#: Every so manieth request takes a new connection, whatever is idle.
FRESH = 8
#: How often, and after how many seconds, OpenAI's SDKs repeat a request whose connection broke without an answer.
REPEATS = (0.5, 1.0)


@enum.unique
class Repeat(enum.Enum):
    """When a client sends a request again that broke without a byte of an answer, as SDKs do."""

    NEVER = "never"
    CROSSED = "crossed"
    """On a connection that was kept: the request met its end on the way."""
    SEVERED = "severed"
    """Whenever: the fault is the end of the very process that holds the connections."""


class Seen(NamedTuple):
    """One request. Times in monotonic seconds."""

    began: float
    ended: float
    verdict: Verdict
    wait: float
    """The longest time without a byte of the answer."""
    service: str
    """Who answered, as the router says."""
    repeated: int
    """How often it was sent again, see `Repeat`."""


class Load:
    """Asks in turn what is in `asks`, `rate` times a second. `shape`: see `judge`."""

    def __init__(
        self,
        port: int,
        asks: Sequence[Ask],
        right: Sequence[Expected],
        rate: float,
        *,
        repeat: Repeat = Repeat.NEVER,
        shape: Shape | None = None,
    ) -> None:
        self.seen: list[Seen] = []
        self.sent = 0
        self._port = port
        self._asks = list(zip(asks, right, strict=True))
        self._rate = rate
        self._shape = shape
        self._repeat = repeat
        self._idle: list[Line] = []
        self._running: set[asyncio.Task[None]] = set()
        self._pacer: asyncio.Task[None] | None = None

    def start(self, rate: float = 0.0) -> None:
        """Begin, or go on at another rate."""
        self._rate = rate or self._rate
        if self._pacer is None:
            self._pacer = asyncio.create_task(self._pace())

    async def stop(self) -> None:
        """Send nothing more, and wait for what was sent: each request has patience of its own."""
        if self._pacer:
            self._pacer.cancel()
            await asyncio.wait([self._pacer])
            if not self._pacer.cancelled():
                self._pacer.result()
            self._pacer = None
        if self._running:
            await asyncio.wait(self._running)
        for line in self._idle:
            line.close()
        assert len(self.seen) == self.sent, "a request is missing in the account"

    async def _pace(self) -> None:
        due = time.monotonic()
        for number in itertools.count():
            task = asyncio.create_task(self._one(number))
            self._running.add(task)
            task.add_done_callback(self._ended)
            self.sent += 1
            due = max(due + 1 / self._rate, time.monotonic() - 0.5)  # after a pause of our own: no avalanche
            await asyncio.sleep(due - time.monotonic())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        task.result()

    async def _one(self, number: int) -> None:
        ask, right = self._asks[number % len(self._asks)]
        request_id = f"chaos-{number}"
        data = request(ask.path, ask.body, request_id)
        began, repeated = time.monotonic(), 0
        for pause in (*REPEATS, None):
            got = await self._exchange(data, fresh=number % FRESH == 0 or repeated > 0)
            if pause is None or not self._again(got):
                break
            repeated += 1
            await asyncio.sleep(pause)
        verdict = judge(got, ask.stream, right, request_id, self._shape)
        wait = max(got.wait, got.began - began + got.first)  # before a repetition it waited too
        service = got.headers.get("x-enginehouse-service", "-")
        self.seen.append(Seen(began, time.monotonic(), verdict, wait, service, repeated))

    def _again(self, got: Got) -> bool:
        if self._repeat is Repeat.CROSSED:
            return got.reused and got.end is End.CLOSED
        return self._repeat is Repeat.SEVERED and got.end in (End.CLOSED, End.UNREACHABLE)

    async def _exchange(self, data: bytes, fresh: bool) -> Got:
        line = None if fresh else self._kept()
        if line is None:
            began = time.monotonic()
            try:
                line = await connect(self._port)
            except OSError as error:
                now = time.monotonic()
                return Got(began, end=End.UNREACHABLE, detail=type(error).__name__, first=now - began, ended=now)
        got = await line.exchange(data, PATIENCE)
        if line.usable:
            self._idle.append(line)
        else:
            line.close()
        return got

    def _kept(self) -> Line | None:
        while self._idle:
            line = self._idle.pop()
            if line.usable:
                return line
            line.close()
        return None


class Account(NamedTuple):
    """The sum of what was seen."""

    sent: int
    right: int
    refused: int
    broken_off: int
    lost: int
    wrong: int
    repeated: int
    resumed: int
    identical: int
    """Of the right ones: byte for byte the undisturbed answer."""
    worst_wait: float
    samples: dict[str, dict[str, int]]
    """What was not right: kind → why → how often, the most frequent ones."""

    @property
    def bad(self) -> int:
        """What must be 0."""
        return self.lost + self.wrong


#: Different reasons that are kept of each kind.
MAX_SAMPLES = 8


def account(seen: Sequence[Seen]) -> Account:
    """Add up."""
    kinds = Counter(each.verdict.kind for each in seen)
    why: dict[Kind, Counter[str]] = {}
    for each in seen:
        if each.verdict.why:
            why.setdefault(each.verdict.kind, Counter())[each.verdict.why] += 1
    return Account(
        sent=len(seen),
        right=kinds[Kind.RIGHT],
        refused=kinds[Kind.REFUSED],
        broken_off=kinds[Kind.BROKEN_OFF],
        lost=kinds[Kind.LOST],
        wrong=kinds[Kind.WRONG],
        repeated=sum(each.repeated for each in seen),
        resumed=sum(each.verdict.resumed for each in seen),
        identical=sum(each.verdict.identical for each in seen),
        worst_wait=max((each.wait for each in seen), default=0.0),
        samples={kind.value: dict(reasons.most_common(MAX_SAMPLES)) for kind, reasons in why.items()},
    )
