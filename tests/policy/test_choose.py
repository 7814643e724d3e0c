"""Choosing: refusals, affinity, and each policy against a brute-force oracle."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.ask import Ask
from enginehouse.core.config.router import Policy
from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import Shared
from enginehouse.policy.affinity import digest, home
from enginehouse.policy.choose import Busy, Choice, LoadView, Refusal, choose
from enginehouse.policy.line import line_at, line_for
from enginehouse.policy.table import MANY, Table
from tests.policy.fleets import eject, service, services, shared, table, view

NOW = 100.0
POLICIES = sorted(get_args(Policy))


def ask_for(
    built: Table,
    ask: Ask | None = None,
    tried: tuple[str, ...] = (),
    memory: Shared | None = None,
    turn: int = 0,
    rng: random.Random | None = None,
) -> Choice | Busy | Refusal:
    return choose(built, ask or Ask(model="m"), tried, view(memory), NOW, turn, rng or random.Random(1))


def chosen(*args: Any, **kwargs: Any) -> str:
    choice = ask_for(*args, **kwargs)
    assert isinstance(choice, Choice)
    return choice.service.name


def run(built: Table, rounds: int, memory: Shared | None = None, ask: Ask | None = None) -> list[str]:
    rng = random.Random(7)
    return [chosen(built, ask, memory=memory, turn=turn, rng=rng) for turn in range(rounds)]


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_model_nobody_ever_served_is_unknown() -> None:
    assert ask_for(table(*services(1)), Ask(model="x")) == Refusal(Outcome.MODEL_UNKNOWN, "x")


def test_the_configuration_turns_an_unknown_model_into_openais_status() -> None:
    built = table(*services(1), unknown_model_status=404)
    assert ask_for(built, Ask(model="x")) == Refusal(Outcome.MODEL_UNKNOWN_404, "x")


def busy(outcome: Outcome, model: str) -> Busy:
    """Worth waiting in the model's line; otherwise this is the answer."""
    return Busy(model, Refusal(outcome, model))


def test_a_model_that_is_known_but_not_served_now_is_worth_waiting_for() -> None:
    assert ask_for(table(known=("x",)), Ask(model="x")) == busy(Outcome.NO_SERVICE_FOR_MODEL, "x")
    assert ask_for(table(service("a", up=False))) == busy(Outcome.NO_SERVICE_FOR_MODEL, "m")
    assert ask_for(table(service("a", up=False)), Ask()) == busy(Outcome.NO_SERVICE, "")


def test_a_request_that_was_tried_is_not_kept_waiting_for_services_that_are_gone() -> None:
    assert ask_for(table(known=("x",)), Ask(model="x"), ("a",)) == Refusal(Outcome.NO_SERVICE_FOR_MODEL, "x")
    assert ask_for(table(synced=False), Ask(model="x"), ("a",)) == Refusal(Outcome.NOT_SYNCED, "x")


def test_before_the_first_sync_no_refusal_is_final() -> None:
    """Trap: "never seen this model" is not known at boot."""
    assert ask_for(table(synced=False), Ask(model="x")) == busy(Outcome.NOT_SYNCED, "x")
    assert ask_for(table(synced=False), Ask()) == busy(Outcome.NOT_SYNCED, "")
    assert chosen(table(*services(1), synced=False)) == "s0"


def test_while_a_service_has_not_told_its_models_any_name_is_worth_waiting_for() -> None:
    built = table(*services(1), service("new", 1, models=(), up=False))
    assert ask_for(built, Ask(model="x")) == busy(Outcome.NOT_SYNCED, "x")


def test_no_service_at_all_is_said_where_no_model_was_named() -> None:
    assert ask_for(table(), Ask()) == Refusal(Outcome.NO_SERVICE, "")


@pytest.mark.parametrize("session", ["", "key"])
def test_when_all_were_tried_nobody_is_left(session: str) -> None:
    built = table(*services(1, 1))
    assert ask_for(built, Ask(model="m", session=session), ("s0", "s1")) == Refusal(Outcome.NO_SERVICE_FOR_MODEL, "m")
    assert ask_for(built, Ask(session=session), ("s0", "s1")) == Refusal(Outcome.NO_SERVICE, "")


