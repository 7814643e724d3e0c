"""The index against what it promises, whatever is done in whatever order by two workers."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from enginehouse.core.ask import Prompt
from enginehouse.core.fleet import Service
from enginehouse.policy.prefix_index import PrefixIndex, Touch
from tests.policy.fleets import service, shared
from tests.policy.prompts import said

TEXTS, LONGEST = 4, 14
TEXT = st.integers(0, TEXTS - 1)
LENGTH = st.integers(0, LONGEST)
SLOT = st.integers(0, 1)


class IndexMachine(RuleBasedStateMachine):
    """Two services that keep 16 to 64 KiB, two workers, texts of up to 32 KiB that begin alike."""

    @initialize(kib=st.integers(16, 64))
    def begin(self, kib: int) -> None:
        memory = shared()
        self.clocks = memory.clocks
        self.kv_tokens = 256 * kib
        self.fleet = [self.member(0, 1), self.member(1, 1)]
        self.indexes = [PrefixIndex(memory), PrefixIndex(memory)]
        for index in self.indexes:
            index.use(self.fleet)
        self.pending: list[tuple[int, Prompt, Touch]] = []
        self.used: dict[tuple[int, int], int] = {}
        """By slot and hash, the clock just before it was last used."""
        self.least_span = self.indexes[0].figures(self.fleet[0]).span

    def member(self, slot: int, generation: int) -> Service:
        return service(f"s{slot}", slot, generation=generation, kv_tokens=self.kv_tokens)

    @rule(worker=SLOT, slot=SLOT, text=TEXT, length=LENGTH, common=st.integers(0, 6))
    def give(self, worker: int, slot: int, text: int, length: int, common: int) -> None:
        prompt, index, place = said(text, length, common), self.indexes[worker], self.fleet[slot]
        matched, clock = index.matched(place, prompt), self.clocks[slot]
        touch = index.touch(place, prompt)
        assert touch.matched == matched <= touch.known <= prompt.size
        self.pending.append((slot, prompt, touch))
        for digest in prompt.chunks:
            self.used[slot, digest] = clock
        if 3 * prompt.size <= 2048 * self.least_span:
            assert index.matched(place, prompt) == prompt.size

    @rule(worker=SLOT, which=st.integers(0, 1 << 20))
    def take_back(self, worker: int, which: int) -> None:
        if self.pending:
            slot, prompt, touch = self.pending.pop(which % len(self.pending))
            self.indexes[worker].undo(touch)
            for digest in prompt.chunks:
                self.used.pop((slot, digest), None)

    @rule(worker=SLOT, which=st.integers(0, 1 << 20), tokens=st.integers(0, 5000), cached=st.integers(-1, 5000))
    def answer(self, worker: int, which: int, tokens: int, cached: int) -> None:
        if not self.pending:
            return
        slot, _, touch = self.pending.pop(which % len(self.pending))
        before = self.clocks[slot]
        self.indexes[worker].learn(touch, tokens, min(tokens, cached))
        if self.clocks[slot] != before:
            self.all_gone(slot)
        for index in self.indexes:
            index.look()
        self.least_span = min(self.least_span, *(self.indexes[0].figures(place).span for place in self.fleet))

    @rule(worker=SLOT, slot=SLOT)
    def forget(self, worker: int, slot: int) -> None:
        self.indexes[worker].forget(self.fleet[slot])
        self.all_gone(slot)

    @rule(slot=SLOT)
    def restart(self, slot: int) -> None:
        self.fleet[slot] = self.member(slot, self.fleet[slot].generation + 1)
        for index in self.indexes:
            index.use(self.fleet)
        self.all_gone(slot)

    def all_gone(self, slot: int) -> None:
        self.used = {key: clock for key, clock in self.used.items() if key[0] != slot}
        self.pending = [each for each in self.pending if each[0] != slot]
        for text in range(TEXTS):
            for length in range(1, LONGEST + 1):
                assert not self.indexes[0].matched(self.fleet[slot], said(text, length))

    def warm(self, slot: int) -> dict[int, int]:
        """Hashes that are warm there, each looked up by itself, with their KiB."""
        found: dict[int, int] = {}
        for text in range(TEXTS):
            prompt = said(text, LONGEST)
            for number, digest in enumerate(prompt.chunks):
                if self.indexes[1].matched(self.fleet[slot], Prompt(1024, [digest], prompt.ends)):
                    found[digest] = (prompt.ends[number] - (prompt.ends[number - 1] if number else 0)) >> 10
        return found

    @invariant()
    def promises_hold(self) -> None:
        for slot in (0, 1):
            warm = self.warm(slot)
            self.bounded(slot, warm)
            self.lately_used(slot, warm)
            self.matched(slot, warm)

    def bounded(self, slot: int, warm: dict[int, int]) -> None:
        """What is warm is no more than 1.5 times the capacity, and a chunk that is half in."""
        assert sum(warm.values()) <= 1.5 * self.indexes[0].capacity(self.fleet[slot]) + 4

    def lately_used(self, slot: int, warm: dict[int, int]) -> None:
        """What was used within the capacity is warm."""
        for (where, digest), clock in self.used.items():
            if where == slot and self.clocks[slot] - clock < self.least_span * 2 // 3 - 1:
                assert digest in warm

    def matched(self, slot: int, warm: dict[int, int]) -> None:
        """A match ends with a warm chunk, and is all there is if no chunk is missing before the last warm one."""
        for text in range(TEXTS):
            prompt = said(text, LONGEST)
            matched = self.indexes[0].matched(self.fleet[slot], prompt)
            depth = prompt.ends.index(matched) + 1 if matched else 0
            there = [digest in warm for digest in prompt.chunks]
            assert depth == 0 or there[depth - 1]
            if there == sorted(there, reverse=True):
                assert depth == sum(there)


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
