"""How others choose, as far as it is known, on perfect knowledge of prefixes: for ranking, without their binaries.

Owns `Router`, which is what every router is to the simulation, and models of the peers' policies. May not live here:
our own policy (`ours`), which is never a model of itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

from bench.routing.job import Job
from enginehouse.replay.text import BYTES_PER_TOKEN
from enginehouse.replay.traces import BLOCK_TOKENS


class Router(Protocol):
    """Whoever chooses. Engines are numbers from 0; a request is known by its number."""

    def use(self, alive: Sequence[int]) -> None:
        """Which engines there are from now on; those that are gone have lost what they had."""

    def pick(self, number: int, job: Job, now: float) -> int:
        """The engine that gets this request now."""

    def first_token(self, number: int, now: float) -> None:
        """The first token of its answer has come."""

    def ended(self, number: int, tokens: int, cached: int, now: float) -> None:
        """Its answer is complete; of the `tokens` of its prompt `cached` were found in the engine's cache."""

    def failed(self, number: int, now: float) -> None:
        """Its engine died."""


class Lru:
    """Which blocks one engine should still have: the most lately used ones, up to its memory."""

    def __init__(self, blocks: int) -> None:
        self._most = blocks
        self._held: OrderedDict[int, None] = OrderedDict()

    def matched(self, blocks: Sequence[int], full: int) -> int:
        """Leading full blocks that it has."""
        held = self._held
        for place in range(full):
            if blocks[place] not in held:
                return place
        return full

    def touch(self, blocks: Sequence[int], full: int) -> None:
        """They are used now: the last one is what is dropped first, as it is of use only after the others."""
        held = self._held
        for place in range(full - 1, -1, -1):
            held[blocks[place]] = None
            held.move_to_end(blocks[place])
        while len(held) > self._most:
            held.popitem(last=False)


class Counting:
    """What every router here counts: requests in flight (`n`), tokens of their prompts (`held`), and of these
    the uncached ones before their first token (`p`)."""

    def __init__(self, engines: int, kv_tokens: int) -> None:
        self.n = [0] * engines
        self.p = [0.0] * engines
        self.held = [0] * engines
        self.alive: list[int] = []
        self.index = [Lru(kv_tokens // BLOCK_TOKENS) for _ in range(engines)]
        self._kv = kv_tokens
        self._under_way: dict[int, tuple[int, float, int]] = {}
        self._turn = 0

    def use(self, alive: Sequence[int]) -> None:
        """As `Router` says."""
        for engine in range(len(self.n)):
            if engine not in alive:
                self.index[engine] = Lru(self._kv // BLOCK_TOKENS)
        self.alive = list(alive)

    def pick(self, number: int, job: Job, now: float) -> int:
        """As `Router` says: `chosen` decides, the rest is counting."""
        self._turn += 1
        full = job.tokens // BLOCK_TOKENS
        matched = {engine: self.index[engine].matched(job.blocks, full) * BLOCK_TOKENS for engine in self.alive}
        engine = self.chosen(job, matched)
        work = job.tokens - matched[engine]
        self.n[engine] += 1
        self.p[engine] += work
        self.held[engine] += job.tokens
        self._under_way[number] = (engine, work, job.tokens)
        self.index[engine].touch(job.blocks, full)
        return engine

    def chosen(self, job: Job, matched: dict[int, int]) -> int:
        """The policy: `matched` has the tokens of the prompt that each engine should have."""
        raise NotImplementedError

    def first_token(self, number: int, now: float) -> None:
        """As `Router` says."""
        engine, work, tokens = self._under_way[number]
        self.p[engine] -= work
        self._under_way[number] = (engine, 0.0, tokens)

    def ended(self, number: int, tokens: int, cached: int, now: float) -> None:
        """As `Router` says."""
        engine, work, held = self._under_way.pop(number)
        self.n[engine] -= 1
        self.held[engine] -= held
        self.p[engine] -= work

    def failed(self, number: int, now: float) -> None:
        """As `Router` says."""
        self.ended(number, 0, 0, now)

    def in_turn(self, engines: Iterable[int]) -> list[int]:
        """The same ones beginning with another one each time, so that ties are not always won by the first."""
        ordered = list(engines)
        start = self._turn % len(ordered)
        return ordered[start:] + ordered[:start]


class RoundRobin(Counting):
    """Each in its turn."""

    def chosen(self, job: Job, matched: dict[int, int]) -> int:
        """The next one."""
        return self.alive[self._turn % len(self.alive)]


class LeastRequests(Counting):
    """nginx' `least_conn`, and what most call least load."""

    def chosen(self, job: Job, matched: dict[int, int]) -> int:
        """Fewest in flight."""
        return min(self.in_turn(self.alive), key=self.n.__getitem__)


class CacheAware(Counting):
    """SGLang's `cache_aware`: to whom the longest prefix in one tree belongs if it is more than 0.3 of the prompt,
    else to the smallest part of the tree; where loads differ too much, to the least requests.

    The tree holds 2²⁶ characters, far more than the engines do: ROUTING's first trouble with it.
    """

    _THRESHOLD, _APART, _TIMES, _CHARACTERS = 0.3, 64, 1.5, 1 << 26

    def __init__(self, engines: int, kv_tokens: int) -> None:
        super().__init__(engines, round(self._CHARACTERS / BYTES_PER_TOKEN))
        self._size = [0] * engines

    def chosen(self, job: Job, matched: dict[int, int]) -> int:
        """As its documentation says."""
        loads = [self.n[engine] for engine in self.alive]
        if max(loads) - min(loads) > self._APART and max(loads) > self._TIMES * min(loads):
            engine = min(self.in_turn(self.alive), key=self.n.__getitem__)
        else:
            best = max(self.alive, key=matched.__getitem__)
            fits = matched[best] > self._THRESHOLD * job.tokens
            engine = best if fits else min(self.in_turn(self.alive), key=self._size.__getitem__)
        self._size[engine] += job.tokens - matched[engine]
        return engine


class LMetric(Counting):
    """(new + queued prefill tokens) × batch size (arXiv 2603.15202)."""

    def chosen(self, job: Job, matched: dict[int, int]) -> int:
        """The smallest product."""
        return min(
            self.in_turn(self.alive), key=lambda each: (self.p[each] + job.tokens - matched[each]) * (self.n[each] + 1)
        )


class LoadAware(Counting):
    """production-stack's `loadaware`: matched share less β × relative load, with β = 1."""

    def chosen(self, job: Job, matched: dict[int, int]) -> int:
        """The greatest difference."""
        most = max(1, *(self.n[engine] for engine in self.alive))
        return max(self.in_turn(self.alive), key=lambda each: matched[each] / job.tokens - self.n[each] / most)


class Formula(Counting):
    """Our cost on a perfect index and with fixed figures: beside it one sees what our index and learning cost."""

    _RATE, _EACH, _FULL = 30_000.0, 0.003, 0.6

    def chosen(self, job: Job, matched: dict[int, int]) -> int:
        """The least cost."""

        def cost(each: int) -> float:
            work = job.tokens - matched[each]
            others = self._EACH * self.n[each] + self._FULL * self.held[each] / self._kv
            return (self.p[each] + work) / self._RATE + others * (1 + work / 4096)

        return min(self.in_turn(self.alive), key=cost)


OTHERS: dict[str, type[Counting]] = {
    "round robin": RoundRobin,
    "least requests": LeastRequests,
    "cache_aware": CacheAware,
    "LMetric": LMetric,
    "loadaware": LoadAware,
    "formula": Formula,
}
