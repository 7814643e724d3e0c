"""What the fuzzer found, each in its smallest form: bytes that nobody should send, and what came of them."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.data.rig import Call, Engine, post, rig, until
from tests.data.test_websocket import echo, exactly, frame, handshake
from tests.data.world import ERROR, LAST, REQUESTS, SSE, WORD, World, chunk, settled

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: house\r\nConnection: %b\r\n\r\n"


async def test_nothing_is_written_behind_a_last_answer_although_what_followed_its_request_was_nonsense(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal of the nonsense was written after the connection had been closed for writing: a bug, told as such."""
    go = asyncio.Event()

    async def later(call: Call) -> None:
        await go.wait()
        await call.answer()

    async with rig(Engine("a", later)) as house:
        client = await house.client()
        await client.send(post() + LIVEZ % b"close" + b"nonsense\r\n\r\n")
        go.set()
        assert (await client.answer()).body == b'{"ok":true}'
        assert (await client.answer()).body == b"ok\n"
        assert await client.closed() == b""
    assert (capsys.readouterr().err, caplog.text) == ("", "")


def test_a_bug_while_a_bug_is_told_costs_the_connection_and_not_the_worker(capsys: pytest.CaptureFixture[str]) -> None:
    """It ended the task that looks at deadlines and beats, and the watchdog killed the worker with all its requests."""

    async def story() -> None:
        world = World(random.Random(1))
        world._come()
        await settled()
        wire = world.clients[0]
        wire.write = wire.refuse  # type: ignore[method-assign]
        wire.protocol.data_received(LIVEZ % b"keep-alive")
        assert wire.closed
        await settled()
        assert not world.worker.clients

    asyncio.run(story())
    assert "a bug" in capsys.readouterr().err


def test_a_stream_older_than_the_first_byte_timeout_is_gone_on_with_however_long_the_next_engine_takes() -> None:
    """The next engine's time for its first byte was counted from when the request was sent to the first one."""

    async def story() -> bytes:
        world = World(random.Random(1), 2, first_byte_timeout=60.0)
        world._come()
        world.clients[0].protocol.data_received(REQUESTS["asks for a stream"])
        await world.connected()
        first = world.engines[0].protocol
        first.data_received(SSE + chunk(WORD))
        for _ in range(100):
            world._pass(10.0)
            first.data_received(chunk(WORD))
        world.engines[0].lose(ConnectionResetError())
        await settled()
        await world.connected()
        for _ in range(5):
            world._pass(5.0)
            await settled()
        world.engines[1].protocol.data_received(SSE + chunk(WORD) + chunk(LAST) + b"0\r\n\r\n")
        told = bytes(world.clients[0].written)
        world.leave()
        await settled()
        return told

    told = asyncio.run(story())
    assert told.count(b'"word "') == 102
    assert told.endswith(b"0\r\n\r\n")
    assert b"[DONE]" in told


@pytest.mark.parametrize("missing", [0, 1, 40, 400])
async def test_a_stream_with_a_length_that_breaks_gets_nothing_added_to_it(missing: int) -> None:
    """The error event, or the end that was missing, went into a body of a given length: what was too long for it looked
    like the next answer, and what fitted in made a broken stream look whole."""
    body, go = WORD * 3 + LAST, asyncio.Event()

    async def short(call: Call) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body)
        await call.send(head + WORD)
        await go.wait()
        if missing:
            await call.send(body[len(WORD) : -missing])
            call.close()
        else:
            await call.send(body[len(WORD) :] + b"too much")
            await call.gone()

    async with rig(Engine("a", short, continues=True), Engine("b", short, continues=True)) as house:
        client = await house.client()
        await client.send(post(b'{"model":"m","stream":true,"messages":[]}'))
        head = await client.read_head()
        assert b"content-length: %d\r\n" % len(body) in head
        told = await client.reader.readexactly(len(WORD))
        go.set()
        told += await client.closed()
        assert body.startswith(told)
        assert len(told) < len(body)


def test_a_whole_answer_that_does_not_go_on_with_a_stream_ends_its_attempt_once() -> None:
    """Its head ended the attempt and its body did so again, when another attempt was under way: a slot was lost."""
    no = ERROR % b"400 Bad Request"

    async def story() -> tuple[World, bytes]:
        world = World(random.Random(1), 3)
        world._come()
        client = world.clients[0]
        for _ in range(3):  # so often that its head is known, and no parser is asked again
            client.protocol.data_received(REQUESTS["asks"])
            await world.connected()
            next(wire for wire in world.engines if wire.protocol.holder).protocol.data_received(no)
        client.written.clear()
        client.protocol.data_received(REQUESTS["asks for a stream"])
        await world.connected()
        for said in (SSE + chunk(WORD), no, SSE + chunk(WORD) + chunk(LAST) + b"0\r\n\r\n"):
            engine = next(wire for wire in world.engines if wire.protocol.holder and not wire.closed)
            engine.protocol.data_received(said)
            if said.startswith(SSE) and not said.endswith(b"0\r\n\r\n"):
                engine.lose(ConnectionResetError())
            await settled()
            world.check()
            await world.connected()
        world.leave()
        await settled()
        return world, bytes(client.written)

    world, told = asyncio.run(story())
    assert told.count(b'"word "') == 2
    assert told.endswith(b"0\r\n\r\n")
    assert world.load() == 0


@pytest.mark.parametrize("status", [b"000", b"001", b"099"])
async def test_an_answer_with_a_status_that_is_none_is_a_bad_response(
    status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """llhttp takes three digits for a status, whichever they are: a bug was logged."""

    async def odd(call: Call) -> None:
        await call.answer(status=status + b" OK")

    async with rig(Engine("a", odd)) as house:
        answer = await house.ask(post())
        assert answer.status == 502
        assert b"its status is " + status in answer.body
    assert caplog.text == ""


async def test_garbage_behind_a_head_that_ended_its_attempt_ends_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A second end of the attempt met a request that waited in the line: a bug was logged."""
    free = asyncio.Event()

    async def refuses(call: Call) -> None:
        await call.send(b"HTTP/1.1 426 Upgrade Required\r\ntransfer-encoding: chunked\r\n\r\nno chunk\r\n")

    async def works(call: Call) -> None:
        if b"websocket" in call.head.lower():
            await echo(call)
        else:
            await free.wait()
            await call.answer()

    engines = Engine("a", refuses, models=("m",)), Engine("b", works, models=("m", "other"))
    async with rig(*engines, service_capacity=1) as house:
        busy = asyncio.ensure_future(house.ask(post(b'{"model":"other"}')))
        await until(lambda: bool(house.engines[1].calls))
        client = await house.client()
        await client.send(handshake("/v1/realtime"))
        await client.read_head()
        first = frame({"type": "session.update", "session": {"model": "m"}})
        await client.send(first)
        await until(lambda: bool(house.engines[0].calls) and bool(house.worker.room.waiting))
        free.set()
        await exactly(client, b"b:" + first)
        assert (await busy).status == 200
    assert caplog.text == ""
