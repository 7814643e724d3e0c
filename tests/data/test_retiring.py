"""The end of a worker: what runs goes on, who comes again is told to go elsewhere, who is idle has a while.

A worker that has a successor takes its time; one that has none is in a hurry.
"""

from __future__ import annotations

import asyncio
import gc
import mmap
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Fleet
from enginehouse.core.shared import SIZE, Shared, WorkerState
from enginehouse.data import worker as module
from enginehouse.data.worker import Worker
from tests.data.rig import DEADLINE, Call, Client, Engine, Rig, post, service_of, until

CHUNK = b"c\r\ndata: 1234\n\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Living(Rig):
    """A worker in its own life, `run`; its clock can be put forward."""

    def __init__(self, engine: Engine, settings: dict[str, Any], fleet: bool) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        shared = Shared(memoryview(mmap.mmap(-1, SIZE)))
        worker = Worker(RouterConfig(**settings), shared, 0, "/nonexistent/api")
        super().__init__(worker, self.listener.getsockname()[1], shared, (engine,))
        self.later = 0.0
        worker.now = lambda: time.monotonic() + self.later
        if fleet:
            self.give_fleet()
        self.serves, self.stop = asyncio.Event(), asyncio.Event()
        self.life = asyncio.create_task(
            worker.run(self.listener, "/nonexistent/wire", self.stop, self.serves.set), name="worker"
        )

    def give_fleet(self) -> None:
        self.worker.use_fleet(Fleet(version=1, synced=True, services=(service_of(self.engines[0], 0),)))

    def end(self, *, successor: bool) -> None:
        """As SIGHUP (with a successor) and SIGTERM do it."""
        self.worker.end(successor=successor)
        self.stop.set()

    async def ended(self) -> None:
        await asyncio.wait_for(asyncio.shield(self.life), DEADLINE)

    async def kept(self) -> Client:
        """A connection that was used once, and stays."""
        client = await self.client()
        await client.send(post())
        assert (await client.answer()).header("connection") is None
        return client


@asynccontextmanager
async def living(engine: Engine, *, fleet: bool = True, **settings: Any) -> AsyncIterator[Living]:
    await engine.start()
    threshold = gc.get_threshold()
    house = Living(engine, settings, fleet)
    try:
        if fleet:
            await asyncio.wait_for(house.serves.wait(), DEADLINE)
        yield house
    finally:
        house.close()
        house.later += 1e6
        house.end(successor=False)
        await house.ended()
        await engine.stop()
        house.listener.close()
        gc.unfreeze()
        gc.set_threshold(*threshold)


async def plain(call: Call) -> None:
    await call.answer()


async def test_an_idle_connection_is_told_with_its_next_answer_that_it_is_the_last() -> None:
    async with living(Engine("a", plain)) as house:
        client = await house.kept()
        house.end(successor=True)
        await until(lambda: house.shared.states[0] == WorkerState.STOPPING)
        await client.send(post())
        answer = await client.answer()
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert await client.closed() == b""
        await house.ended()


async def test_a_connection_on_which_nothing_comes_is_closed_after_a_while() -> None:
    async with living(Engine("a", plain)) as house:
        client = await house.kept()
        house.end(successor=True)
        house.later = module.RETIRE_GRACE - 1.0
        await asyncio.sleep(2 * module.SWEEP)
        assert not house.life.done()
        house.later = module.RETIRE_GRACE
        assert await client.closed() == b""
        await house.ended()


async def test_without_a_successor_the_while_is_short() -> None:
    async with living(Engine("a", plain)) as house:
        client = await house.kept()
        house.end(successor=False)
        house.later = module.STOP_GRACE
        assert await client.closed() == b""
        await house.ended()


async def test_a_stream_goes_on_beyond_the_drain_timeout_where_there_is_a_successor() -> None:
    go_on = asyncio.Event()

    async def stream(call: Call) -> None:
        await call.send(HEAD + CHUNK)
        await go_on.wait()
        await call.send(CHUNK + b"0\r\n\r\n")

    async with living(Engine("a", stream), drain_timeout=5.0, reload_timeout=100.0) as house:
        client = await house.client()
        await client.send(post(b'{"model":"m","stream":true}'))
        await client.read_head()
        house.end(successor=True)
        house.later = 50.0
        await asyncio.sleep(2 * module.SWEEP)
        assert not house.life.done()
        go_on.set()
        assert (await client.closed()).endswith(CHUNK + b"0\r\n\r\n")
        await house.ended()


async def test_a_stream_is_cut_at_the_reload_timeout_and_sooner_when_the_router_stops_meanwhile() -> None:
    async def stream(call: Call) -> None:
        await call.send(HEAD + CHUNK)
        await call.gone()

    for stops, limit in ((False, 100.0), (True, 5.0)):
        async with living(Engine("a", stream), drain_timeout=5.0, reload_timeout=100.0) as house:
            client = await house.client()
            await client.send(post(b'{"model":"m","stream":true}'))
            await client.read_head()
            house.end(successor=True)
            if stops:
                house.end(successor=False)
            house.later = limit - 1.0
            await asyncio.sleep(2 * module.SWEEP)
            assert not house.life.done()
            house.later = limit
            assert b'"error"' in await client.closed()
            await house.ended()


async def test_a_successor_accepts_nobody_before_it_has_a_fleet_however_long_that_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_FLEET", 0.01)
    async with living(Engine("a", plain), fleet=False) as house:
        client = await house.client()
        await client.send(post())
        await asyncio.sleep(module.SWEEP)
        assert not house.serves.is_set()
        assert house.shared.states[0] == WorkerState.ABSENT
        house.give_fleet()
        assert (await client.answer()).status == 200
        assert house.serves.is_set()


async def test_the_rows_of_loads_that_count_are_those_of_workers_that_live() -> None:
    """Rows are given anew with every reload: a worker follows who has one."""
    async with living(Engine("a", plain), workers=2) as house:
        rows = house.shared.loads
        house.shared.beats[7] = house.shared.beats[9] = house.worker.now()
        await until(lambda: len(house.worker.loads.loads) == 3)
        assert [row is rows[at] for at, row in zip((0, 7, 9), house.worker.loads.loads, strict=True)] == [True] * 3
        house.shared.forget_worker(7)
        await until(lambda: len(house.worker.loads.loads) == 2)


@pytest.mark.parametrize("successor", [True, False])
async def test_who_waits_in_line_is_answered_by_the_old_worker_or_refused_at_once_where_the_router_stops(
    successor: bool,
) -> None:
    go_on = asyncio.Event()

    async def answer(call: Call) -> None:
        await go_on.wait()
        await call.answer()

    async with living(Engine("a", answer, capacity=1), drain_timeout=20.0) as house:
        first, second = await house.client(), await house.client()
        await first.send(post())
        await until(lambda: house.load() == 1)
        await second.send(post())
        await until(lambda: house.worker.room.waiting)
        house.end(successor=successor)
        if successor:
            await asyncio.sleep(2 * module.SWEEP)
            assert house.worker.room.waiting
        else:
            assert (await second.answer()).status == 503
        go_on.set()
        assert (await first.answer()).status == 200
        if successor:
            assert (await second.answer()).status == 200
        house.close()
        await house.ended()
