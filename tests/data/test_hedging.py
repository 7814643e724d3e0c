"""A second attempt where the first is slow: off unless asked for, within its budget, and one answer only."""

from __future__ import annotations

import asyncio

from enginehouse.core.outcome import Outcome
from tests.data.rig import Call, Engine, post, rig, until


async def quick(call: Call) -> None:
    await call.answer(call.engine.name.encode())


async def hangs(call: Call) -> None:
    await call.gone()


async def streams(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    await call.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")


async def test_a_slow_engine_is_outrun_and_its_connection_closed() -> None:
    for other in (quick, streams):
        async with rig(Engine("slow", hangs), Engine("quick", other), hedge_after=0.05) as house:
            for _ in range(2):
                answer = await house.ask(post())
                assert answer.status == 200
                assert answer.header("x-enginehouse-service") == "quick"
            slow = house.engines[0]
            assert slow.calls
            await asyncio.wait_for(slow.all_closed.wait(), 10)
            counts = house.worker.counters.report(1, 1).counts
            assert sum(count.errors for count in counts) == 0, "who is outrun is not blamed"


async def test_it_is_off_by_default() -> None:
    asked = asyncio.Event()

    async def slow(call: Call) -> None:
        await asked.wait()
        await call.answer()

    async with rig(Engine("a", slow), Engine("b", slow)) as house:
        answers = [asyncio.ensure_future(house.ask(post())) for _ in range(2)]
        await until(lambda: all(engine.calls for engine in house.engines))
        await asyncio.sleep(0.1)  # five sweeps
        asked.set()
        assert [answer.header("x-enginehouse-attempts") for answer in await asyncio.gather(*answers)] == ["1", "1"]


async def test_both_may_fail_and_the_client_hears_of_the_last() -> None:
    async def dies_late(call: Call) -> None:
        await both.wait()
        call.reset()

    both = asyncio.Event()
    async with rig(Engine("a", dies_late), Engine("b", dies_late), hedge_after=0.05, queue_size=0) as house:
        answer = asyncio.ensure_future(house.ask(post()))
        await until(lambda: all(engine.calls for engine in house.engines))
        both.set()
        assert (await answer).status == Outcome.BROKE_BEFORE_HEAD.row.status


async def test_a_client_that_leaves_ends_both() -> None:
    async with rig(Engine("a", hangs), Engine("b", hangs), hedge_after=0.05) as house:
        client = await house.client()
        await client.send(post())
        await until(lambda: all(engine.calls for engine in house.engines))
        client.close()
        for engine in house.engines:
            await asyncio.wait_for(engine.all_closed.wait(), 10)


async def test_nobody_races_while_others_wait() -> None:
    free = asyncio.Event()

    async def busy(call: Call) -> None:
        await free.wait()
        await call.answer()

    engines = Engine("a", busy, capacity=1), Engine("b", busy, models=("m", "n"), capacity=2)
    async with rig(*engines, hedge_after=0.05) as house:
        asked = [asyncio.ensure_future(house.ask(post())) for _ in range(4)]
        await until(lambda: len(house.worker.room.waiting) and sum(len(e.calls) for e in house.engines) == 3)
        await asyncio.sleep(0.2)  # ten sweeps
        assert sum(len(engine.calls) for engine in house.engines) == 3
        free.set()
        assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
