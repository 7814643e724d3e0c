"""What holds of every machine, in whatever order its events happen."""

from __future__ import annotations

import pkgutil
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import enginehouse.machines
from tests.machines.orders import MACHINES, PAUSES, Player

EACH = pytest.mark.parametrize("name", MACHINES)


class Place(NamedTuple):
    """How a machine came to be where it is: its first chance, and each event with its time and the chance it had."""

    chance: int
    events: tuple[tuple[int, Any, float], ...] = ()

    def again(self, make: Callable[[random.Random], Player]) -> Player:
        """The machine there."""
        player = make(random.Random(self.chance))
        for chance, event, now in self.events:
            player.rng.seed(chance)
            player.tell(event, now)
        return player


def explore(make: Callable[[random.Random], Player], steps: int) -> set[tuple[Any, Any, Any]]:
    """(state, kind of event, next state) of so many steps, each from some place where the machine has been before."""
    rng = random.Random(1)
    places: dict[Any, list[Place]] = {}
    seen = set()
    for step in range(steps):
        place = Place(step) if step % 10 == 0 else rng.choice(places[rng.choice(list(places))])
        player = place.again(make)
        before, now = player.state, (place.events[-1][2] if place.events else 100.0) + rng.choice(PAUSES)
        player.rng.seed(step)  # the same place may lead elsewhere
        possible = player.possible(now)
        if not possible or len(place.events) > 30:
            continue
        event = rng.choice(possible)
        player.rng.seed(step)
        player.tell(event, now)
        seen.add((before, player.kind(event), player.state))
        found = places.setdefault(player.state, [])
        found.append(Place(place.chance, (*place.events, (step, event, now))))
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
    seen = explore(make, 16_000)
    table = make(random.Random(1)).table
    rows = {(state, kind, after) for (state, kind), step in table.items() for after in step[1]}
    assert sorted(map(str, rows - seen)) == []
