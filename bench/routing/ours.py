"""Our own router without its sockets: the very code that workers choose, count and learn with, on memory they share.

Owns making a `Prompt` of a job without any text, and calling the policy as a worker does. May not live here: anything
that the policy decides.
"""

from __future__ import annotations

import mmap
import random
from collections.abc import Sequence
from typing import NamedTuple

from bench.routing.job import Job
from enginehouse.core.ask import Ask, Prompt
from enginehouse.core.config.router import Policy, RouterConfig
from enginehouse.core.fleet import Fleet, Service
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import SIZE, Shared
from enginehouse.data.counters import Counters
from enginehouse.data.measures import Measures
from enginehouse.data.prefill import Prefill
from enginehouse.policy.choose import Choice, LoadView, choose
from enginehouse.policy.chunks import ENDS
from enginehouse.policy.table import Table, build
from enginehouse.replay.text import BYTES_PER_TOKEN
from enginehouse.replay.traces import BLOCK_TOKENS
from enginehouse.wire.usage import Usage

MODEL = "model"
#: Seconds between two sweeps of a worker.
SWEEP = 0.25
_BITS = (1 << 62) - 1


def prompt_of(job: Job, block_tokens: int) -> Prompt:
    """The job's prompt as its text would be read: a hash up to each end stands for all blocks that begin before it."""
    size, block = round(job.tokens * BYTES_PER_TOKEN), round(block_tokens * BYTES_PER_TOKEN)
    chunks: list[int] = []
    so_far, begun = 0, 0
    for end in ENDS:
        if end > size:
            break
        through = -(-end // block)
        so_far = hash((so_far, end, job.blocks[begun:through])) & _BITS
        chunks.append(so_far)
        begun = through
    return Prompt(size, chunks, ENDS)


class _Worker:
    """One worker's part of it."""

    def __init__(self, shared: Shared, number: int, workers: int, config: RouterConfig) -> None:
        self.now = 0.0
        self.counters = Counters(shared, number, config, lambda: self.now, Measures(number))
        self.view = LoadView(shared, workers)
        self.turn = 0
        self._swept = 0.0

    def at(self, now: float) -> None:
        """It is later: what workers do at every sweep is done if one is due."""
        self.now = now
        if now - self._swept > SWEEP:
            self._swept = now
            self.view.index.look()


class _Attempt(NamedTuple):
    """What a worker remembers of a request under way."""

    worker: _Worker
    service: Service
    prefill: Prefill | None
    sent: float


class Ours:
    """`workers` workers of one host. Connections of clients come to any of them, evenly."""

    def __init__(
        self,
        engines: int,
        kv_tokens: int,
        policy: Policy = "prefix",
        workers: int = 1,
        block_tokens: int = BLOCK_TOKENS,
        seed: int = 1,
    ) -> None:
        """`engines`: most there will ever be. `kv_tokens`: what each says that its cache holds, 0 for nothing said."""
        self._memory = mmap.mmap(-1, SIZE)
        shared = Shared(memoryview(self._memory))
        self._config = RouterConfig(policy=policy)
        self._workers = [_Worker(shared, each, workers, self._config) for each in range(workers)]
        self._rng = random.Random(seed)
        self._kv_tokens = kv_tokens
        self._block_tokens = block_tokens
        self._generations = [0] * engines
        self._alive: frozenset[int] = frozenset()
        self._table: Table
        self._under_way: dict[int, _Attempt] = {}
        self._shared = shared

    def in_flight(self, engine: int) -> int:
        """What all workers together count there: requests, and tokens still to be computed or held."""
        return self._shared.load(engine) + sum(row[engine] for row in (*self._shared.queued, *self._shared.held))

    def use(self, alive: Sequence[int]) -> None:
        """As `Router` says: workers get a new fleet at once."""
        for engine in set(alive) - self._alive:
            self._generations[engine] += 1
        self._alive = frozenset(alive)
        services = tuple(self._service(engine) for engine in alive)
        self._table = build(Fleet(version=1, synced=True, services=services), self._config)
        for worker in self._workers:
            worker.view.index.use(services)

    def _service(self, engine: int) -> Service:
        return Service(
            name=f"engine-{engine}",
            slot=engine,
            generation=self._generations[engine],
            host="127.0.0.1",
            addresses=("127.0.0.1",),
            port=1,
            models=(MODEL,),
            up=True,
            kv_tokens=self._kv_tokens,
        )

    def pick(self, number: int, job: Job, now: float) -> int:
        """As `Router` says: choose, reserve and learn, as a worker does before its first await."""
        worker = self._workers[int(self._rng.random() * len(self._workers))]
        worker.at(now)
        worker.turn += 1
        prompt = prompt_of(job, self._block_tokens)
        choice = choose(self._table, Ask(MODEL, prompt=prompt), (), worker.view, now, worker.turn, self._rng)
        assert isinstance(choice, Choice), choice
        worker.counters.take(choice.service)
        score = choice.score
        prefill = None if score is None else Prefill(worker.counters, worker.view.index, score, prompt)
        self._under_way[number] = _Attempt(worker, choice.service, prefill, now)
        return choice.service.slot

    def first_token(self, number: int, now: float) -> None:
        """As `Router` says: what was to be computed is."""
        attempt = self._under_way[number]
        attempt.worker.at(now)
        if attempt.prefill:
            attempt.prefill.first_token(now - attempt.sent)

    def ended(self, number: int, tokens: int, cached: int, now: float) -> None:
        """As `Router` says: the end of the answer tells what was found."""
        attempt = self._release(number, Outcome.ANSWERED, now)
        if attempt.prefill:
            attempt.prefill.learn(Usage(tokens, 0, cached))

    def failed(self, number: int, now: float) -> None:
        """As `Router` says. Who is gone is told by `use`, so nobody is blamed here."""
        self._release(number, Outcome.CLIENT_LEFT, now)

    def _release(self, number: int, outcome: Outcome, now: float) -> _Attempt:
        attempt = self._under_way.pop(number)
        attempt.worker.at(now)
        if attempt.prefill:
            attempt.prefill.release()
        attempt.worker.counters.release(attempt.service, outcome, now - attempt.sent, now)
        return attempt


class Apart:
    """Routers on several hosts that know nothing of each other; requests come to any of them, evenly."""

    def __init__(self, hosts: int, engines: int, kv_tokens: int, seed: int = 1) -> None:
        self._hosts = [Ours(engines, kv_tokens, seed=seed + host) for host in range(hosts)]
        self._rng = random.Random(seed)
        self._whose: dict[int, Ours] = {}

    def use(self, alive: Sequence[int]) -> None:
        """As `Router` says."""
        for host in self._hosts:
            host.use(alive)

    def pick(self, number: int, job: Job, now: float) -> int:
        """As `Router` says."""
        host = self._whose[number] = self._rng.choice(self._hosts)
        return host.pick(number, job, now)

    def first_token(self, number: int, now: float) -> None:
        """As `Router` says."""
        self._whose[number].first_token(number, now)

    def ended(self, number: int, tokens: int, cached: int, now: float) -> None:
        """As `Router` says."""
        self._whose.pop(number).ended(number, tokens, cached, now)

    def failed(self, number: int, now: float) -> None:
        """As `Router` says."""
        self._whose.pop(number).failed(number, now)
