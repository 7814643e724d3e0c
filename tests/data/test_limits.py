"""Deadlines and bounds: three for an engine's times, more for what clients may send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import msgspec

from enginehouse.core.fleet import Fleet
from tests.data.rig import Call, Engine, post, rig, service_of

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


async def plain(call: Call) -> None:
    await call.answer()


async def silent(call: Call) -> None:
    await call.gone()


async def test_an_engine_that_sends_nothing_is_a_504_and_its_connection_is_closed() -> None:
    engine = Engine("a", silent)
    async with rig(engine, Engine("b", silent), first_byte_timeout=0.1) as house:
        answer = await house.ask(post())
        assert answer.status == 504
        assert json.loads(answer.body)["error"]["code"] == "gateway_timeout"
        assert answer.header("x-enginehouse-attempts") == "1"
        await asyncio.wait_for(engine.all_closed.wait(), 5)


async def test_a_connection_that_is_not_accepted_in_time_goes_to_another_service() -> None:
    # With a full accept queue the kernel leaves a connection unanswered.
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    waiting = []
    for _ in range(3):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(full.getsockname())
        waiting.append(sock)
    hang = Engine("hang", plain)
    async with rig(hang, Engine("b", plain), connect_timeout=0.2) as house:
        services = [service_of(e, n) for n, e in enumerate(house.engines)]
        services[0] = msgspec.structs.replace(services[0], port=full.getsockname()[1])
        house.worker.use_fleet(Fleet(version=2, synced=True, services=tuple(services)))
        answers = [await house.ask(post()) for _ in range(2)]
        assert [a.header("x-enginehouse-service") for a in answers] == ["b", "b"]
        assert max(a.header("x-enginehouse-attempts") or "" for a in answers) == "2"
    for sock in (*waiting, full):
        sock.close()


async def test_silence_within_a_stream_ends_it_with_an_error_event() -> None:
    async def script(call: Call) -> None:
        await call.send(SSE + b"b\r\ndata: {}\n\n\n\r\n")
        await call.gone()

    engine = Engine("a", script)
    async with rig(engine, idle_timeout=0.1) as house:
        answer = await house.ask(post())
        assert b'"finish_reason":"error"' in answer.body
        assert b"gateway_timeout" in answer.body
        await asyncio.wait_for(engine.all_closed.wait(), 5)


async def test_a_long_stream_that_keeps_talking_is_never_cut() -> None:
    """Defect: A total timeout cuts long streams."""

    async def script(call: Call) -> None:
        await call.send(SSE)
        for _ in range(30):
            await call.send(b"a\r\ndata: {}\n\n\r\n")
            await asyncio.sleep(0.02)
        await call.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    async with rig(Engine("a", script), idle_timeout=0.3, first_byte_timeout=0.3) as house:
        answer = await house.ask(post())
        assert answer.body.count(b"{}") == 30
        assert answer.body.endswith(b"[DONE]\n\n")


async def test_a_client_that_is_slow_with_its_head_is_cut() -> None:
    async with rig(Engine("a", plain), head_timeout=0.1) as house:
        client = await house.client()
        await client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n")
        answer = await client.answer()
        assert answer.status == 408
        assert await client.closed() == b""


async def test_a_client_that_trickles_its_head_is_cut_all_the_same() -> None:
    async with rig(Engine("a", plain), head_timeout=0.15) as house:
        client = await house.client()
        answer = asyncio.create_task(client.answer())
        number = 0
        while not answer.done():
            with contextlib.suppress(ConnectionError):
                await client.send(b"X-A%d: 1\r\n" % number if number else b"GET / HTTP/1.1\r\n")
            number += 1
            await asyncio.wait([answer], timeout=0.01)
        assert answer.result().status == 408


async def test_a_client_that_is_slow_with_its_body_is_cut() -> None:
    async with rig(Engine("a", plain), body_timeout=0.1) as house:
        client = await house.client()
        await client.send(post()[:-3])
        assert (await client.answer()).status == 408


async def test_an_idle_client_connection_is_closed_after_a_while() -> None:
    async with rig(Engine("a", plain), keepalive_timeout=0.1) as house:
        client = await house.client()
        await client.send(post())
        assert (await client.answer()).status == 200
        assert await client.closed() == b""


async def test_idle_engine_connections_are_closed_before_the_engine_does() -> None:
    engine = Engine("a", plain)
    async with rig(engine, engine_keepalive_timeout=0.05) as house:
        await house.ask(post())
        await asyncio.wait_for(engine.all_closed.wait(), 5)
        assert house.worker.pool.idle_count() == 0


async def test_a_body_larger_than_the_limit_is_413_before_it_is_read() -> None:
    """Defect: No body limit."""
    async with rig(Engine("a", plain), max_body=2000) as house:
        client = await house.client()
        await client.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nContent-Length: 999999999\r\n\r\n{")
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (413, "request_too_large")
        assert answer.header("connection") == "close"


async def test_a_chunked_body_larger_than_the_limit_is_413_too() -> None:
    async with rig(Engine("a", plain), max_body=2000) as house:
        client = await house.client()
        await client.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.send(b"1000\r\n" + b"a" * 4096 + b"\r\n")
        assert (await client.answer()).status == 413


async def test_bodies_of_all_clients_together_have_a_budget() -> None:
    async with rig(Engine("a", plain), body_budget=3000, max_body=2000) as house:
        holder = await house.client()
        await holder.send(post(b" " * 1990)[:-10])
        refused = await house.client()
        await asyncio.sleep(0.05)
        await refused.send(post(b" " * 1500))
        answer = await refused.answer()
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        await holder.send(b" " * 10)
        assert (await holder.answer()).status == 400


async def test_a_head_larger_than_the_limit_is_431() -> None:
    async with rig(Engine("a", plain), max_head=2048) as house:
        for request in (
            b"GET /v1/x HTTP/1.1\r\nHost: h\r\n" + b"X-A: 1\r\n" * 1000 + b"\r\n",
            b"GET /v1/x HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 5000,
            b"GET /" + b"a" * 5000,
        ):
            client = await house.client()
            await client.send(request)
            answer = await client.answer()
            assert (answer.status, json.loads(answer.body)["error"]["code"]) == (431, "head_too_large")


async def test_one_connection_too_many_is_told_so() -> None:
    async with rig(Engine("a", plain), max_connections=2) as house:
        for _ in range(2):
            client = await house.client()
            await client.send(post())
            assert (await client.answer()).status == 200
        client = await house.client()
        answer = await client.answer()
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        assert await client.closed() == b""


async def test_too_many_pipelined_requests_are_a_400_behind_the_answers() -> None:
    async with rig(Engine("a", plain)) as house:
        client = await house.client()
        await client.send(post() * 150)
        statuses: list[int] = []
        while not statuses or statuses[-1] == 200:
            statuses.append((await client.answer()).status)
        assert statuses == [200] * 101 + [400]
