"""The policy `prefix` against brute force: random fleets, prompts, loads and histories, several workers, one memory."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from enginehouse.core.ask import Ask, Prompt
from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.policy.affinity import digest
from enginehouse.policy.choose import Busy, Choice, LoadView, Refusal, choose
from enginehouse.policy.chunks import ENDS
from enginehouse.policy.prefix import Scored, rank
from enginehouse.policy.prefix_index import PrefixIndex, Touch
from enginehouse.policy.table import Table
from tests.policy.fleets import eject, service, shared, table
from tests.policy.oracle import Given, Plain
from tests.policy.prompts import colliding, said
from tests.policy.prompts import digest as chunk_of

NOW = 100.0
WORKERS = 3
TEXT, LENGTH = st.integers(0, 5), st.integers(0, 20)
WORKER, WHICH = st.integers(0, WORKERS - 1), st.integers(0, 1 << 16)


@st.composite
def fleets(draw: st.DrawFn) -> list[Service]:
    """One to forty services that keep 20 KiB to 1.5 MiB; at times with weights, caps and cache types."""
    count = draw(st.integers(1, 9) | st.just(40))
    weighty, capped, typed = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    return [
        service(
            f"s{slot}",
            slot,
            weight=draw(st.integers(1, 4)) if weighty else 1,
            capacity=draw(st.integers(0, 4)) if capped else 0,
            cache_type=draw(st.sampled_from(["", "static", "paged"])) if typed else "",
            kv_tokens=draw(st.sampled_from([5_000, 20_000, 0])),
        )
        for slot in draw(st.permutations(range(count)))
    ]


def leading(there: list[bool]) -> tuple[int, bool]:
    """Chunks up to the last warm one; whether no two that stand next to each other are missing before it."""
    deepest = len(there) - there[::-1].index(True) if True in there else 0
    return deepest, not any(not (here or then) for here, then in pairwise(there[:deepest]))


class ChoosingMachine(RuleBasedStateMachine):
    """Requests come, get their first token, end, fail; services go and come back; workers crash."""

    @initialize(members=fleets())
    def begin(self, members: list[Service]) -> None:
        self.members = members
        self.memory = shared()
        self.plain = Plain(members)
        self.table = table(*members)
        self.views = [LoadView(self.memory, WORKERS) for _ in range(WORKERS)]
        for view in self.views:
            view.index.use(members)
        self.turn = 0
        self.under_way: list[tuple[Given, Touch]] = []

    @rule(
        worker=WORKER,
        text=TEXT,
        length=LENGTH,
        common=st.integers(0, 4),
        tail=st.integers(1, 500),
        session=st.sampled_from(["", "", "me", "you"]),
        cache_type=st.sampled_from(["", "", "static"]),
        tried=st.sets(WORKER, max_size=2),
    )
    def ask(
        self,
        worker: int,
        text: int,
        length: int,
        common: int,
        tail: int,
        session: str,
        cache_type: str,
        tried: set[int],
    ) -> None:
        prompt, names = said(text, length, common, tail), tuple(f"s{slot}" for slot in tried)
        self.turn += 1
        ask = Ask("m", session, cache_type=cache_type, prompt=prompt)
        choice = choose(self.table, ask, names, self.views[worker], NOW, self.turn, random.Random(1))
        allowed = self.plain.allowed(names, cache_type)
        if not allowed:
            outcome = Outcome.NO_SERVICE_FOR_MODEL if allowed is None else Outcome.QUEUE_FULL
            refusal = choice.refusal if isinstance(choice, Busy) else choice
            assert isinstance(choice, Refusal if allowed is None else Busy)
            assert refusal == Refusal(outcome, "m")
            return
        assert isinstance(choice, Choice)
        assert choice.score is not None
        depths = {name: self.depth(worker, name, prompt) for name in allowed}
        costs = {name: self.cost(worker, name, prompt, depths[name]) for name in allowed}
        expected = {(allowed[0], "only")}
        if len(allowed) > 1:
            expected = self.plain.who(prompt, costs, depths, digest(session) if session else 0)
        assert (choice.service.name, choice.reason) in expected
        self.shown(worker, allowed, prompt, depths, costs, choice.score)
        self.send(worker, choice.score, prompt)

    def depth(self, worker: int, name: str, prompt: Prompt) -> int:
        """Chunks that are warm there: all up to the last one, unless two next to each other are missing before it."""
        index, member = self.views[worker].index, self.plain.members[name]
        found = index.matched(member, prompt)
        depth = prompt.ends.index(found) + 1 if found else 0
        there = self.plain.warm(name, prompt, index.figures(member).span)
        deepest, whole = leading(there)
        assert depth == deepest if whole else depth <= deepest and (not depth or there[depth - 1])
        return depth

    def cost(self, worker: int, name: str, prompt: Prompt, depth: int) -> float:
        return self.plain.cost(name, prompt, depth, self.views[worker].index.figures(self.plain.members[name]))

    def shown(
        self,
        worker: int,
        names: list[str],
        prompt: Prompt,
        depths: dict[str, int],
        costs: dict[str, float],
        score: Scored,
    ) -> None:
        """What is explained is what is chosen by."""
        view = self.views[worker]
        members, mean = [self.plain.members[name] for name in names], self.table.everyone.mean
        ranked = rank(prompt, members, view.loads, view.queued, view.held, view.index, mean)
        assert [one.service.name for one in ranked] == names
        assert score in ranked
        for one in ranked:
            name = one.service.name
            assert one.matched == (ENDS[depths[name] - 1] if depths[name] else 0)
            assert one.running == sum(1 for given in self.plain.running if given.name == name)
            assert one.queued == sum(given.queued for given in self.plain.waiting if given.name == name)
            assert one.held == sum(given.held for given in self.plain.running if given.name == name)
            assert one.cost == pytest.approx(costs[name])

    def send(self, worker: int, score: Scored, prompt: Prompt) -> None:
        member, index = score.service, self.views[worker].index
        self.memory.loads[worker][member.slot] += 1
        self.memory.queued[worker][member.slot] += score.uncached
        self.memory.held[worker][member.slot] += score.tokens
        span = index.figures(member).span
        touch = index.touch(member, prompt, score.running, score.queued)
        self.under_way.append((self.plain.give(worker, member.name, prompt, score.uncached, score.tokens, span), touch))

    @rule(worker=WORKER, which=WHICH, tokens=st.integers(1, 300) | st.integers(1, 60) | st.integers(20_000, 70_000))
    def occupy(self, worker: int, which: int, tokens: int) -> None:
        """A request that names one service, with a prompt that is of no further use."""
        member = self.members[which % len(self.members)]
        self.send(worker, Scored(member, 0, tokens, 0, 0, 0, tokens, 0.0), said(0, 0))

    @rule(which=WHICH)
    def first_token(self, which: int) -> None:
        waiting = [given for given, _ in self.under_way if given in self.plain.waiting]
        if waiting:
            self.computed(waiting[which % len(waiting)])

    def computed(self, given: Given) -> None:
        self.plain.first_token(given)
        self.memory.queued[given.worker][self.plain.members[given.name].slot] -= given.queued

    @rule(which=WHICH, tokens=st.integers(0, 9000), seconds=st.floats(0.01, 5.0), failed=st.booleans())
    def end(self, which: int, tokens: int, seconds: float, failed: bool) -> None:
        if not self.under_way:
            return
        given, touch = self.under_way.pop(which % len(self.under_way))
        if given in self.plain.waiting:
            self.computed(given)
        self.plain.end(given)
        slot = self.plain.members[given.name].slot
        self.memory.loads[given.worker][slot] -= 1
        self.memory.held[given.worker][slot] -= given.held
        index = self.views[given.worker].index
        if failed:
            index.undo(touch)
            self.plain.undo(given)
        else:
            index.answered(touch, seconds)
            index.learn(touch, tokens)

    @rule(worker=WORKER)
    def crash(self, worker: int) -> None:
        """Its requests end nowhere; another one takes its place."""
        self.memory.forget_worker(worker)
        self.plain.crash(worker)
        self.under_way = [(given, touch) for given, touch in self.under_way if given.worker != worker]
        self.views[worker] = LoadView(self.memory, WORKERS)
        self.views[worker].index.use(self.members)

    @rule(which=WHICH, out=st.booleans())
    def stand(self, which: int, out: bool) -> None:
        member = self.members[which % len(self.members)]
        if out:
            eject(self.memory, member.slot, NOW + 1)
            self.plain.out.add(member.name)
        else:
            self.memory.readmit(member.slot)
            self.plain.out.discard(member.name)

    @rule(worker=WORKER, which=WHICH)
    def forget(self, worker: int, which: int) -> None:
        """As when its answers show that it was restarted."""
        member = self.members[which % len(self.members)]
        self.views[worker].index.forget(member)
        self.gone(member.name)

    @rule(which=WHICH)
    def restart(self, which: int) -> None:
        """Another incarnation, known as such, in the place of one that has nothing under way."""
        member = self.members[which % len(self.members)]
        if any(given.name == member.name for given, _ in self.under_way):
            return
        fields = {field: getattr(member, field) for field in ("weight", "capacity", "cache_type", "kv_tokens")}
        again = service(member.name, member.slot, generation=member.generation + 1, **fields)
        self.members[self.members.index(member)] = self.plain.members[member.name] = again
        self.table = table(*self.members)
        for view in self.views:
            view.index.use(self.members)
        self.gone(member.name)

    def gone(self, name: str) -> None:
        self.plain.forget(name)
        # What these have changed is too old to matter, whether or not it is undone.
        for old, touch in self.under_way:
            if old.name == name:
                old.before.clear()
                touch.changed.clear()

    @rule()
    def sweep(self) -> None:
        for view in self.views:
            view.index.look()

    @invariant()
    def nothing_else_is_counted(self) -> None:
        """What workers that live have under way, and nothing of those that crashed."""
        for worker in range(WORKERS):
            for member in getattr(self, "members", ()):
                mine = [given for given, _ in self.under_way if (given.worker, given.name) == (worker, member.name)]
                assert self.memory.loads[worker][member.slot] == len(mine)
                waiting = sum(given.queued for given in mine if given in self.plain.waiting)
                assert self.memory.queued[worker][member.slot] == waiting
                assert self.memory.held[worker][member.slot] == sum(given.held for given in mine)


TestChoosing = ChoosingMachine.TestCase
TestChoosing.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


# -- what looking up by halves promises --------------------------------------------------------------------------------


@given(st.lists(st.booleans(), max_size=40))
def test_where_chunks_are_missing_less_may_be_found_but_never_what_is_not_there(there: list[bool]) -> None:
    """The last chunk found is there. Holes come from other chunks that took their places: seldom, and seldom two next
    to each other; all others are looked over."""
    found = holed(there)
    deepest, whole = leading(there)
    assert found <= deepest
    assert not found or there[found - 1]
    assert found == deepest or not whole


@pytest.mark.parametrize("length", [1, 2, 3, 8, 20, 40])
def test_wherever_one_or_every_second_chunk_is_missing_nothing_less_is_found(length: int) -> None:
    for missing in range(length - 1):
        assert holed([number != missing for number in range(length)]) == length
    assert holed([number % 2 == 1 for number in range(length)]) == length - length % 2
    assert holed([number % 2 == 0 for number in range(length)]) == length - 1 + length % 2


def holed(there: list[bool]) -> int:
    """Chunks that are found of a prompt of which only these are there."""
    index, (member,) = PrefixIndex(shared()), (service("s0"),)
    index.use((member,))
    prompt = said(1, len(there))
    index.touch(member, prompt)
    for number, kept in enumerate(there):
        if not kept:
            index.touch(member, Prompt(1024, [colliding(chunk_of(1, number))], ENDS))
    found = index.matched(member, prompt)
    return ENDS.index(found) + 1 if found else 0


# -- routers that share nothing ----------------------------------------------------------------------------------------


@st.composite
def pairs(draw: st.DrawFn) -> tuple[list[Service], list[Service]]:
    """One fleet as two routers know it: in another order, in other slots."""
    weights = draw(st.lists(st.integers(1, 3), min_size=2, max_size=12))
    ones = [service(f"s{number}", number, weight=weight) for number, weight in enumerate(weights)]
    others = [service(f"s{number}", 40 - number, weight=weight) for number, weight in enumerate(weights)]
    return ones, draw(st.permutations(others))


@given(pairs(), st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.integers(1, 12)), min_size=1, max_size=40))
def test_routers_that_share_nothing_send_what_begins_alike_to_the_same_service(
    fleet: tuple[list[Service], list[Service]], asked: list[tuple[bool, int, int]]
) -> None:
    """Conversations go on through either of them; each knows only what it has sent itself."""
    routers = [(table(*members), LoadView(shared(), 1)) for members in fleet]
    homes: dict[int, str] = {}
    for first, text, length in asked:
        built, view = routers[0 if first else 1]
        choice = choose(built, Ask("m", prompt=said(text, length)), (), view, NOW, 0, random.Random(1))
        assert isinstance(choice, Choice)
        view.index.touch(choice.service, said(text, length))
        assert homes.setdefault(text, choice.service.name) == choice.service.name


def test_what_all_services_have_in_common_does_not_count_for_where_a_prompt_is_at_home() -> None:
    """A system prompt that is warm everywhere: conversations behind it spread as if there were none."""
    members = [service(f"s{slot}", slot) for slot in range(8)]
    built, view = table(*members), LoadView(shared(), 1)
    view.index.touch(members[3], said(0, 2))
    assert len({name_of(built, view, text) for text in range(1, 100)}) == 1
    for member in members:
        view.index.touch(member, said(0, 2))
    got = [name_of(built, view, text) for text in range(1, 100)]
    assert {got.count(member.name) > 3 for member in members} == {True}


def name_of(built: Table, view: LoadView, text: int) -> str:
    choice = choose(built, Ask("m", prompt=said(text, 6, common=2)), (), view, NOW, 0, random.Random(1))
    assert isinstance(choice, Choice)
    return choice.service.name
