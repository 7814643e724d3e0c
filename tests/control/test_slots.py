"""Slots and generations: the same numbers for the same service, in every control process."""

import random
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.control.slots import CAPACITY, Slots, generation_of
from enginehouse.core.shared import CONTROL_SLOT

names = st.lists(st.sampled_from([f"engine-{n}" for n in range(30)]))


def test_a_restarted_control_gives_every_service_the_slot_and_generation_it_had() -> None:
    program = (
        "from enginehouse.control.slots import *; s = Slots();"
        "print([s.take(f'e{n}') for n in range(99)], generation_of('e', 'here'))"
    )
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(2)]
    assert runs[0] == runs[1] != b""


def test_the_order_in_which_services_come_does_not_change_their_slots() -> None:
    order = [f"engine-{n}" for n in range(50)]
    before = Slots()
    wanted = {name: before.take(name) for name in order}
    random.Random(1).shuffle(order)
    after = Slots()
    assert {name: after.take(name) for name in order} == wanted


def test_the_slot_of_controls_own_api_is_never_given_to_a_service() -> None:
    slots = Slots()
    given = {slots.take(f"engine-{n}") for n in range(CAPACITY)}
    assert given == set(range(CAPACITY))
    assert CONTROL_SLOT not in given


def test_when_every_slot_is_taken_there_is_none_until_one_is_freed() -> None:
    slots = Slots()
    given = [slots.take(f"engine-{n}") for n in range(CAPACITY)]
    assert slots.take("one too many") is None
    slots.free("engine-7")
    assert slots.take("one too many") == given[7]


@given(take=names, free=names)
def test_no_slot_belongs_to_two_names_at_a_time(take: list[str], free: list[str]) -> None:
    slots = Slots()
    held: dict[str, int] = {}
    for name, gone in zip(take, [*free, *[""] * len(take)], strict=False):
        slot = slots.take(name)
        assert slot is not None
        assert held.setdefault(name, slot) == slot
        slots.free(gone)
        held.pop(gone, None)
        assert len(set(held.values())) == len(held)


def test_another_place_is_another_generation_and_no_generation_is_zero() -> None:
    assert generation_of("a", "host", "1") != generation_of("a", "host", "2")
    assert generation_of("a", "bc") != generation_of("ab", "c")
    assert all(0 < generation_of(str(n)) < 2**32 for n in range(1000))
