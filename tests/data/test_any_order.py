"""A worker as a whole, in any order of what clients, engines, the network, the clock and control may do."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.fuzz import reply
from enginehouse.machines.exchange import State
from tests.data.world import World, settled

SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "short of places": {"service_capacity": 1, "queue_size": 2, "queue_timeout": 2.0, "learn_capacity": True},
    "impatient": {"hedge_after": 0.2, "first_byte_timeout": 5.0, "idle_timeout": 5.0, "retry_timeouts": True},
    "careful": {"max_attempts": 1, "max_errors": 1, "body_budget": 1024, "max_idle_per_service": 0, "failover": False},
}


async def live(seed: int, steps: int, name: str, broken: float) -> World:
    """A story by chance, to its end. Returns the world as it was left."""
    rng = random.Random(seed)
    world = World(rng, broken=broken, **SETTINGS[name])
    for _ in range(steps):
        what, act = rng.choice(world.possible())
        world.story.append(what)
        act()
        if rng.random() < 0.8:  # else several things happen at once
            await settled()
        world.check()
    await settled()
    world.leave()
    await settled()
    return world


def story(seed: int, steps: int, name: str, broken: float = 0.0) -> World:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        world = asyncio.run(live(seed, steps, name, broken))
    assert errors.getvalue() == "", (errors.getvalue()[-3000:], world.story)
    return world


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=120)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_whatever_happened_in_whatever_order_clients_got_what_is_well_formed_and_nothing_is_held_when_all_have_left(
    name: str, seed: int, steps: int
) -> None:
    world = story(seed, steps, name)
    assert held(world) == set(), world.story
    for wire in world.clients:
        assert answers(bytes(wire.written)) <= world.asked[wire], (world.story, bytes(wire.written))


@pytest.mark.parametrize("name", SETTINGS)
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_whatever_was_said_and_however_broken_it_was_nothing_is_held_when_all_have_left(
    name: str, seed: int, steps: int
) -> None:
    world = story(seed, steps, name, broken=0.4)
    assert held(world) == set(), world.story


def held(world: World) -> set[str]:
    """What is not let go of."""
    worker = world.worker
    found = {
        "loads": world.load(),
        "queued tokens": world.queued(),
        "held tokens": world.held(),
        "bodies": worker.bodies_held,
        "places in line": len(worker.room.waiting) + sum(world.shared.waiting),
        "memory of streams": worker.config.failover_memory - worker.replay_memory.free,
        "connections being made": len(world.connecting),
        "clients": len(worker.clients),
    }
    return {what for what, count in found.items() if count}


def answers(data: bytes) -> int:
    """How many answers began in what a client got; raises where it is malformed."""
    start, count = 0, 0
    while start < len(data) and (found := reply.read(data, start, b"POST")) is not None:
        start, count = found.end, count + 1
        if not found.whole:
            break
    return count


def test_such_stories_lead_requests_through_waiting_racing_and_resuming() -> None:
    """Else the test above would prove little."""
    seen: Counter[str] = Counter()
    for seed in range(100):
        seen += story(seed, 60, "short of places" if seed % 2 else "impatient").states
    expected = {State.QUEUED.value, State.TRYING.value, State.RACING.value, State.RESUMING.value}
    assert expected | {"prompts queued", "prompts computed"} <= {name for name, times in seen.items() if times}
