"""Bells: what one worker tells another arrives, and nothing that is wrong with the other one matters."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from enginehouse.data.bell import Bell
from tests.data.rig import DEADLINE


class Heard:
    """What a bell rang."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[int, int]] = asyncio.Queue()

    def __call__(self, slot: int, hops: int) -> None:
        self.told.put_nowait((slot, hops))

    async def next(self) -> tuple[int, int]:
        return await asyncio.wait_for(self.told.get(), DEADLINE)


async def test_a_worker_hears_what_another_one_tells_it(short_dir: Path) -> None:
    heard, other = Heard(), Heard()
    one, two = Bell(str(short_dir), 0, heard), Bell(str(short_dir), 1, other)
    try:
        two.ring(0, 4095, 3)
        two.ring(0, 0, 0)
        assert [await heard.next(), await heard.next()] == [(4095, 3), (0, 0)]
        one.ring(1, 7, 1)
        assert await other.next() == (7, 1)
    finally:
        one.close()
        two.close()


async def test_to_ring_at_a_worker_that_is_gone_or_was_never_there_does_no_harm(short_dir: Path) -> None:
    one, two = Bell(str(short_dir), 0, Heard()), Bell(str(short_dir), 1, Heard())
    two.close()
    one.ring(1, 5, 0)
    one.ring(77, 5, 0)
    one.close()


async def test_a_successor_takes_over_the_bell_of_a_worker_that_died(short_dir: Path) -> None:
    dead, heard = Bell(str(short_dir), 0, Heard()), Heard()
    other = Bell(str(short_dir), 1, Heard())
    dead.close()  # its file stays, as that of a killed process does
    successor = Bell(str(short_dir), 0, heard)
    try:
        other.ring(0, 9, 2)
        assert await heard.next() == (9, 2)
    finally:
        other.close()
        successor.close()


async def test_a_worker_that_does_not_listen_holds_up_nobody(short_dir: Path) -> None:
    heard = Heard()
    deaf, other = Bell(str(short_dir), 0, heard), Bell(str(short_dir), 1, Heard())
    try:
        for slot in range(5000):  # far more than its queue holds, while the loop does not turn
            other.ring(0, slot, 0)
        assert await heard.next() == (0, 0)
    finally:
        other.close()
        deaf.close()


async def test_a_directory_that_cannot_be_used_is_an_error_at_the_start(short_dir: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Bell(str(short_dir / "nowhere"), 0, Heard())
