"""The WebSocket of the simulated engine, spoken to with a library for the frames."""

import asyncio
import json

import pytest
from wsproto import ConnectionType, WSConnection, events

from tests.e2e.engines import SimFactory
from tests.sim import raw


class Client:
    """A WebSocket client on a plain connection."""

    def __init__(self, line: raw.Line) -> None:
        self.line = line
        self.frames = WSConnection(ConnectionType.CLIENT)
        self.seen: list[events.Event] = []

    async def send(self, event: events.Event) -> None:
        """Send one event."""
        await self.line.send(self.frames.send(event))

    async def next(self) -> events.Event:
        """The next event from the engine."""
        while not self.seen:
            data = await asyncio.wait_for(self.line.reader.read(65536), raw.WAIT)
            self.frames.receive_data(data or None)
            self.seen += self.frames.events()
        return self.seen.pop(0)

    async def message(self) -> str | bytes:
        """The next whole message."""
        data = None
        while True:
            event = await self.next()
            assert isinstance(event, events.Message), event
            data = event.data if data is None else data + event.data
            if event.message_finished:
                return data


async def test_a_session_begins_with_who_answers_and_every_message_comes_back(sim_engine: SimFactory) -> None:
    sim = sim_engine(name="voice")
    async with raw.line(sim.port) as line:
        client = Client(line)
        await client.send(events.Request(host="sim", target="/v1/realtime?model=m%2Fx"))
        accepted = await client.next()
        assert isinstance(accepted, events.AcceptConnection)
        assert (b"x-sim-name", b"voice") in accepted.extra_headers
        session = json.loads(await client.message())["session"]
        assert (session["engine"], session["model"]) == ("voice", "m/x")
        for message in ('{"type":"session.update","é":1}', "x" * 300_000):
            await client.send(events.TextMessage(message))
            assert await client.message() == message
        await client.send(events.BytesMessage(b"\x00\xff" * 1000))
        assert await client.message() == b"\x00\xff" * 1000
        await client.send(events.TextMessage("in two ", message_finished=False))
        await client.send(events.TextMessage("frames"))
        assert await client.message() == "in two frames"


async def test_pings_and_closes_are_answered(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    async with raw.line(sim.port) as line:
        client = Client(line)
        await client.send(events.Request(host="sim", target="/v1/realtime"))
        await client.next()
        await client.message()
        await client.send(events.Ping(b"still there?"))
        assert await client.next() == events.Pong(b"still there?")
        await client.send(events.CloseConnection(1000, "bye"))
        assert isinstance(await client.next(), events.CloseConnection)
    await sim.until(lambda stats: stats["connections_open"] == 1)


async def test_a_message_sent_together_with_the_handshake_is_not_lost(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    async with raw.line(sim.port) as line:
        frame = bytes([0x81, 0x82, 0, 0, 0, 0]) + b"hi"  # a text frame, masked with zeros
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key)
        await line.send(raw.request("GET", "/v1/realtime", None, *upgrade) + frame)
        assert (await line.reply()).headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert b"session.created" in await line.until(b"}}")
        assert await line.until(b"hi") == b"\x81\x02hi"


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/chat/completions"])
async def test_an_upgrade_that_is_no_handshake_is_refused(sim_engine: SimFactory, path: str) -> None:
    sim = sim_engine()
    sent = raw.request("GET", path, None, "Connection: Upgrade", "Upgrade: websocket")
    assert (await raw.exchange(sim.port, sent)).startswith(b"HTTP/1.1 400 ")


async def test_a_key_is_required_for_a_session_too(sim_engine: SimFactory) -> None:
    sim = sim_engine(api_key="secret")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key)
    assert (await raw.exchange(sim.port, raw.request("GET", "/v1/realtime", None, *upgrade))).startswith(
        b"HTTP/1.1 401 "
    )
    async with raw.line(sim.port) as line:
        await line.send(raw.request("GET", "/v1/realtime", None, *upgrade, "Authorization: Bearer secret"))
        assert (await line.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
