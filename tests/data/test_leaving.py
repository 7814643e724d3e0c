"""Clients that leave, and clients that do not read."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.data.rig import Call, Client, Engine, post, rig, until

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


async def silent(call: Call) -> None:
    await call.gone()


async def streaming(call: Call) -> None:
    await call.send(SSE + b"a\r\ndata: {}\n\n\r\n")
    await call.gone()


@pytest.mark.parametrize("script", [silent, streaming], ids=["not streaming", "streaming"])
@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
async def test_a_client_that_leaves_closes_the_engines_connection_at_once_and_blames_nobody(
    script: object, how: str
) -> None:
    """Defect: An abandoned request runs on in the engine.

    Defect: A client that leaves a stream marks the service unhealthy.
    """
    engine = Engine("a", script)  # type: ignore[arg-type]
    async with rig(engine, sweep=5.0, max_errors=1) as house:
        client = await house.client()
        await client.send(post())
        if script is streaming:
            await client.read_head()
        await until(lambda: engine.calls)
        left = time.monotonic()
        if how == "half-close":
            client.writer.write_eof()
        elif how == "close":
            client.close()
        else:
            client.writer.transport.abort()
        await asyncio.wait_for(engine.all_closed.wait(), 5)
        assert time.monotonic() - left < 1  # 50 ms on an idle machine: an event, not the sweep every 5 s here
        await house.idle()
        report = house.worker.counters.report(1, 1)
        assert [(c.requests, c.errors) for c in report.counts] == [(1, 0)]
        assert report.failures == ()
        assert house.shared.ejected_until[0] == 0


async def test_a_client_that_leaves_while_the_connection_is_being_made_leaves_no_load() -> None:
    engine = Engine("a", silent)
    async with rig(engine) as house:
        for _ in range(20):
            client = await house.client()
            await client.send(post())
            client.writer.transport.abort()
        await until(lambda: not house.worker.clients)
        assert house.load() == 0


async def test_a_reader_that_stalls_holds_the_engine_back_and_costs_the_router_little_memory() -> None:
    """Back-pressure: what the engine can send stands still; resumed, every byte arrives."""
    sent = 0
    size, count = 65536, 1600  # 100 MB

    async def script(call: Call) -> None:
        nonlocal sent
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (size * count))
        for _ in range(count):
            await call.send(b"x" * size)
            sent += size

    async with rig(Engine("a", script)) as house:
        client = Client(*await asyncio.open_connection("127.0.0.1", house.port, limit=65536))
        await client.send(post())
        await client.read_head()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < size * count
        (conn,) = house.worker.clients
        assert conn.transport.get_write_buffer_size() < 1024 * 1024
        received = 0
        while received < size * count:
            received += len(await client.reader.read(1 << 20))
        assert received == size * count
        client.close()


async def test_a_client_that_reads_nothing_for_too_long_is_cut() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while True:
            await call.send(b"x" * 65536)

    engine = Engine("a", script)
    async with rig(engine, send_timeout=0.2) as house:
        client = await house.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(post())
        await until(lambda: engine.calls)
        await asyncio.wait_for(engine.all_closed.wait(), 10)
        assert [c.errors for c in house.worker.counters.report(1, 1).counts] == [0]