def test_a_request_for_a_model_never_goes_to_a_service_that_does_not_list_it() -> None:
    built = table(service("a", 0, models=("x",)), service("b", 1, models=("y",)))
    assert {chosen(built, Ask(model="x"), turn=turn) for turn in range(10)} == {"a"}


def test_a_request_without_a_model_goes_round_all_services() -> None:
    built = table(service("a", 0, models=("x",)), service("b", 1, models=("y",)))
    assert run(built, 4, ask=Ask()) == ["a", "b", "a", "b"]


# -- caps ------------------------------------------------------------------------------------------------------------


def loaded(*loads: int) -> Shared:
    """Shared memory in which the services in slots 0, 1, … have so many requests in flight, all at another worker."""
    memory = shared()
    for slot, load in enumerate(loads):
        memory.loads[1][slot] = load
    return memory


@pytest.mark.parametrize("session", ["", "key"])
@pytest.mark.parametrize("policy", POLICIES)
def test_who_is_at_its_cap_gets_no_more_whoever_sent_what_it_has(policy: str, session: str) -> None:
    members = (service("a", 0, capacity=2), service("b", 1, capacity=3), service("c", 2, capacity=1))
    built, ask = table(*members, policy=policy), Ask(model="m", session=session)
    assert set(run(built, 20, loaded(2, 2, 1), ask)) == {"b"}
    assert ask_for(built, ask, memory=loaded(2, 3, 1)) == busy(Outcome.QUEUE_FULL, "m")
    assert chosen(built, ask, memory=loaded(2, 300, 0)) == "c"


def test_a_service_without_a_cap_takes_any_number() -> None:
    built = table(service("a", 0, capacity=2), service("b", 1))
    assert set(run(built, 10, loaded(2, 5000))) == {"b"}


def test_the_configured_capacity_is_that_of_services_that_state_none() -> None:
    built = table(service("a", 0), service("b", 1, capacity=9), service_capacity=2)
    looked = LoadView(loaded(2, 8), 2, 2)
    found = choose(built, Ask(model="m"), (), looked, NOW, 0, random.Random(1))
    assert isinstance(found, Choice)
    assert found.service.name == "b"


def test_a_request_that_has_one_service_left_waits_for_that_one_or_is_refused_when_it_was_tried() -> None:
    built = table(*services(1, 1, capacity=1))
    waiting = Busy(line_for("m", True), Refusal(Outcome.QUEUE_FULL, "m"))
    assert ask_for(built, tried=("s0",), memory=loaded(0, 1)) == waiting
    assert ask_for(built, tried=("s0", "s1"), memory=loaded(1, 1)) == Refusal(Outcome.NO_SERVICE_FOR_MODEL, "m")


def test_while_healthy_services_are_at_their_caps_an_ejected_one_gets_nothing() -> None:
    memory = loaded(1, 0)
    eject(memory, 1, NOW + 5)
    assert ask_for(table(*services(1, 1, capacity=1)), memory=memory) == busy(Outcome.QUEUE_FULL, "m")
    eject(memory, 0, NOW + 5)
    assert chosen(table(*services(1, 1, capacity=1)), memory=memory) == "s1"


def test_where_others_have_no_room_one_that_has_just_come_back_gets_more_than_its_part() -> None:
    members = services(1, 1, capacity=2)
    memory = loaded(2, 1)
    memory.slow_from[1], memory.slow_until[1], memory.latest_ejection[0] = NOW, NOW + 10, NOW + 10
    for seed in range(20):
        assert chosen(table(*members), memory=memory, rng=random.Random(seed)) == "s1"
    memory.loads[0][1] = 1
    assert ask_for(table(*members), memory=memory) == busy(Outcome.QUEUE_FULL, "m")


def test_the_other_cache_type_is_better_than_waiting_for_the_preferred_one() -> None:
    members = (service("a", 0, cache_type="static", capacity=1), service("b", 1, cache_type="paged", capacity=1))
    ask = Ask(model="m", cache_type="static")
    assert set(run(table(*members), 4, loaded(0, 0), ask)) == {"a"}
    assert set(run(table(*members), 4, loaded(1, 0), ask)) == {"b"}


