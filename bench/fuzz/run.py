"""The fuzzer's loop: as many cases at once as asked for, until the time is over, then a look at what is left behind.

Owns the order of a run, its findings and its figures. May not live here: making findings small (`minimise`), the file.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.common.processes import BenchError
from bench.fuzz.case import Case, Kind, make, tag
from bench.fuzz.client import Client
from bench.fuzz.corpus import CHAT, TAG
from bench.fuzz.engine import Engine, Script
from bench.fuzz.house import BODY_BUDGET, Held, House

ENGINES: Final = 3
#: Seconds between two looks at the router's health.
LOOK: Final = 1.0
#: Looks between two samples that are stored.
_SAMPLES: Final = 10
#: After the last case everything must have been let go within this. Seconds.
QUIET: Final = 60.0
#: Memory may be this much larger at the end than after the first tenth of the run, for all workers. Bytes.
GROWTH: Final = 64 * 2**20
#: Findings of one kind that are kept.
_MAX_KEPT: Final = 20


@dataclass
class Finding:
    """Something that must not happen. `suspects`: numbers of the cases that ran when it did, the likeliest first."""

    kind: str
    text: str
    suspects: list[int]


@dataclass
class Outcome:
    """What a run tells."""

    cases: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    begun_as: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    bytes_sent: int = 0
    samples: list[Held] = field(default_factory=list)
    asked: int = 0
    connections: int = 0
    log_lines: int = 0
    restarts: int = 0

    def note(self, case: Case) -> None:
        """A case begins."""
        self.cases += 1
        self.kinds[case.kind.value] += 1
        self.begun_as[case.name] += 1
        self.changes.update(case.changes)
        self.bytes_sent += len(case.request)


class Stage:
    """A router, engines and a client, on which cases are played."""

    def __init__(self, house: House, script: Script, client: Client, engines: list[Engine]) -> None:
        self.house = house
        self.outcome = Outcome()
        self._script = script
        self._client = client
        self._engines = engines
        self._recent: deque[int] = deque(maxlen=1000)
        self._kept: Counter[str] = Counter()

    def report(self, kind: str, text: str, number: int) -> None:
        """A finding; `number`: its case, -1 where that is not known."""
        self._kept[kind] += 1
        if self._kept[kind] <= _MAX_KEPT:
            suspects = [number] if number >= 0 else [*reversed(self._recent)]
            self.outcome.findings.append(Finding(kind, text, suspects))

    async def play(self, case: Case) -> None:
        """One case."""
        self.outcome.note(case)
        self._recent.append(case.number)
        self._script.answers[case.number] = case.answers
        try:
            await self._client.play(case)
        finally:
            del self._script.answers[case.number]

    def look(self) -> None:
        """At the router's health."""
        for trouble in self.house.troubles():
            self.outcome.restarts += "was replaced" in trouble
            self.report("the router is in trouble", trouble, -1)

    async def warm(self) -> None:
        """Until every engine is known and answers."""
        deadline = time.monotonic() + QUIET
        while self._client.counts["plain answered"] < 10:
            if time.monotonic() > deadline:
                raise BenchError(f"the router does not answer: {self._client.counts} {self.outcome.findings[:3]}")
            await self._client.play(_plain(99_000_000 + self._client.counts.total()))
            await asyncio.sleep(0.05)
        self._client.counts.clear()
        self.forget()
        self.house.settle()

    def forget(self) -> None:
        """Findings so far do not count."""
        self.outcome.findings.clear()
        self._kept.clear()

    async def finish(self) -> None:
        """Wait until everything must have been let go, and see whether it was."""
        deadline = time.monotonic() + QUIET
        while (left := self._left()) and time.monotonic() < deadline:  # noqa: ASYNC110 (others' processes have no event)
            await asyncio.sleep(0.2)
        for what in left:
            self.report("something is left behind", what, -1)
        await self._check_bodies()
        self.look()
        outcome = self.outcome
        outcome.counts = self._client.counts
        outcome.asked, outcome.connections = self._script.asked, self._script.connections
        outcome.log_lines, bad = self.house.bad_log_lines()
        for line in bad:
            self.report("a line of the access log is no JSON", line, -1)

    def _left(self) -> list[str]:
        """What is not back where it was before the first case."""
        left = []
        if loads := self.house.loads():
            left.append(f"loads: {loads}")
        if kept := sum(engine.connections for engine in self._engines):
            left.append(f"connections to engines: {kept}")
        before, now = self.outcome.samples[0], self.house.held(0.0)
        if now.worker_descriptors > before.worker_descriptors:
            left.append(f"descriptors: {now.worker_descriptors}, there were {before.worker_descriptors}")
        return left

    async def _check_bodies(self) -> None:
        """A body as large as all that a worker may hold is taken: nothing of the budget was lost."""
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: house\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        body = b'{"model":"m","messages":"' + b"x" * (BODY_BUDGET - 27) + b'"}'
        for _ in range(8 * max(1, len(self.house.pids))):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.house.port)
            try:
                writer.write(head % len(body) + body)
                status = await asyncio.wait_for(reader.readline(), QUIET)
            except (TimeoutError, ConnectionError) as error:
                status = repr(error).encode()
            finally:
                writer.transport.abort()
            if b" 200 " not in status:
                self.report("something is left behind", f"bodies: the whole budget is answered with {status!r}", -1)
            await asyncio.sleep(0.3)  # the budget is one for all connections of a worker


