"""The only filter, against a filter written the slow way."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.fleet import Service
from enginehouse.policy.candidates import candidates
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