def test_what_one_engine_made_waits_for_that_engine_in_a_line_of_its_own() -> None:
    members = services(1, 1, capacity=1)
    built, ask = table(*members), Ask(remembered=1)
    assert ask_for(built, ask, memory=loaded(0, 1)) == Busy(line_at(members[1]), Refusal(Outcome.QUEUE_FULL, ""))
    assert chosen(built, ask, memory=loaded(1, 0)) == "s1"


@pytest.mark.parametrize("session", ["", "key"])
@pytest.mark.parametrize("policy", ["least_load", "round_robin"])
def test_in_a_large_set_the_last_one_with_room_is_found(policy: str, session: str) -> None:
    members = services(*[1] * 200, capacity=1)
    memory = loaded(*[0 if slot == 123 else 1 for slot in range(200)])
    built, ask = table(*members, policy=policy), Ask(model="m", session=session)
    assert set(run(built, 30, memory, ask)) == {"s123"}
    memory.loads[0][123] = 1
    assert ask_for(built, ask, memory=memory) == busy(Outcome.QUEUE_FULL, "m")


# -- round robin -------------------------------------------------------------------------------------------------------


def test_round_robin_turns_are_counted_per_model() -> None:
    """Defect: One round-robin counter for all models, and bursts (AAAB)."""
    built = table(*services(1, 1, models=("x", "y")))
    turns: Counter[str] = Counter()
    seen: dict[str, list[str]] = {"x": [], "y": []}
    for model in ("x", "y") * 4:  # two models that take turns: a common counter would give each one service only
        seen[model].append(chosen(built, Ask(model=model), turn=turns[model]))
        turns[model] += 1
    assert seen == {"x": ["s0", "s1", "s0", "s1"], "y": ["s0", "s1", "s0", "s1"]}


def test_round_robin_respects_weights_without_bursts() -> None:
    names = run(table(*services(5, 1, 1)), 70)
    assert Counter(names) == {"s0": 50, "s1": 10, "s2": 10}
    assert max(len(list(group)) for _, group in itertools.groupby(names)) <= 3


def test_round_robin_stays_even_while_one_is_ejected() -> None:
    memory = shared()
    eject(memory, 1, NOW + 10)
    names = run(table(*services(1, 1, 1)), 10, memory)
    assert names == ["s0", "s2"] * 5


# -- all policies ------------------------------------------------------------------------------------------------------


@st.composite
def houses(draw: st.DrawFn) -> tuple[tuple[Service, ...], tuple[str, ...], Shared]:
    """(services, tried, shared memory with loads and ejections)"""
    size = draw(st.integers(1, 9))
    members = services(*draw(st.lists(st.integers(1, 5), min_size=size, max_size=size)))
    tried = draw(st.lists(st.sampled_from([m.name for m in members]), unique=True, max_size=3).map(tuple))
    memory = shared()
    for slot in range(size):
        memory.loads[0][slot] = draw(st.integers(0, 4))
        memory.loads[1][slot] = draw(st.integers(0, 4))
        if draw(st.booleans()):
            eject(memory, slot, NOW + 1)
    return members, tried, memory


def candidates_of(members: tuple[Service, ...], tried: tuple[str, ...], memory: Shared) -> list[Service]:
    left = [m for m in members if m.name not in tried]
    return [m for m in left if memory.ejected_until[m.slot] <= NOW] or left


@pytest.mark.parametrize("policy", POLICIES)
@given(house=houses(), turn=st.integers(0, 10**9), seed=st.integers(0, 9), session=st.sampled_from(["", "k"]))
def test_only_candidates_are_chosen(
    policy: str, house: tuple[tuple[Service, ...], tuple[str, ...], Shared], turn: int, seed: int, session: str
) -> None:
    members, tried, memory = house
    built = table(*members, policy=policy)
    allowed = [m.name for m in candidates_of(members, tried, memory)]
    choice = ask_for(built, Ask(model="m", session=session), tried, memory, turn, random.Random(seed))
    if not allowed:
        assert choice == Refusal(Outcome.NO_SERVICE_FOR_MODEL, "m")
        return
    assert isinstance(choice, Choice)
    assert choice.service.name in allowed
    reasons = {"only"} if len(allowed) == 1 else {"session" if session else policy.replace("prefix", "least_load")}
    assert choice.reason in reasons


