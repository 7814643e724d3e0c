"""What engines that break, refuse, fail and come back get of the requests: two workers, real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.data.rig import Answer, Call, Engine, Rig, Script, beside, post, rig, until

CHUNK = b"5\r\nhello\r\n"


class Scripted:
    """Engines that answer with their name, but for the one called "ill", which does as it is told."""

    def __init__(self) -> None:
        self.now: Script = well
        self.ill = Engine("ill", self.run)

    async def run(self, call: Call) -> None:
        await self.now(call)

    def calls(self) -> int:
        return len(self.ill.calls)


async def well(call: Call) -> None:
    await call.answer(call.engine.name.encode())


async def reset(call: Call) -> None:
    call.reset()


async def error(call: Call) -> None:
    await call.answer(b"{}", status=b"500 Internal Server Error")


def refusing(retry_after: bytes, status: bytes = b"503 Service Unavailable") -> Script:
    async def script(call: Call) -> None:
        extra = b"retry-after: %b\r\n" % retry_after if retry_after else b""
        await call.answer(b"{}", status=status, extra=extra)

    return script


async def ask(house: Rig, times: int = 1) -> list[Answer]:
    return [await house.ask(post()) for _ in range(times)]


async def break_down(house: Rig, engine: Scripted) -> None:
    """Ask until the engine is out."""
    engine.now = reset
    for _ in range(20):
        if house.shared.ejected_until[0] > house.worker.now():
            return
        assert (await ask(house))[0].status == 200
    raise AssertionError("not put out")


async def test_what_one_worker_finds_out_the_other_knows_at_once() -> None:
    one = Scripted()
    async with rig(one.ill, Engine("b", well)) as house, beside(house) as other:
        await break_down(house, one)
        before = one.calls()
        assert [answer.body for answer in await ask(other, 6)] == [b"b"] * 6
        assert one.calls() == before


async def test_failures_add_up_over_the_workers() -> None:
    one = Scripted()
    one.now = reset
    async with rig(one.ill, Engine("b", well), max_errors=4) as house, beside(house, max_errors=4) as other:
        for _ in range(2):
            await ask(house, 2)
            await ask(other, 2)
        assert one.calls() == 4
        assert house.shared.ejected_until[0] > house.worker.now()
        assert house.shared.levels[0] == 1


async def test_after_its_time_one_request_tries_a_service_while_all_others_go_elsewhere() -> None:
    one = Scripted()
    trial = asyncio.Event()

    async def slow(call: Call) -> None:
        await trial.wait()
        await call.answer(b"tried")

    times: dict[str, Any] = {"ejection_time": 0.2, "slow_start": 0.0}
    async with rig(one.ill, Engine("b", well), **times) as house, beside(house, **times) as other:
        await break_down(house, one)
        before, one.now = one.calls(), slow
        await until(lambda: house.shared.ejected_until[0] <= house.worker.now())
        tries = [asyncio.create_task(house.ask(post())) for _ in range(2)]
        await until(lambda: one.calls() > before)
        assert [a.body for worker in (house, other) for a in await ask(worker, 4)] == [b"b"] * 8
        assert one.calls() == before + 1
        trial.set()
        assert sorted([a.body for a in await asyncio.gather(*tries)]) == [b"b", b"tried"]
        one.now = well
        assert {a.body for a in await ask(other, 4)} == {b"ill", b"b"}


async def test_a_trial_that_fails_costs_no_client_anything_and_puts_the_service_out_for_twice_as_long() -> None:
    one = Scripted()
    async with rig(one.ill, Engine("b", well), ejection_time=1.0) as house:
        await break_down(house, one)
        before = one.calls()
        await until(lambda: house.shared.ejected_until[0] <= house.worker.now())
        assert [a.body for a in await ask(house, 4)] == [b"b"] * 4
        assert one.calls() == before + 1
        assert house.shared.levels[0] == 2


async def test_a_long_answer_ends_an_ejection_with_its_first_byte() -> None:
    one = Scripted()
    go_on = asyncio.Event()

    async def stream(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNK)
        await go_on.wait()
        await call.send(b"0\r\n\r\n")

    async with rig(one.ill, Engine("b", well), ejection_time=0.2) as house:
        await break_down(house, one)
        one.now = stream
        await until(lambda: house.shared.ejected_until[0] <= house.worker.now())
        clients = [await house.client() for _ in range(2)]
        for client in clients:
            await client.send(post())
        for client in clients:
            await client.read_head()
        assert house.shared.ejected_until[0] == 0
        assert not house.worker.counters.trials
        go_on.set()


async def test_an_error_that_is_passed_on_as_it_comes_does_not_end_an_ejection() -> None:
    one = Scripted()
    async with rig(one.ill, Engine("b", well), ejection_time=1.0, verbatim_errors=True) as house:
        await break_down(house, one)
        one.now = error
        await until(lambda: house.shared.ejected_until[0] <= house.worker.now())
        assert {a.status for a in await ask(house, 2)} == {200, 500}
        assert house.shared.levels[0] == 2
        assert house.shared.ejected_until[0] > house.worker.now()


async def test_an_engine_that_refuses_fast_does_not_look_idle_and_gets_nothing_until_it_has_rested() -> None:
    one = Scripted()
    one.now = refusing(b"600")
    async with rig(one.ill, Engine("b", well), policy="least_load") as house, beside(house) as other:
        assert [a.body for a in await ask(house, 10)] == [b"b"] * 10
        assert [a.body for a in await ask(other, 10)] == [b"b"] * 10
        assert one.calls() == 1
        rests = house.shared.rest_until[0] - house.worker.now()
        assert 5 < rests <= 10
        assert house.shared.levels[0] == 0
        house.shared.rest_until[0] = 0.0
        one.now = well
        assert {a.body for a in await ask(other, 4)} == {b"ill", b"b"}


async def test_an_engine_that_names_no_time_rests_for_a_second_and_one_that_refuses_with_429_too() -> None:
    one = Scripted()
    one.now = refusing(b"", b"429 Too Many Requests")
    async with rig(one.ill, Engine("b", well)) as house:
        assert [a.status for a in await ask(house, 4)] == [200] * 4
        assert one.calls() == 1
        assert 0 < house.shared.rest_until[0] - house.worker.now() <= 1


async def test_an_engine_that_answers_500_while_the_others_do_not_is_put_out() -> None:
    one = Scripted()
    one.now = error
    async with rig(one.ill, Engine("b", well), Engine("c", well)) as house, beside(house) as other:
        found = [await worker.ask(post()) for _ in range(36) for worker in (house, other)]
        assert sum(a.status == 500 for a in found) >= 20
        await until(lambda: house.shared.levels[0])
        assert house.shared.levels[0] == 1
        assert {a.body for a in await ask(other, 6)} == {b"b", b"c"}
        counts = {c.slot: c for w in (house, other) for c in w.worker.counters.report(1, 1).counts}
        assert counts[0].failed >= 10
        assert counts[0].errors == 0


async def test_a_client_error_and_a_thing_that_an_engine_cannot_do_put_nobody_out() -> None:
    for status in (b"400 Bad Request", b"422 Unprocessable Content", b"501 Not Implemented"):
        one = Scripted()
        one.now = refusing(b"", status)
        async with rig(one.ill, Engine("b", well)) as house:
            assert {a.status for a in await ask(house, 50)} == {200, int(status[:3])}
            await until(lambda: house.shared.noted(0)[0] >= 20)
            house.worker.beat()
            assert house.shared.noted(0)[1] == 0
            assert house.shared.levels[0] == 0


async def test_where_every_service_is_out_every_service_is_used_and_the_first_answer_ends_it() -> None:
    one = Scripted()
    async with rig(one.ill, queue_size=0) as house:
        one.now = reset
        for _ in range(3):
            assert (await ask(house))[0].status == 502
        assert house.shared.ejected_until[0] > house.worker.now()
        one.now = well
        assert (await ask(house))[0].body == b"ill"
        assert house.shared.ejected_until[0] == 0


async def test_a_service_that_is_back_gets_a_small_part_of_the_requests_at_first() -> None:
    one = Scripted()
    async with rig(one.ill, Engine("b", well), ejection_time=0.2, slow_start=1000.0) as house:
        await break_down(house, one)
        one.now = well
        await until(lambda: house.shared.ejected_until[0] <= house.worker.now())
        await ask(house, 4)
        assert house.shared.slow_until[0] > house.worker.now()
        before = one.calls()
        await ask(house, 100)
        assert 0 <= one.calls() - before < 30
