"""WebSockets have one line in the access log each, when they are over, whoever ended them and however early."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.data.rig import Answer, Call
from tests.data.test_logged_requests import logged, sent, shown
from tests.data.test_websocket import echo, frame, handshake, refuse


@pytest.mark.parametrize("who", ["client", "engine"])
async def test_a_websocket_has_its_line_when_it_is_closed(who: str, tmp_path: Path) -> None:
    async def greets(call: Call) -> None:
        await echo_head(call)
        if who == "engine":
            call.close()
        else:
            await call.gone()

    async with logged(tmp_path, greets) as log:
        client = await sent(log, handshake("/v1/realtime?model=m", b"X-Request-Id: mine\r\n"))
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        if who == "engine":
            await client.closed()
        else:
            assert not log.lines()
            client.close()
        expected = {"id": "mine", "status": 101, "outcome": "client_left" if who == "client" else "answered",
                    "attempts": 1, "service": "a", "model": "m", "path": "/v1/realtime"}  # fmt: skip
        assert shown(await log.line(), expected) == expected


async def echo_head(call: Call) -> None:
    head = asyncio.StreamReader()
    head.feed_eof()
    reader, call.reader = call.reader, head
    await echo(call)
    call.reader = reader


async def test_a_websocket_that_an_engine_refuses(tmp_path: Path) -> None:
    async with logged(tmp_path, refuse) as log:
        answer = await (await sent(log, handshake("/v1/realtime?model=m"))).answer()
        line = await log.line()
        assert (line["status"], line["outcome"], line["bytes_out"]) == (426, "answered", len(answer.body))


async def test_a_websocket_whose_first_event_names_the_model_is_logged_with_the_id_that_the_client_was_told(
    tmp_path: Path,
) -> None:
    async with logged(tmp_path, echo) as log:
        client = await sent(log, handshake("/v1/realtime"))
        told = Answer(await client.read_head(), b"").header("x-request-id")
        event = frame({"type": "session.update", "session": {"model": "m"}})
        await client.send(event)
        await client.reader.readexactly(len(b"a:" + event))
        client.close()
        line = await log.line()
        assert (line["id"], line["status"], line["service"], line["model"]) == (told, 101, "a", "m")
        assert log.house.engines[0].calls[0].header(b"x-request-id") == [str(told).encode()]


WITHOUT_MODEL = {
    "the client leaves": (b"", "client_left"),
    "nothing comes in time": (b"", "client_too_slow"),
    "no JSON comes": (b"\x81\x81\0\0\0\0x", "bad_json"),
}


@pytest.mark.parametrize("name", WITHOUT_MODEL)
async def test_a_websocket_that_never_names_a_model_is_logged_too(name: str, tmp_path: Path) -> None:
    early, outcome = WITHOUT_MODEL[name]
    async with logged(tmp_path, echo, head_timeout=0.2 if outcome == "client_too_slow" else 10.0) as log:
        client = await sent(log, handshake("/v1/realtime", b"X-Request-Id: mine\r\n") + early)
        await client.read_head()
        if outcome == "client_left":
            client.close()
        else:
            await client.closed()
        expected = {"id": "mine", "status": 101, "outcome": outcome, "attempts": 0, "service": ""}
        assert shown(await log.line(), expected) == expected