@pytest.mark.parametrize("policy", POLICIES)
def test_in_an_idle_house_every_policy_respects_weights(policy: str) -> None:
    counts = Counter(run(table(*services(1, 2, 5), policy=policy), 4000))
    for name, share in (("s0", 1 / 8), ("s1", 2 / 8), ("s2", 5 / 8)):
        assert abs(counts[name] / 4000 - share) < 0.03, policy


@given(house=houses(), turn=st.integers(0, 10**6))
def test_least_load_takes_one_with_the_least_load_per_weight(
    house: tuple[tuple[Service, ...], tuple[str, ...], Shared], turn: int
) -> None:
    members, tried, memory = house
    allowed = candidates_of(members, tried, memory)
    if not allowed:
        return
    least = min(memory.load(m.slot, 2) / m.weight for m in allowed)
    expected = {m.name for m in allowed if memory.load(m.slot, 2) / m.weight == least}
    built = table(*members, policy="least_load")
    assert chosen(built, tried=tried, memory=memory, turn=turn) in expected
    every = {chosen(built, tried=tried, memory=memory, turn=turn + step) for step in range(100)}
    assert every == expected


def test_least_load_sees_the_load_of_the_other_workers() -> None:
    memory = shared()
    memory.loads[1][0] = 5
    assert set(run(table(*services(1, 1), policy="least_load"), 10, memory)) == {"s1"}


@given(house=houses(), seed=st.integers(0, 10**6))
def test_two_choices_takes_the_less_loaded_of_two_and_never_the_most_loaded_of_all(
    house: tuple[tuple[Service, ...], tuple[str, ...], Shared], seed: int
) -> None:
    members, tried, memory = house
    members = tuple(service(m.name, m.slot) for m in members)
    allowed = candidates_of(members, tried, memory)
    loads = sorted(memory.load(m.slot, 2) for m in allowed)
    if len(allowed) < 2 or loads[-1] == loads[-2]:
        return
    built = table(*members, policy="two_choices")
    name = chosen(built, tried=tried, memory=memory, rng=random.Random(seed))
    assert memory.load(next(m.slot for m in members if m.name == name), 2) < loads[-1]


def test_random_follows_the_chance_it_is_given() -> None:
    built = table(*services(1, 1, 1, 1), policy="random")
    assert run(built, 20) == run(built, 20)
    assert len(set(run(built, 100))) == 4


def test_the_session_policy_takes_turns_where_there_is_no_session() -> None:
    assert run(table(*services(1, 1), policy="session"), 4) == ["s0", "s1", "s0", "s1"]


# -- affinity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_a_session_goes_home_whatever_the_policy(policy: str) -> None:
    members = services(1, 2, 3, 1)
    built = table(*members, policy=policy)
    for number in range(50):
        key = f"m:prompt_cache:{number}"
        assert {chosen(built, Ask(model="m", session=key), turn=t) for t in range(3)} == {
            home(digest(key), members).name
        }


def test_a_session_whose_home_is_ejected_comes_back_to_it() -> None:
    built = table(*services(1, 1, 1))
    ask = Ask(model="m", session="key")
    at_home = ask_for(built, ask)
    assert isinstance(at_home, Choice)
    memory = shared()
    eject(memory, at_home.service.slot, NOW + 5)
    assert chosen(built, ask, memory=memory) != at_home.service.name
    memory.readmit(at_home.service.slot)
    assert chosen(built, ask, memory=memory) == at_home.service.name


def test_affinity_works_within_the_cache_type() -> None:
    """Defect: `cache_type` disables affinity."""
    members = tuple(service(f"s{n}", n, cache_type="static" if n % 2 else "paged") for n in range(8))
    built = table(*members)
    homes = set()
    for number in range(60):
        ask = Ask(model="m", session=f"key-{number}", cache_type="static")
        names = {chosen(built, ask, turn=turn) for turn in range(4)}
        assert len(names) == 1
        homes |= names
    assert homes == {"s1", "s3", "s5", "s7"}


