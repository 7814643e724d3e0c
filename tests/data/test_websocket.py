"""WebSockets: tunnelled untouched, routed by `?model=` or by their first event."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json

from wsproto.frame_protocol import FrameProtocol, Opcode

from tests.data.rig import Call, Client, Engine, rig

KEY = base64.b64encode(b"0123456789abcdef")
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


def handshake(target: str, extra: bytes = b"") -> bytes:
    return (
        b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: %b\r\n%b\r\n" % (target.encode(), KEY, extra)
    )


def frame(data: object) -> bytes:
    """A client's text frame."""
    return bytes(FrameProtocol(client=True, extensions=[]).send_data(json.dumps(data), fin=True))


async def echo(call: Call) -> None:
    """Accepts, then sends back whatever bytes come."""
    await call.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % ACCEPT
    )
    while data := await call.reader.read(65536):
        await call.send(call.engine.name.encode() + b":" + data)


async def refuse(call: Call) -> None:
    await call.answer(b"no", status=b"426 Upgrade Required")


async def exactly(client: Client, data: bytes) -> None:
    assert await asyncio.wait_for(client.reader.readexactly(len(data)), 5) == data


async def test_a_websocket_is_tunnelled_in_both_directions_to_the_service_of_its_model() -> None:
    """Trap: upgrade only GET + websocket."""
    engines = Engine("a", echo, models=("m-a",)), Engine("b", echo, models=("m-b",))
    async with rig(*engines) as house:
        client = await house.client()
        await client.send(handshake("/v1/realtime?model=m-b") + b"early")
        head = await client.read_head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert ACCEPT in head
        await exactly(client, b"b:early")
        await client.send(b"\x81\x00")
        await exactly(client, b"b:\x81\x00")
        assert house.load() == 1
    assert engines[1].calls[0].header(b"upgrade") == [b"websocket"]


async def test_the_first_event_names_the_model_and_reaches_the_service_untouched() -> None:
    engines = Engine("a", echo, models=("m-a",)), Engine("b", echo, models=("m-b",))
    async with rig(*engines) as house:
        client = await house.client()
        offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: realtime, x\r\n"
        await client.send(handshake("/v1/realtime", offer))
        head = await client.read_head()
        assert b"101" in head
        assert ACCEPT in head
        assert b"sec-websocket-protocol: realtime\r\n" in head
        assert b"deflate" not in head
        event = frame({"type": "session.update", "session": {"model": "m-b"}})
        for at in range(len(event)):
            await client.send(event[at : at + 1])
        await exactly(client, b"b:" + event)
        await client.send(b"more")
        await exactly(client, b"b:more")
    assert engines[1].calls[0].header(b"sec-websocket-extensions") == []


async def test_a_first_event_with_an_unknown_model_closes_the_websocket_with_a_reason() -> None:
    async with rig(Engine("a", echo)) as house:
        client = await house.client()
        await client.send(handshake("/v1/realtime"))
        await client.read_head()
        await client.send(frame({"type": "session.update", "session": {"model": "nobody"}}))
        frames = FrameProtocol(client=True, extensions=[])
        frames.receive_bytes(await client.closed())
        (closing,) = list(frames.received_frames())
        assert closing.opcode is Opcode.CLOSE
        assert "nobody" in str(closing.payload)


async def test_a_service_that_refuses_the_handshake_closes_an_accepted_websocket_with_a_reason() -> None:
    async with rig(Engine("a", refuse)) as house:
        client = await house.client()
        await client.send(handshake("/v1/realtime"))
        await client.read_head()
        await client.send(frame({"type": "session.update", "session": {"model": "m"}}))
        assert b"WebSocket" in await client.closed()


async def test_another_service_is_asked_where_one_refuses_the_handshake_of_an_accepted_websocket() -> None:
    async with rig(Engine("a", refuse), Engine("b", echo), max_errors=1) as house:
        while not house.engines[0].calls:
            client = await house.client()
            await client.send(handshake("/v1/realtime"))
            await client.read_head()
            first = frame({"type": "session.update", "session": {"model": "m"}})
            await client.send(first)
            await exactly(client, b"b:" + first)
            client.close()
        assert house.shared.ejected_until[0] == 0
        assert sum(count.errors for count in house.worker.counters.report(1, 1).counts) == 0


async def test_a_service_that_refuses_a_handshake_has_its_answer_passed_on() -> None:
    async with rig(Engine("a", refuse)) as house:
        client = await house.client()
        await client.send(handshake("/v1/realtime?model=m"))
        answer = await client.answer("GET")
        assert answer.status == 426


async def test_garbage_instead_of_frames_closes_the_websocket() -> None:
    async with rig(Engine("a", echo)) as house:
        client = await house.client()
        await client.send(handshake("/v1/realtime") + b"\xff" * 100)
        await client.read_head()
        assert (await client.closed())[:1] == b"\x88"


async def test_either_end_that_closes_closes_the_other() -> None:
    async def hang_up(call: Call) -> None:
        await call.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbye")
        call.close()

    engines = Engine("a", echo, models=("m-a",)), Engine("b", hang_up, models=("m-b",))
    async with rig(*engines) as house:
        client = await house.client()
        await client.send(handshake("/v1/realtime?model=m-b"))
        assert (await client.read_head()).startswith(b"HTTP/1.1 101")
        assert await client.closed() == b"bye"
        other = await house.client()
        await other.send(handshake("/v1/realtime?model=m-a"))
        await other.read_head()
        other.close()
        await asyncio.wait_for(engines[0].all_closed.wait(), 5)


async def test_a_silent_tunnel_ends_after_the_idle_timeout() -> None:
    async with rig(Engine("a", echo), idle_timeout=0.1) as house:
        client = await house.client()
        await client.send(handshake("/v1/realtime?model=m"))
        await client.read_head()
        assert await client.closed() == b""


async def test_each_side_of_a_tunnel_holds_the_other_back() -> None:
    sent = 0

    async def flood(call: Call) -> None:
        nonlocal sent
        await call.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        for _ in range(800):
            await call.send(b"x" * 65536)
            sent += 65536

    async with rig(Engine("a", flood)) as house:
        client = Client(*await asyncio.open_connection("127.0.0.1", house.port, limit=65536))
        await client.send(handshake("/v1/realtime?model=m"))
        await client.read_head()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 800 * 65536
        (conn,) = house.worker.clients
        assert conn.transport.get_write_buffer_size() < 1024 * 1024
        client.close()
