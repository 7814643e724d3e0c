"""Followers of the live feed: one computation for all of them, none for nobody, and nobody waits for a slow one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from enginehouse.control import feed as module
from enginehouse.control.feed import MAX_BEHIND, WATCHED, Feed
from tests.control.rig import new_shared, until


class Counting:
    """In place of `Live`: counts what is worked out."""

    def __init__(self) -> None:
        self.steps = 0
        self.rests = 0
        self.broken = False

    def step(self) -> bytes:
        self.steps += 1
        if self.broken:
            raise ValueError("a bug")
        return b"%d" % self.steps

    def whole(self) -> bytes:
        return b"whole"

    def rest(self) -> None:
        self.rests += 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.01)


def made() -> tuple[Feed, Counting]:
    live = Counting()
    return Feed(cast("Any", live), new_shared(), time.monotonic), live


async def next_of(follower: AsyncGenerator[bytes, None]) -> bytes:
    return await asyncio.wait_for(anext(follower), 20)


async def test_all_followers_get_the_same_objects_each_of_which_is_worked_out_once() -> None:
    feed, live = made()
    followers = [feed.follow() for _ in range(5)]
    assert [await next_of(each) for each in followers] == [b"whole"] * 5
    first = [await next_of(each) for each in followers]
    second = [await next_of(each) for each in followers]
    assert len(set(first)) == len(set(second)) == 1
    assert int(second[0]) == int(first[0]) + 1
    assert live.steps < 50
    await feed.close()


async def test_while_somebody_follows_the_workers_know_and_when_the_last_has_left_nothing_is_worked_out() -> None:
    feed, live = made()
    assert feed._shared.watched[0] == 0.0
    follower = feed.follow()
    await next_of(follower)
    assert WATCHED - 1 < feed._shared.watched[0] - time.monotonic() <= WATCHED
    await follower.aclose()
    await until(lambda: live.rests == 1, "a feed at rest")
    steps, watched = live.steps, feed._shared.watched[0]
    await asyncio.sleep(0.05)
    assert (live.steps, feed._shared.watched[0]) == (steps, watched)
    again = feed.follow()
    assert await next_of(again) == b"whole"
    assert await next_of(again)
    await feed.close()


async def test_who_reads_too_slowly_is_dropped_and_the_others_are_not_kept_waiting() -> None:
    feed, _ = made()
    slow, quick = feed.follow(), feed.follow()
    assert await next_of(slow) == b"whole"
    await next_of(quick)
    for _ in range(2 * MAX_BEHIND):
        await next_of(quick)
    with pytest.raises(StopAsyncIteration):
        await next_of(slow)
    assert await next_of(quick)
    await feed.close()


async def test_a_bug_in_telling_ends_nothing() -> None:
    feed, live = made()
    follower = feed.follow()
    await next_of(follower)
    live.broken = True
    before = live.steps
    await until(lambda: live.steps > before + 2, "attempts to tell")
    live.broken = False
    assert int(await next_of(follower))
    await feed.close()


async def test_the_end_of_control_ends_it_for_everybody() -> None:
    feed, _ = made()
    followers = [feed.follow() for _ in range(3)]
    for each in followers:
        await next_of(each)
    await feed.close()
    for each in followers:
        with pytest.raises(StopAsyncIteration):
            await next_of(each)
