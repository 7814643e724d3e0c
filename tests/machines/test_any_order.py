"""What holds of every machine, in whatever order its events happen."""

from __future__ import annotations

import pkgutil
import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import enginehouse.machines
from tests.machines.orders import MACHINES, PAUSES, Player

EACH = pytest.mark.parametrize("name", MACHINES)


def explore(make: Callable[[random.Random], Player], steps: int) -> set[tuple[Any, Any, Any]]:
    """(state, kind of event, next state) of so many steps, each from some place where the machine has been before."""
    rng = random.Random(1)
    places: dict[Any, list[tuple[Player, float]]] = {}
    seen = set()
    for step in range(steps):
        begins = step % 10 == 0
        chance = random.Random(step)
        player, now = (make(chance), 100.0) if begins else deepcopy(rng.choice(places[rng.choice(list(places))]))
        player.rng.setstate(chance.getstate())  # the same place may lead elsewhere
        possible, before = player.possible(now), player.state
        if not possible:
            continue
        event, now = rng.choice(possible), now + rng.choice(PAUSES)
        player.tell(event, now)
        seen.add((before, player.kind(event), player.state))
        found = places.setdefault(player.state, [])
        found.append((player, now))
        if len(found) > 60:
            found.pop(rng.randrange(len(found)))
    return seen


def test_there_is_no_machine_that_is_not_played_here() -> None:
    assert set(MACHINES) == {module.name for module in pkgutil.iter_modules(enginehouse.machines.__path__)}


@EACH
@given(data=st.data())
def test_whatever_can_happen_it_knows_and_from_wherever_it_is_it_comes_to_rest(name: str, data: st.DataObject) -> None:
    """An event that is not in the table, or a state that the table does not allow, raises."""
    make, rests = MACHINES[name]
    player, now = make(random.Random(data.draw(st.integers(0, 1000), "chance"))), 100.0
    for _ in range(data.draw(st.integers(0, 40), "events")):
        possible = player.possible(now)
        if not possible:
            break
        now += data.draw(st.sampled_from(PAUSES), "seconds later")
        player.tell(data.draw(st.sampled_from(possible), "event"), now)
    assert player.rest(now) in rests


@EACH
@given(seed=st.integers(0, 2**32))
@settings(max_examples=50)
def test_the_same_order_of_events_leads_to_the_same_commands(name: str, seed: int) -> None:
    """Nothing of it depends on anything but what it is told."""
    make, _ = MACHINES[name]
    told = []
    for _ in range(2):
        rng, now, commands = random.Random(seed), 0.0, []
        player = make(random.Random(seed))
        for _ in range(30):
            possible = player.possible(now)
            if not possible:
                break
            now += rng.choice(PAUSES)
            commands.append((player.tell(rng.choice(possible), now), player.state))
        told.append(commands)
    assert told[0] == told[1]


@EACH
def test_every_row_of_its_table_can_happen_and_lead_to_each_state_that_it_names(name: str) -> None:
    """A row that nothing leads to, or a state too many in one, would hide a bug; the reference shows the table."""
    make, _ = MACHINES[name]
    seen = explore(make, 8000)
    table = make(random.Random(1)).table
    rows = {(state, kind, after) for (state, kind), step in table.items() for after in step[1]}
    assert sorted(map(str, rows - seen)) == []
