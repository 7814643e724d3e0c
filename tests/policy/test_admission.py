"""Caps: whose cap is meant, who is below it, and how one is learned."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.outcome import Outcome
from enginehouse.policy.admission import (
    FRACTION,
    MOST,
    cap_of,
    grown,
    learned_from,
    packed,
    shrunk,
    unpacked,
    with_room,
)
from tests.policy.fleets import service, services, shared


def test_what_nobody_states_and_nothing_has_taught_is_any_number() -> None:
    assert cap_of(0, 0, 1) == 0
    assert cap_of(7, 0, 1) == 7


def test_a_learned_cap_lowers_a_stated_one_and_never_raises_it() -> None:
    assert cap_of(7, packed(3 * FRACTION + FRACTION - 1, 1), 1) == 3
    assert cap_of(0, packed(3 * FRACTION, 1), 1) == 3
    assert cap_of(7, packed(9 * FRACTION, 1), 1) == 7


def test_what_was_learned_of_one_service_says_nothing_of_the_next_one_in_its_slot() -> None:
    assert cap_of(0, packed(3 * FRACTION, 77), 78) == 0


@given(cap=st.integers(1, MOST * FRACTION), generation=st.integers(0, (1 << 32) - 1))
def test_a_learned_cap_and_its_generation_fit_into_one_word(cap: int, generation: int) -> None:
    learned = shared().learned
    learned[0] = packed(cap, generation)
    assert unpacked(learned[0], generation) == cap
    assert unpacked(0, generation) == 0


@given(
    caps=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    loads=st.lists(st.integers(0, 5), min_size=12, max_size=12),
    default=st.integers(0, 3),
)
def test_with_room_are_those_whose_load_over_all_workers_is_below_their_cap(
    caps: list[int], loads: list[int], default: int
) -> None:
    members = tuple(service(f"s{slot}", slot, capacity=cap) for slot, cap in enumerate(caps))
    memory = shared()
    for slot in range(len(caps)):
        memory.loads[0][slot], memory.loads[1][slot] = loads[slot], loads[6 + slot]
    found = with_room(members, memory.loads[:2], default, None)
    expected = [m for m in members if not (m.capacity or default) or memory.load(m.slot, 2) < (m.capacity or default)]
    assert list(found) == expected
    assert (found is members) == (len(expected) == len(members))


def test_with_room_minds_what_was_learned() -> None:
    members, memory = services(1, 1, capacity=5), shared()
    memory.loads[0][0] = memory.loads[0][1] = 3
    memory.learned[1] = packed(3 * FRACTION, 1)
    assert with_room(members, memory.loads[:1], 0, memory.learned) == [members[0]]
    assert with_room(members, memory.loads[:1], 0, None) is members


def test_without_any_cap_the_very_same_sequence_comes_back() -> None:
    members = services(1, 1)
    assert with_room(members, shared().loads[:1], 0, None) is members


def test_before_an_engine_had_too_much_to_do_there_is_no_limit_and_nothing_grows() -> None:
    assert grown(0) == 0


def test_a_cap_grows_by_one_in_a_round_of_as_many_successes() -> None:
    cap = 10 * FRACTION
    for _ in range(10):
        cap = grown(cap)
    assert 10.9 * FRACTION <= cap <= 11 * FRACTION


def test_an_engine_that_had_too_much_to_do_keeps_seven_tenths_of_the_load_it_had() -> None:
    assert shrunk(0, 20) == 14 * FRACTION
    assert shrunk(20 * FRACTION, 20) == 14 * FRACTION


def test_a_burst_of_refusals_leaves_a_share_of_what_the_engine_did_take() -> None:
    cap = 0
    for load in range(20, 10, -1):  # of 20 requests it took 10 and refused the others, one after another
        cap = shrunk(cap, load)
    assert 7 * FRACTION <= cap <= 8 * FRACTION


@given(cap=st.integers(0, MOST * FRACTION), load=st.integers(0, 10000))
def test_a_cap_never_falls_below_one_request_nor_rises_by_a_refusal(cap: int, load: int) -> None:
    less = shrunk(cap, load)
    assert less >= min(cap, FRACTION) if cap else less >= FRACTION
    assert not cap or less <= cap


@given(cap=st.integers(FRACTION, MOST * FRACTION))
def test_growing_is_slow_and_ends(cap: int) -> None:
    assert cap <= grown(cap) <= min(cap + FRACTION, MOST * FRACTION)


# -- what an attempt teaches -------------------------------------------------------------------------------------------


def test_answers_below_the_cap_teach_nothing() -> None:
    known = packed(10 * FRACTION, 1)
    assert learned_from(known, 1, 9, Outcome.ANSWERED) == known
    assert unpacked(learned_from(known, 1, 10, Outcome.ANSWERED), 1) > 10 * FRACTION
    assert learned_from(0, 1, 500, Outcome.ANSWERED) == 0


def test_an_engine_that_refuses_or_lets_time_out_has_too_much_to_do_one_that_breaks_has_not() -> None:
    known = packed(10 * FRACTION, 1)
    for outcome in Outcome:
        found = unpacked(learned_from(known, 1, 10, outcome), 1)
        if outcome in (Outcome.REJECTED, Outcome.FIRST_BYTE_TIMEOUT):
            assert found == 7 * FRACTION
        elif outcome is not Outcome.ANSWERED:
            assert found == 10 * FRACTION, outcome


def test_an_engine_that_bears_ten_at_once_is_given_about_ten() -> None:
    """As many clients ask as may; the engine refuses whatever is more than ten at once."""
    known, loads = 0, []
    for _ in range(2000):
        load = unpacked(known, 1) // FRACTION or 25
        loads.append(load)
        refused = max(0, load - 10)
        for number in range(refused):
            known = learned_from(known, 1, load - number, Outcome.REJECTED)
        for _ in range(load - refused):
            known = learned_from(known, 1, load - refused, Outcome.ANSWERED)
    assert set(loads[100:]) <= set(range(7, 12))
    assert sum(loads[100:]) / len(loads[100:]) > 8
