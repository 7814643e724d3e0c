"""The blocks of the simulated engine's KV cache: who holds them, who finds them, which are forgotten."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from enginehouse.sim.prefix_cache import Holding, PrefixCache


def held(cache: PrefixCache, hashes: list[int], blocks: int | None = None) -> Holding:
    """Hold and compute all blocks of a request."""
    found = cache.found(hashes, len(hashes))
    holding = cache.hold(found, len(hashes) if blocks is None else blocks)
    cache.learn(holding, hashes[len(found) :])
    return holding


def test_what_was_computed_is_found_up_to_the_first_block_that_differs() -> None:
    cache = PrefixCache(10)
    held(cache, [1, 2, 3])
    assert cache.found([1, 2, 9, 3], 4) == [1, 2]
    assert cache.found([1, 2, 3], 2) == [1, 2]
    assert cache.found([2, 3], 2) == [2, 3]
    assert cache.found([9, 1], 2) == []


def test_blocks_found_are_shared_and_cost_no_room() -> None:
    cache = PrefixCache(10)
    first = held(cache, [1, 2, 3])
    second = held(cache, [1, 2, 4])
    assert cache.used == 4
    cache.release(first)
    assert (cache.used, list(cache.idle)) == (3, [3])
    cache.release(second)
    assert (cache.used, list(cache.idle)) == (0, [3, 4, 2, 1])


def test_what_is_kept_has_to_be_paid_for_like_a_new_block() -> None:
    cache = PrefixCache(4)
    cache.release(held(cache, [1, 2]))
    held(cache, [7, 8])
    assert cache.price(cache.found([1, 2, 3], 3), 3) == 3
    assert cache.free == 2
    held(cache, [1, 2])
    assert cache.price(cache.found([1, 2, 3], 3), 3) == 1


def test_the_least_recently_used_is_forgotten_first_and_of_a_request_its_end() -> None:
    cache = PrefixCache(6)
    for hashes in ([1, 2, 3], [4, 5, 6], [1, 2]):  # the first one is used again
        cache.release(held(cache, hashes))
    forgotten = []
    for number in range(100, 106):
        before = set(cache.table)
        held(cache, [number])
        forgotten += [each for each in before if each not in cache.table]
    assert forgotten == [3, 6, 5, 4, 2, 1]


def test_two_that_compute_the_same_at_the_same_time_have_it_twice_and_one_of_them_is_kept() -> None:
    cache = PrefixCache(10)
    first, second = cache.hold([], 2), cache.hold([], 2)
    cache.learn(first, [1, 2])
    cache.learn(second, [1, 2])
    assert cache.used == 4
    cache.release(second)
    cache.release(first)
    assert (cache.used, set(cache.idle)) == (0, {1, 2})


def test_after_a_drop_nothing_is_found_and_nothing_comes_back() -> None:
    cache = PrefixCache(10)
    before, half = held(cache, [1, 2]), cache.hold([], 2)
    cache.release(held(cache, [3]))
    cache.drop()
    assert not cache.table
    assert not cache.idle
    assert cache.used == 4
    cache.learn(half, [8, 9])
    assert cache.found([8], 1) == []
    after = held(cache, [1, 2])
    cache.release(before)
    cache.release(half)
    assert (cache.used, set(cache.table)) == (2, {1, 2})
    cache.release(after)
    assert (cache.used, set(cache.idle)) == (0, {1, 2})


class Anything(RuleBasedStateMachine):
    """Requests come, compute, grow and go in any order, some of them with the same text."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = PrefixCache(12)
        self.there: list[tuple[Holding, list[int]]] = []

    @rule(family=st.integers(0, 2), length=st.integers(1, 6), computed=st.integers(0, 6), more=st.integers(0, 2))
    def come(self, family: int, length: int, computed: int, more: int) -> None:
        hashes = [family * 10 + number for number in range(length)]
        found = self.cache.found(hashes, length)
        if self.cache.price(found, length + more) <= self.cache.free:
            holding = self.cache.hold(found, length + more)
            self.cache.learn(holding, hashes[len(found) : max(computed, len(found))])
            self.there.append((holding, hashes))

    @precondition(lambda self: self.there)
    @rule(which=st.integers(0, 100))
    def compute_the_rest(self, which: int) -> None:
        holding, hashes = self.there[which % len(self.there)]
        self.cache.learn(holding, hashes[len(holding.hashes) :])

    @precondition(lambda self: self.there)
    @rule(which=st.integers(0, 100))
    def grow(self, which: int) -> None:
        if self.cache.free:
            self.cache.grow(1)
            self.there[which % len(self.there)][0].blocks += 1

    @precondition(lambda self: self.there)
    @rule(which=st.integers(0, 100))
    def go(self, which: int) -> None:
        self.cache.release(self.there.pop(which % len(self.there))[0])

    @rule()
    def drop(self) -> None:
        self.cache.drop()

    @invariant()
    def no_more_blocks_than_there_are(self) -> None:
        cache = self.cache
        assert cache.used + len(cache.idle) <= cache.capacity
        assert set(cache.idle) == {each for each, holders in cache.table.items() if not holders}
        shared = {(id(holding.table), each) for holding, _ in self.there for each in holding.hashes}
        alone = sum(holding.blocks - len(holding.hashes) for holding, _ in self.there)
        assert cache.used == len(shared) + alone

    def teardown(self) -> None:
        while self.there:
            self.go(0)
        assert self.cache.used == 0


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40)
