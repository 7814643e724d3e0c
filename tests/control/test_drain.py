"""When a service is drained, as control tells it; and a control that takes the place of one that still serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from enginehouse.core.shared import WorkerState
from tests.control.rig import House, engine, house, scripted, static, until, write_static


async def told(running: House, name: str = "a") -> tuple[bool, bool, int]:
    """(healthy, drained, in flight)."""
    service = await running.service(name)
    assert service is not None
    return service["healthy"], service["drained"], service["in_flight"]


async def test_a_service_is_drained_when_every_worker_knows_of_it_and_nothing_is_in_flight(
    short_dir: Path, tmp_path: Path
) -> None:
    async with engine() as one:
        file = tmp_path / "services.json"
        name = write_static(file, static("a", one.port))
        async with house(short_dir, static_services=name) as running, running.worker(0) as first:
            fleet = await first.until_up("a")
            slot = fleet.services[0].slot
            for worker, state in ((0, WorkerState.SERVING), (3, WorkerState.STOPPING)):
                running.shared.states[worker] = state
            running.shared.loads[0][slot], running.shared.loads[3][slot] = 1, 1
            assert await told(running) == (True, False, 2)
            write_static(file, static("a", one.port, status="draining"))
            await first.until_up()
            first.report()
            assert await told(running) == (False, False, 2)
            running.shared.loads[0][slot] = running.shared.loads[3][slot] = 0
            assert await told(running) == (False, False, 0), "the other worker may still send it requests"
            async with running.worker(3) as other:
                await other.until_up()
                other.report()

                async def drained() -> bool:
                    return await told(running) == (False, True, 0)

                await until(drained, "everybody's knowing of it")
                running.shared.loads[3][slot] = 1
                assert await told(running) == (False, False, 1)
            running.shared.loads[3][slot] = 0
            running.shared.forget_worker(3)
            assert await told(running) == (False, True, 0)
            write_static(file, static("a", one.port))
            await first.until_up("a")
            assert await told(running) == (True, False, 0)


async def test_a_service_that_is_down_is_not_called_drained(short_dir: Path, tmp_path: Path) -> None:
    async with scripted() as ill:  # it has no paths at all
        name = write_static(tmp_path / "s.json", static("a", ill.port, metadata={"models": ["m"]}))
        async with house(short_dir, static_services=name) as running:

            async def down() -> bool:
                return (await running.details("a"))["state"] == "down"

            await until(down, "its being down")
            assert await told(running) == (False, False, 0)


async def test_a_successor_answers_nobody_until_it_knows_every_service(short_dir: Path, tmp_path: Path) -> None:
    """Workers that came to it sooner would be told of a house in which nobody is up."""
    async with engine() as one:
        name = write_static(tmp_path / "s.json", static("a", one.port))
        async with house(short_dir, static_services=name) as running:
            await running.until_healthy("a")
            knows = asyncio.Event()
            successor = running.start_successor(knows.set)
            try:
                while not knows.is_set():
                    assert await running.healthy() == {"a"}, "whoever answers knows it"
                    await asyncio.sleep(0)
                await running.end()
                assert await running.healthy() == {"a"}
                async with running.worker(0) as wire:
                    assert [service.up for service in (await wire.next()).services] == [True]
            finally:
                successor.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await successor


async def test_a_successor_that_does_not_hear_from_its_registry_never_says_that_it_knows(
    short_dir: Path, tmp_path: Path
) -> None:
    async with engine() as one:
        name = write_static(tmp_path / "s.json", static("a", one.port))
        async with house(short_dir, static_services=name) as running:
            await running.until_healthy("a")
            running.config = type(running.config)(registry_url="http://127.0.0.1:1", static_services=name)
            knows = asyncio.Event()
            successor = running.start_successor(knows.set)
            await asyncio.sleep(0.5)
            assert not knows.is_set()
            assert await running.healthy() == {"a"}
            successor.cancel()
            with pytest.raises(asyncio.CancelledError):
                await successor