def _plain(number: int) -> Case:
    return Case(number, Kind.PLAIN, "chat", (), CHAT.replace(TAG, tag(number)))


@asynccontextmanager
async def stage(directory: Path, workers: int) -> AsyncIterator[Stage]:
    """Everything that is needed to play cases, warm."""
    found: list[Stage] = []

    def report(kind: str, text: str, number: int) -> None:
        found[0].report(kind, text, number)

    script = Script(report)
    engines = [Engine(script) for _ in range(ENGINES)]
    for engine in engines:
        await engine.start()
    with House(directory, [engine.port for engine in engines], workers) as house:
        found.append(Stage(house, script, Client(house.port, report), engines))
        await found[0].warm()
        try:
            yield found[0]
        finally:
            for engine in engines:
                await engine.stop()


async def fuzz(
    seed: int, numbers: Iterable[int], seconds: float, parallel: int, at: Stage, say: Callable[[str], None]
) -> Outcome:
    """Play cases of a seed until there are no more `numbers` or the time is over."""
    outcome, began = at.outcome, time.monotonic()
    outcome.samples.append(at.house.held(0.0))
    waiting = iter(numbers)

    async def go_on() -> None:
        while time.monotonic() - began < seconds and (number := next(waiting, None)) is not None:
            await at.play(make(seed, number))

    players = asyncio.gather(*(go_on() for _ in range(parallel)))
    looks = told = 0
    while not players.done():
        await asyncio.wait([players], timeout=LOOK)
        at.look()
        for finding in outcome.findings[told:]:
            say(f"  FOUND: {finding.kind}: {finding.text[:100]} … {finding.text[-200:]}  (case {finding.suspects[0]})")
        told = len(outcome.findings)
        looks += 1
        if looks % _SAMPLES == 0:
            outcome.samples.append(at.house.held(time.monotonic() - began))
            say(progress(outcome))
    await players
    outcome.seconds = round(time.monotonic() - began, 1)
    await at.finish()
    outcome.samples.append(at.house.held(time.monotonic() - began))
    _check_memory(at)
    return outcome


def _check_memory(at: Stage) -> None:
    samples = at.outcome.samples
    early = samples[max(1, len(samples) // 10)] if len(samples) > 2 else samples[0]
    growth = samples[-1].worker_bytes - early.worker_bytes
    if growth > GROWTH:
        at.report("something is left behind", f"memory: {growth / 2**20:.0f} MiB more than after {early.seconds} s", -1)


def progress(outcome: Outcome) -> str:
    """One line for people."""
    last = outcome.samples[-1]
    memory = f"{last.worker_bytes / 2**20:.0f} MiB in workers"
    return f"{last.seconds:5.0f} s: {outcome.cases:,} cases, {memory}, {len(outcome.findings)} findings"


def figures(outcome: Outcome) -> dict[str, Any]:
    """Of a run, for the file."""
    return {
        "cases": outcome.cases,
        "seconds": outcome.seconds,
        "wrong_was": dict(sorted(outcome.kinds.items())),
        "begun_as": dict(sorted(outcome.begun_as.items())),
        "changes": dict(sorted(outcome.changes.items())),
        "came_back": dict(sorted(outcome.counts.items())),
        "bytes_of_requests": outcome.bytes_sent,
        "requests_at_engines": outcome.asked,
        "connections_to_engines": outcome.connections,
        "access_log_lines": outcome.log_lines,
        "processes_replaced": outcome.restarts,
        "samples_are": list(Held._fields),
        "samples": [list(one) for one in outcome.samples],
    }
