"""Requests and connections leave nothing for the garbage collector: their memory is free when they are over."""

from __future__ import annotations

import gc
from collections import Counter

from tests.data.rig import Call, Engine, post, rig, until

STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"d\r\ndata: [DONE]\n\r\n1\r\n\n\r\n0\r\n\r\n"
)
ROUNDS = 20


async def script(call: Call) -> None:
    if b"stream" in call.body:
        await call.send(STREAM)
    elif b"bad" in call.body:
        await call.answer(status=b"400 Bad Request")
    elif b"break" in call.body:
        call.reset()
    elif b"wait" in call.body:
        await call.gone()
    elif b"half" in call.body:
        await call.send(STREAM[:90])
        await call.gone()
    else:
        await call.answer()


def ours_among_garbage() -> Counter[str]:
    """Objects of the data plane that only the collector can free, by class."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        found = Counter(
            type(each).__qualname__ for each in gc.garbage if type(each).__module__.startswith("enginehouse")
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    return found


async def left_behind(*bodies: bytes, extra: bytes = b"") -> Counter[str]:
    """What `ROUNDS` connections with these requests each leave behind."""
    async with rig(Engine("a", script), Engine("b", script)) as house:
        await house.ask(post())
        others = len(house.worker.clients)
        gc.collect()
        gc.disable()
        try:
            for _ in range(ROUNDS):
                client = await house.client()
                for body in bodies:
                    await client.send(post(body, extra=extra))
                    await client.answer()
                client.close()
            await until(lambda: len(house.worker.clients) <= others)
            return ours_among_garbage()
        finally:
            gc.enable()


async def test_plain_requests_leave_nothing() -> None:
    assert await left_behind(b'{"model":"m"}', b'{"model":"m"}', b'{"model":"m","x":"longer"}') == {}


async def test_streams_leave_nothing() -> None:
    assert await left_behind(b'{"model":"m","stream":true}', b'{"model":"m","stream":true}') == {}


async def test_errors_leave_nothing() -> None:
    assert await left_behind(b'{"model":"m","x":"bad"}', b'{"model":"unknown"}', b"no json") == {}


async def test_retries_leave_nothing() -> None:
    assert await left_behind(b'{"model":"m","x":"break"}') == {}


async def test_connections_that_are_closed_by_us_leave_nothing() -> None:
    assert await left_behind(b'{"model":"m"}', extra=b"Connection: close\r\n") == {}


async def test_clients_that_leave_leave_nothing() -> None:
    """Before the answer's head, and in the middle of a stream."""
    async with rig(Engine("a", script), Engine("b", script)) as house:
        await house.ask(post())
        others = len(house.worker.clients)
        gc.collect()
        gc.disable()
        try:
            for number in range(ROUNDS):
                calls = sum(len(engine.calls) for engine in house.engines)
                client = await house.client()
                await client.send(post(b'{"model":"m","x":"half"}' if number % 2 else b'{"model":"m","x":"wait"}'))
                await until(lambda: sum(len(engine.calls) for engine in house.engines) > calls)  # noqa: B023
                client.close()
            await until(lambda: len(house.worker.clients) <= others)
            assert ours_among_garbage() == {}
        finally:
            gc.enable()
