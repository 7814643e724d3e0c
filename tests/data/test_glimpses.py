"""What a worker shows of its requests, which costs nothing while nobody watches."""

from __future__ import annotations

import asyncio
import mmap
from typing import Any

from enginehouse.core.glimpse import GLIMPSE_INTERVAL, MAX_ENDED, MAX_UNDER_WAY, Glimpse
from enginehouse.core.shared import SIZE, Shared
from enginehouse.data.glimpses import Glimpses
from tests.data.access_log_rig import entry
from tests.data.rig import Call, Engine, post, rig, until

NOW = 1000.0


def glimpses(watched_until: float) -> tuple[Glimpses, Shared]:
    shared = Shared(memoryview(mmap.mmap(-1, SIZE)))
    shared.watched[0] = watched_until
    return Glimpses(shared), shared


def test_while_nobody_watches_nothing_is_kept_and_none_is_due() -> None:
    shows, shared = glimpses(NOW)
    shows.take([entry("a")], NOW)
    assert not shows.due(NOW)
    shared.watched[0] = NOW + 3
    assert shows.due(NOW)
    assert shows.make((), NOW).ended == ()


def test_what_ended_is_shown_once_the_newest_if_there_is_too_much_of_it() -> None:
    shows, _ = glimpses(NOW + 3)
    shows.take([entry(f"r{number}") for number in range(MAX_ENDED + 10)], NOW)
    shown = shows.make((), NOW)
    assert [ended.id for ended in shown.ended] == [f"r{number}" for number in range(10, MAX_ENDED + 10)]
    first = shown.ended[0]
    assert (first.model, first.service, first.status, first.outcome, first.termination, first.reason) == (
        "m", "a", 200, "answered", "--", "only",
    )  # fmt: skip
    assert (first.seconds, first.first_byte_seconds, first.tokens_in) == (0.5, 0.25, None)
    assert shows.make((), NOW + 1).ended == ()


def test_when_the_last_one_has_left_what_was_kept_is_dropped() -> None:
    shows, shared = glimpses(NOW + 3)
    shows.take([entry("a")], NOW)
    shows.take([], NOW + 4)
    shared.watched[0] = NOW + 10
    assert shows.make((), NOW + 5).ended == ()


def test_a_worker_shows_it_once_in_a_while_however_often_it_looks() -> None:
    shows, _ = glimpses(NOW + 100)
    shows.make((), NOW)
    assert not shows.due(NOW + GLIMPSE_INTERVAL / 2)
    assert shows.due(NOW + GLIMPSE_INTERVAL)


async def test_so_many_requests_under_way_are_told_and_all_that_wait_are_counted() -> None:
    over = asyncio.Event()

    async def script(call: Call) -> None:
        await over.wait()
        await call.answer()

    count = MAX_UNDER_WAY + 20
    engine = Engine("a", script, capacity=5)
    async with rig(engine, queue_size=count, queue_timeout=60.0) as house:
        clients = [await house.client() for _ in range(count)]
        for client in clients:
            await client.send(post())
        await until(lambda: house.load() == 5 and waiting(house).get("m") == count - 5)
        shown = house.worker.reports._glimpses.make(house.worker.clients, NOW)
        assert len(shown.under_way) == MAX_UNDER_WAY
        assert {each.phase for each in shown.under_way} <= {"connecting", "sent", "waiting"}
        over.set()
        for client in clients:
            assert (await client.answer()).status == 200


def waiting(house: Any) -> dict[str, int]:
    shown: Glimpse = house.worker.reports._glimpses.make(house.worker.clients, NOW)
    return shown.waiting
