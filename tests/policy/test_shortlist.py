"""Of many services some are looked at: those that may have the prompt, and enough others that work spreads."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.ask import Ask, Prompt
from enginehouse.core.fleet import Service
from enginehouse.core.shared import LEARNERS, Shared
from enginehouse.policy.choose import Busy, Choice, LoadView, Refusal, choose
from enginehouse.policy.chunks import ENDS
from enginehouse.policy.prefix import rank
from enginehouse.policy.shortlist import WINDOW, Learners, shortlist
from enginehouse.policy.table import SCORED, Entry, Table
from tests.policy.fleets import eject, service, services, shared, table
from tests.policy.prompts import digest, said

NOW = 100.0
MANY = services(*[1] * 300)
HASHES = st.integers(0, (1 << 62) - 1)


def slots(word: int) -> list[int]:
    """As `Learners.of` packs them, the latest first."""
    return [(word >> 12 * place & 0xFFF) - 1 for place in range(5) if word >> 12 * place & 0xFFF]


def learners() -> Learners:
    return Learners(shared().learners)


# -- who was given a chunk ---------------------------------------------------------------------------------------------


@given(HASHES, st.lists(st.integers(0, 4094), max_size=12))
def test_of_a_chunk_the_last_four_are_known_that_it_was_new_to(chunk: int, given: list[int]) -> None:
    table, expected = learners(), list[int]()
    for slot in given:
        table.note(chunk, slot)
        if slot not in expected:
            expected = [slot, *expected][:4]
    assert slots(table.of(chunk)) == expected


@given(HASHES, HASHES, st.booleans())
def test_a_chunk_that_needs_the_place_of_another_gets_it_and_is_not_taken_for_it(
    chunk: int, other: int, meet: bool
) -> None:
    if meet:
        other = other - other % LEARNERS + chunk % LEARNERS
    if chunk >> 48 == other >> 48 and chunk % LEARNERS == other % LEARNERS:
        return
    table = learners()
    table.note(chunk, 4094)
    assert not table.of(other)
    table.note(other, 0)
    assert slots(table.of(other)) == [0]
    assert slots(table.of(chunk)) == ([] if meet else [4094])


@pytest.mark.parametrize("length", range(30))
def test_as_much_is_known_as_anybody_was_given(length: int) -> None:
    table, prompt = learners(), said(1, 30)
    for chunk in prompt.chunks[:length]:
        table.note(chunk, 7)
    assert table.known(prompt.chunks) == length


# -- who is looked at --------------------------------------------------------------------------------------------------


class House:
    """One worker of a large house: chooses, and its services learn."""

    def __init__(self, members: tuple[Service, ...] = MANY, memory: Shared | None = None) -> None:
        self.members = members
        self.memory = memory or shared()
        self.view = LoadView(self.memory, 1)
        self.view.index.use(members)
        self.table: Table = table(*members)
        self.turn = 0

    @property
    def entry(self) -> Entry:
        return self.table.models["m"]

    def listed(self, prompt: Prompt, turn: int = 0) -> list[Service]:
        return shortlist(prompt.chunks, self.entry, self.view.index.learners, turn)

    def choose(self, prompt: Prompt, session: str = "", tried: tuple[str, ...] = ()) -> Choice:
        choice = self.answer(prompt, session, tried)
        assert isinstance(choice, Choice)
        return choice

    def answer(self, prompt: Prompt, session: str = "", tried: tuple[str, ...] = ()) -> Choice | Busy | Refusal:
        self.turn += 1
        ask = Ask("m", session=session, prompt=prompt)
        return choose(self.table, ask, tried, self.view, NOW, self.turn, random.Random(1))

    def send(self, prompt: Prompt) -> str:
        """A request begins, and does not end."""
        score = self.choose(prompt).score
        assert score is not None
        slot = score.service.slot
        self.memory.loads[0][slot] += 1
        self.memory.queued[0][slot] += score.uncached
        self.memory.held[0][slot] += score.tokens
        self.view.index.touch(score.service, prompt)
        return score.service.name


def test_up_to_64_services_are_all_looked_at() -> None:
    assert not House(services(*[1] * SCORED)).entry.by_slot
    assert len(House(services(*[1] * (SCORED + 1))).entry.by_slot) == SCORED + 1
    assert SCORED == 64


@given(
    st.lists(st.tuples(st.integers(0, 299), st.integers(0, 5), st.integers(1, 20)), max_size=30),
    st.integers(0, 24),
    st.integers(0, 10**6),
)
def test_a_shortlist_names_who_was_given_the_prompt_and_some_others_each_once(
    history: list[tuple[int, int, int]], length: int, turn: int
) -> None:
    house, prompt = House(), said(1, length)
    for place, common, chunks in history:
        house.view.index.touch(MANY[place], said(1 if common else 2, chunks))
    listed = house.listed(prompt, turn)
    names = [one.name for one in listed]
    assert len(names) == len(set(names))
    assert WINDOW <= len(names) <= 60
    longest = max((min(length, chunks) for _, common, chunks in history if common), default=0)
    last = [MANY[place].name for place, common, chunks in history if common and min(length, chunks) == longest]
    if longest:
        assert last[-1] in names or len(set(last)) > 4


def test_where_something_is_new_all_routers_look_at_the_same_others() -> None:
    """Whatever else they have seen, in whatever order and places they know their services."""
    one, other = House(), House(tuple(service(each.name, 900 - each.slot) for each in MANY[::-1]))
    other.view.index.touch(other.members[5], said(150, 12))
    for text in range(1, 100):
        found = [{each.name for each in house.listed(said(text))} for house in (one, other)]
        assert found[0] == found[1]
        assert one.choose(said(text)).service.name == other.choose(said(text)).service.name


def test_a_service_that_leaves_changes_who_is_looked_at_only_where_it_was() -> None:
    before, after = House(), House(tuple(each for each in MANY if each.name != "s42"))
    for text in range(1, 100):
        found = {each.name for each in before.listed(said(text))}
        if "s42" not in found:
            assert {each.name for each in after.listed(said(text))} == found


def test_where_nothing_is_new_the_others_are_looked_at_in_turn() -> None:
    house = House()
    house.view.index.touch(MANY[0], said(1))
    seen = {each.name for turn in range(0, 300, WINDOW) for each in house.listed(said(1), turn)}
    assert len(seen) == 300


def test_who_is_named_and_is_no_service_of_the_model_any_more_is_not_looked_at() -> None:
    memory = shared()
    House(memory=memory).view.index.touch(MANY[42], said(1))
    less = House(tuple(each for each in MANY if each.slot != 42), memory)
    assert "s42" not in {each.name for each in less.listed(said(1))}


# -- who is chosen -----------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=60), st.integers(0, 9))
def test_the_cheapest_of_those_looked_at_is_chosen(asked: list[tuple[int, int]], common: int) -> None:
    house = House()
    for text, length in asked:
        prompt = said(text, length, common)
        listed = house.listed(prompt, house.turn + 1)
        view = house.view
        costs = {
            each.service.name: each.cost
            for each in rank(prompt, listed, view.loads, view.queued, view.held, view.index, house.entry.mean)
        }
        assert costs[house.send(prompt)] <= min(costs.values()) * 1.02 + 0.0011


def test_a_conversation_among_a_thousand_services_stays_where_it_is_warm() -> None:
    house = House(services(*[1] * 1000))
    homes: dict[int, set[str]] = {}
    for length in range(4, 30, 2):
        for text in range(1, 150):
            choice = house.choose(said(text, length))
            house.view.index.touch(choice.service, said(text, length))
            homes.setdefault(text, set()).add(choice.service.name)
    assert all(len(names) == 1 for names in homes.values())
    assert len(set.union(*homes.values())) > 80


@pytest.mark.parametrize("tail", [0, 8])
def test_what_all_want_spreads_over_all_services_as_far_as_it_has_to(tail: int) -> None:
    """The very same prompt, or one beginning of many: 3000 requests that none of has ended, 300 services."""
    house = House()
    got = Counter(house.send(said(1 + number % 190 if tail else 0, 8 + tail, common=8)) for number in range(3000))
    assert len(got) > 290
    assert max(got.values()) < 40


def test_short_prompts_go_by_load_alone() -> None:
    house = House()
    got = Counter(house.send(said(0, 0, tail=300)) for _ in range(1200))
    assert len(got) == 300
    assert max(got.values()) <= 8


def test_among_many_a_session_has_one_home_and_another_one_only_while_that_is_out_or_dear() -> None:
    house = House()
    for number in range(20):
        session = f"session-{number}"
        homes = {house.choose(said(text % 190, text % 9), session).service.name for text in range(30)}
        assert len(homes) == 1
        at_home = house.choose(said(1), session)
        assert at_home.reason == "session"
        slot = at_home.service.slot
        house.memory.queued[0][slot] = 31_000
        assert house.choose(said(1), session).service is not at_home.service
        house.memory.queued[0][slot] = 0
        eject(house.memory, slot, NOW + 1)
        assert house.choose(said(1), session).service is not at_home.service
        house.memory.readmit(slot)
        assert house.choose(said(1), session).service is at_home.service


def test_among_many_nobody_gets_a_request_who_was_tried_is_out_or_at_its_cap() -> None:
    members = services(*[1] * 100, capacity=1)
    house, prompt = House(members), said(1)
    for number in range(100):
        slot = house.choose(prompt, tried=("s3",)).service.slot
        assert slot != 3
        house.view.index.touch(members[slot], prompt)
        if number % 2:
            eject(house.memory, slot, NOW + 1)
        else:
            house.memory.loads[0][slot] = 1
        if number == 97:
            break
    standing = [each.slot for each in members if house.memory.ejected_until[each.slot] <= NOW]
    free = [slot for slot in standing if not house.memory.loads[0][slot] and slot != 3]
    assert len(free) == 1
    assert house.choose(prompt, tried=("s3",)).service.slot == free[0]
    house.memory.loads[0][free[0]] = 1
    assert isinstance(house.answer(prompt, tried=("s3",)), Busy)


class Counting:
    """A row of loads that counts how often it is read."""

    def __init__(self, inner: memoryview[int]) -> None:
        self.inner = inner
        self.reads = 0

    def __getitem__(self, slot: int) -> int:
        self.reads += 1
        return self.inner[slot]


@pytest.mark.parametrize("session", ["", "key"])
def test_how_many_are_looked_at_does_not_grow_with_the_fleet(session: str) -> None:
    house = House(services(*[1] * 1000))
    rng = random.Random(1)
    for _ in range(500):
        house.view.index.touch(rng.choice(house.members), said(rng.randrange(5), rng.randrange(1, 30), common=3))
    row = Counting(house.memory.loads[0])
    house.view.loads = (row,)  # type: ignore[assignment]
    for text in range(5):
        row.reads = 0
        house.choose(said(text, 30, common=3), session)
        assert row.reads <= 60


def test_small_fleets_write_nothing_of_whom_they_gave_what() -> None:
    house = House(services(*[1] * SCORED))
    house.send(said(1))
    assert not house.view.index.learners.of(digest(1, 0))
    assert ENDS[0] == 1024
