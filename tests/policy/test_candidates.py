"""The only filter, against a filter written the slow way."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.fleet import Service
from enginehouse.core.shared import Shared, Standing
from enginehouse.policy.affinity import digest
from enginehouse.policy.candidates import awake, candidates
from tests.policy.fleets import eject, service, services, shared

NOW = 100.0
CHANCE = Random(1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[Service, ...], tuple[str, ...], set[int], str]:
    """(services, tried, slots ejected, cache type)"""
    size = draw(st.integers(1, 10))
    members = tuple(
        service(f"s{slot}", slot, cache_type=draw(st.sampled_from(["", "static", "paged"]))) for slot in range(size)
    )
    tried = draw(st.lists(st.sampled_from([m.name for m in members]), unique=True).map(tuple))
    ejected = draw(st.sets(st.integers(0, size - 1)))
    return members, tried, ejected, draw(st.sampled_from(["", "static", "paged"]))


def oracle(members: tuple[Service, ...], tried: tuple[str, ...], ejected: set[int], cache_type: str) -> list[str]:
    left = [m for m in members if m.name not in tried]
    well = [m for m in left if m.slot not in ejected]
    pool = well or left
    typed = [m for m in pool if m.cache_type == cache_type] if cache_type else pool
    return [m.name for m in typed or pool]


@given(cases())
def test_the_filter_agrees_with_its_definition(
    case: tuple[tuple[Service, ...], tuple[str, ...], set[int], str],
) -> None:
    members, tried, ejected, cache_type = case
    memory = shared()
    for slot in ejected:
        eject(memory, slot, NOW + 1)
    found = candidates(members, tried, memory, NOW, CHANCE, 0, cache_type)
    assert [m.name for m in found] == oracle(members, tried, ejected, cache_type)


def test_where_nothing_is_filtered_nothing_is_copied() -> None:
    members = services(1, 1, 1)
    assert candidates(members, (), shared(), NOW, CHANCE, 0, "") is members


def test_an_ejection_ends_at_its_deadline() -> None:
    members = services(1, 1)
    memory = shared()
    eject(memory, 0, NOW)
    assert len(candidates(members, (), memory, NOW - 0.1, CHANCE, 0, "")) == 1
    assert len(candidates(members, (), memory, NOW, CHANCE, 0, "")) == 2


def test_if_all_are_ejected_all_are_used_but_never_one_that_was_tried() -> None:
    members = services(1, 1, 1)
    memory = shared()
    for slot in range(3):
        eject(memory, slot, NOW + 10)
    assert [s.name for s in candidates(members, ("s1",), memory, NOW, CHANCE, 0, "")] == ["s0", "s2"]
    assert list(candidates(members, ("s0", "s1", "s2"), memory, NOW, CHANCE, 0, "")) == []


def test_the_cache_type_is_a_preference_and_not_a_condition() -> None:
    members = (service("a", 0, cache_type="static"), service("b", 1, cache_type="paged"))
    memory = shared()
    assert [s.name for s in candidates(members, (), memory, NOW, CHANCE, 0, "static")] == ["a"]
    assert [s.name for s in candidates(members, ("a",), memory, NOW, CHANCE, 0, "static")] == ["b"]


def returning(memory: Shared, slot: int, since: float = NOW, until: float = NOW + 10) -> None:
    memory.put(slot, Standing(1, slow_from=since, slow_until=until))


def part(members: tuple[Service, ...], memory: Shared, now: float, slot: int = 0) -> float:
    """How often a service is a candidate."""
    rng = Random(3)
    found = [candidates(members, (), memory, now, rng, 0, "") for _ in range(4000)]
    return sum(any(m.slot == slot for m in some) for some in found) / len(found)


def test_who_rests_gets_nothing_while_others_are_there_and_is_asked_before_an_ejected_one() -> None:
    members = services(1, 1, 1)
    memory = shared()
    memory.rest(0, NOW + 2)
    assert [s.name for s in candidates(members, (), memory, NOW, CHANCE, 0, "")] == ["s1", "s2"]
    assert [s.name for s in candidates(members, (), memory, NOW + 2, CHANCE, 0, "")] == ["s0", "s1", "s2"]
    eject(memory, 1, NOW + 10)
    eject(memory, 2, NOW + 10)
    assert [s.name for s in candidates(members, (), memory, NOW, CHANCE, 0, "")] == ["s0"]
    assert [s.name for s in candidates(members, ("s0",), memory, NOW, CHANCE, 0, "")] == ["s1", "s2"]


def test_of_those_left_one_that_neither_rests_nor_is_ejected_goes_first_also_if_it_returns() -> None:
    members = services(1, 1, 1)
    memory = shared()
    memory.rest(0, NOW + 2)
    returning(memory, 1)
    eject(memory, 2, NOW + 2)
    assert [s.name for s in candidates(members, (), memory, NOW, CHANCE, 0, "")] == ["s1"]


def test_where_all_rest_all_are_used() -> None:
    members = services(1, 1)
    memory = shared()
    memory.rest(0, NOW + 2)
    memory.rest(1, NOW + 2)
    assert len(candidates(members, (), memory, NOW, CHANCE, 0, "")) == 2


def test_a_service_that_is_back_gets_a_growing_part_from_a_tenth_to_the_whole() -> None:
    members = services(1, 1, 1)
    memory = shared()
    returning(memory, 0)
    parts = [part(members, memory, NOW + after) for after in (0, 5, 9, 10)]
    assert parts == sorted(parts)
    assert [round(found, 1) for found in parts] == [0.1, 0.6, 0.9, 1.0]


def test_a_service_that_is_back_waits_for_nobody_where_too_few_others_could_bear_its_part() -> None:
    members = services(1, 1, 1)
    memory = shared()
    for slot in range(2):
        returning(memory, slot)
    assert part(members, memory, NOW) == 1.0
    assert part(members[:1], memory, NOW) == 1.0


def test_the_order_of_the_services_is_kept_because_turns_are_taken_by_it() -> None:
    members = services(1, 1, 1, 1)
    memory = shared()
    returning(memory, 1, NOW - 5)
    for _ in range(50):
        found = [m.slot for m in candidates(members, (), memory, NOW, CHANCE, 0, "")]
        assert found in ([0, 1, 2, 3], [0, 2, 3])


@given(st.integers(1, 2**61 - 2))
def test_a_session_comes_back_to_its_service_once_and_not_now_and_then(key: int) -> None:
    members = services(1, 1, 1)
    memory = shared()
    returning(memory, 0)
    seen = [
        any(m.slot == 0 for m in candidates(members, (), memory, NOW + tenth / 10, CHANCE, key, ""))
        for tenth in range(101)
    ]
    assert seen == sorted(seen)
    assert seen[-1]


def test_sessions_come_back_one_after_the_other() -> None:
    members = services(1, 1, 1)
    memory = shared()
    returning(memory, 0)
    keys = [digest(f"session {number}") for number in range(2000)]
    found = [candidates(members, (), memory, NOW + 5, CHANCE, key, "") for key in keys]
    assert 0.5 < sum(len(some) == 3 for some in found) / len(keys) < 0.6


def test_awake_are_also_those_that_wait_for_their_part() -> None:
    members = services(1, 1, 1, 1)
    memory = shared()
    assert list(awake(members, (), memory, NOW)) == []
    returning(memory, 0)
    eject(memory, 1, NOW + 1)
    memory.rest(2, NOW + 1)
    assert [m.slot for m in awake(members, (), memory, NOW)] == [0, 3]
    assert [m.slot for m in awake(members, ("s3",), memory, NOW)] == [0]
