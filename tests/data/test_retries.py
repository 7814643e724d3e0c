"""Repetitions: another service each time, at most so many, within one deadline and a budget."""

from __future__ import annotations

import asyncio
import json

from enginehouse.policy.retry import RESERVE
from tests.data.rig import Call, Engine, post, rig


def saying(status: bytes, extra: bytes = b"") -> Engine:
    async def script(call: Call) -> None:
        await call.answer(b'{"error":{"message":"no","type":"t","param":null,"code":null}}', status, extra)

    return Engine(status.decode().split()[0], script)


async def fine(call: Call) -> None:
    await call.answer()


async def hangs(call: Call) -> None:
    await call.gone()


async def test_a_busy_engine_is_left_alone_for_as_long_as_it_asks() -> None:
    busy = saying(b"503 Service Unavailable", b"Retry-After: 9\r\n")
    async with rig(busy, Engine("fine", fine)) as house:
        assert {(await house.ask(post())).status for _ in range(20)} == {200}
        assert len(busy.calls) == 1


async def test_statuses_are_retried_as_configured() -> None:
    for status, settings, tried in (
        (b"503 Service Unavailable", {}, True),
        (b"429 Too Many Requests", {}, True),
        (b"502 Bad Gateway", {}, False),
        (b"502 Bad Gateway", {"retry_statuses": (502, 504)}, True),
        (b"504 Gateway Timeout", {"retry_statuses": (502, 504)}, True),
        (b"503 Service Unavailable", {"retry_statuses": ()}, False),
        (b"400 Bad Request", {}, False),
    ):
        async with rig(saying(status), Engine("fine", fine), **settings) as house:
            answers = {(await house.ask(post())).status for _ in range(2)}
            assert answers == ({200} if tried else {200, int(status[:3])}), (status, settings)


async def test_when_everybody_is_busy_the_client_gets_the_engines_own_answer_with_its_retry_after() -> None:
    engines = [saying(b"503 Service Unavailable", b"Retry-After: 7\r\n") for _ in range(3)]
    for number, engine in enumerate(engines):
        engine.name = str(number)
    async with rig(*engines) as house:
        answer = await house.ask(post())
        assert (answer.status, answer.header("retry-after")) == (503, "7")
        assert answer.header("x-enginehouse-attempts") == "3"
        assert sorted(len(engine.calls) for engine in engines) == [1, 1, 1]


async def test_no_more_attempts_than_configured() -> None:
    async def dies(call: Call) -> None:
        await call.answer(b"{}", b"503 Service Unavailable")

    async with rig(*(Engine(str(n), dies) for n in range(4)), max_attempts=2) as house:
        assert (await house.ask(post())).header("x-enginehouse-attempts") == "2"


async def test_one_deadline_holds_over_all_attempts() -> None:
    async def slowly_busy(call: Call) -> None:
        await asyncio.sleep(0.3)
        await call.answer(b"{}", b"503 Service Unavailable")

    engines = Engine("a", slowly_busy), Engine("b", slowly_busy), Engine("c", slowly_busy)
    async with rig(*engines, first_byte_timeout=0.5) as house:
        answer = await house.ask(post())
        assert answer.status == 504
        assert json.loads(answer.body)["error"]["code"] == "gateway_timeout"
        assert sum(len(engine.calls) for engine in engines) == 2


async def test_a_budget_keeps_repetitions_from_making_an_outage_worse() -> None:
    async def busy(call: Call) -> None:
        await call.answer(b"{}", b"503 Service Unavailable")

    async with rig(Engine("a", busy), Engine("b", busy), retry_budget=0.0) as house:
        house.worker.retries.repeated = RESERVE - 3
        client = await house.client()
        attempts = []
        for _ in range(6):
            await client.send(post())
            attempts.append((await client.answer()).header("x-enginehouse-attempts"))
        assert attempts == ["2", "2", "2", "1", "1", "1"]


async def test_a_timeout_is_retried_only_where_the_owner_wants_it() -> None:
    for wanted, status in ((False, 504), (True, 200)):
        settings = {"first_byte_timeout": 0.2, "retry_timeouts": wanted}
        async with rig(Engine("hangs", hangs), Engine("fine", fine), **settings) as house:
            statuses = {(await house.ask(post())).status for _ in range(2)}
            assert statuses == {200, status}, wanted