def test_what_one_engine_made_is_asked_of_that_engine() -> None:
    built = table(*services(1, 1, 1))
    choice = ask_for(built, Ask(remembered=2, session="key"))
    assert isinstance(choice, Choice)
    assert (choice.service.name, choice.reason) == ("s2", "remembered")


def test_what_one_engine_made_is_asked_of_it_even_while_it_is_ejected_but_not_twice() -> None:
    memory = shared()
    eject(memory, 2, NOW + 5)
    built = table(*services(1, 1, 1))
    assert chosen(built, Ask(remembered=2), memory=memory) == "s2"
    assert chosen(built, Ask(remembered=2), ("s2",), memory=memory) != "s2"


def test_a_maker_that_is_down_or_serves_another_model_is_passed_over() -> None:
    built = table(*services(1, 1), service("down", 2, up=False), service("other", 3, models=("x",)))
    for slot in (2, 3, 77):
        assert chosen(built, Ask(model="m", remembered=slot)) in {"s0", "s1"}


# -- large sets --------------------------------------------------------------------------------------------------------

LARGE = services(*[1] * 203)


@pytest.mark.parametrize("policy", ["least_load", "round_robin", "two_choices"])
def test_of_many_candidates_only_some_are_looked_at_yet_all_get_their_share(policy: str) -> None:
    """Trap: rendezvous or least-load over 1000 candidates costs 80 µs."""
    assert len(LARGE) > MANY
    counts = Counter(run(table(*LARGE, policy=policy), 203 * 8))
    assert len(counts) == 203
    if policy != "two_choices":
        assert set(counts.values()) == {8}


def test_a_large_set_with_weights_is_shared_out_by_weight() -> None:
    members = services(*[1 + n % 3 for n in range(60)])
    counts = Counter(run(table(*members), 120 * 8))
    assert all(counts[m.name] == 8 * m.weight for m in members)


class Counting:
    """A view on memory that counts how often it is read."""

    def __init__(self, inner: memoryview[float]) -> None:
        self.inner = inner
        self.reads = 0

    def __getitem__(self, slot: int) -> float:
        self.reads += 1
        return self.inner[slot]


@pytest.mark.parametrize("session", ["", "key"])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_effort_does_not_grow_with_the_number_of_candidates(policy: str, session: str) -> None:
    """Trap: rendezvous or least-load over 1000 candidates costs 80 µs."""
    looked = view()
    counting = Counting(looked.ejected_until)
    looked.ejected_until = counting  # type: ignore[assignment]
    built = table(*services(*[1] * 1000), policy=policy)
    choose(built, Ask(model="m", session=session), (), looked, NOW, 5, random.Random(1))
    assert counting.reads <= 40


@pytest.mark.parametrize("cache_type", ["", "static"])
@pytest.mark.parametrize("session", ["", "key"])
def test_in_a_large_set_nearly_all_ejected_the_last_one_is_found(session: str, cache_type: str) -> None:
    memory = shared()
    for slot in range(200):
        if slot != 123:
            eject(memory, slot, NOW + 9)
    built = table(*[service(f"s{n}", n, cache_type="static") for n in range(200)])
    assert chosen(built, Ask(model="m", session=session, cache_type=cache_type), memory=memory) == "s123"


def test_in_a_large_set_a_leaving_service_moves_its_own_keys_only() -> None:
    members = services(*[1] * 100)
    fewer = tuple(m for m in members if m.name != "s42")
    for number in range(500):
        ask = Ask(model="m", session=str(number))
        before = chosen(table_of(members), ask)
        if before != "s42":
            assert chosen(table_of(fewer), ask) == before


_TABLES: dict[int, Table] = {}


def table_of(members: tuple[Service, ...]) -> Table:
    if len(members) not in _TABLES:
        _TABLES[len(members)] = table(*members)
    return _TABLES[len(members)]
