"""Heads that repeat and chunks passed on as they are: nothing that a client or an engine could see is different."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import cast

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.micro.dry import Dry, services
from enginehouse.data.client_conn import MAX_PIPELINED, ClientConn
from enginehouse.data.engine_conn import EngineConn
from tests.data.answer_streams import Kept, chunked, cut, reads_of
from tests.data.rig import Call, Client, Engine, Rig, post, rig, until

MB = 1024 * 1024


async def plain(call: Call) -> None:
    await call.answer()


async def echo(call: Call) -> None:
    """Tells what it got."""
    await call.answer(call.body, extra=b"x-key: %b\r\n" % b",".join(call.header(b"authorization")))


# heads that repeat


async def test_clients_with_keys_of_their_own_are_never_answered_with_anothers() -> None:
    engine = Engine("a", echo)
    async with rig(engine) as house:
        clients = [(await house.client(), b"Bearer sk-%d" % number) for number in range(4)]
        for turn in range(4):
            for client, key in clients:
                await client.send(post(b'{"model":"m","n":%d}' % turn, extra=b"Authorization: %b\r\n" % key))
            for client, key in clients:
                answer = await client.answer()
                assert (answer.header("x-key"), answer.body) == (key.decode(), b'{"model":"m","n":%d}' % turn)
        assert len(house.worker.known_heads) == len(clients)
    sent = [call.header(b"authorization") for call in engine.calls]
    assert sorted(sent) == sorted([[key] for _, key in clients] * 4)


async def test_a_key_of_the_services_own_replaces_that_of_every_client() -> None:
    engine = Engine("a", echo, api_key="sk-engine")
    async with rig(engine) as house:
        for _ in range(4):
            answer = await house.ask(post(extra=b"Authorization: Bearer sk-client\r\n"))
            assert answer.header("x-key") == "Bearer sk-engine"


async def client_at(house: Rig, address: str) -> Client:
    """A client with an address of its own."""
    return Client(*await asyncio.open_connection("127.0.0.1", house.port, local_addr=(address, 0)))


async def test_the_same_head_from_other_addresses_is_forwarded_for_each_of_them() -> None:
    engine = Engine("a", plain)
    async with rig(engine, trusted_proxies=("127.0.0.9/32",)) as house:
        spoofed = post(extra=b"X-Forwarded-For: 192.0.2.7\r\n")
        for request, at, forwarded in [
            (post(), "127.0.0.2", b"127.0.0.2"),
            (post(), "127.0.0.3", b"127.0.0.3"),
            (spoofed, "127.0.0.2", b"127.0.0.2"),
            (spoofed, "127.0.0.3", b"127.0.0.3"),
            (spoofed, "127.0.0.9", b"192.0.2.7, 127.0.0.9"),
        ] * 3:
            client = await client_at(house, at)
            await client.send(request)
            assert (await client.answer()).status == 200
            assert engine.calls[-1].header(b"x-forwarded-for") == [forwarded]
            client.close()


async def test_requests_and_answers_with_one_head_keep_their_own_lengths() -> None:
    engine = Engine("a", echo)
    async with rig(engine) as house:
        client = await house.client()
        for size in (5, 6, 5, 4, 60_000, 300_000, 1, 0, 6):
            body = b'{"model":"m"}' + b" " * size
            await client.send(post(body))
            answer = await client.answer()
            assert (answer.body, answer.header("content-length")) == (body, str(len(body)))
            assert engine.calls[-1].header(b"content-length") == [b"%d" % len(body)]


async def test_a_post_without_a_body_says_so_and_a_get_without_one_says_nothing() -> None:
    """RFC 9110 8.6."""
    engine = Engine("a", plain)
    async with rig(engine) as house:
        for request, length in [
            (b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", [b"0"]),
            (b"POST /v1/x HTTP/1.1\r\nHost: h\r\n\r\n", [b"0"]),
            (b"GET /v1/x HTTP/1.1\r\nHost: h\r\n\r\n", []),
        ] * 3:
            assert (await house.ask(request)).status == 200
            assert engine.calls[-1].header(b"content-length") == length


async def test_an_engines_error_is_put_into_shape_however_well_its_head_is_known() -> None:
    async def script(call: Call) -> None:
        await call.answer(b"what?", b"400 Bad Request")

    async with rig(Engine("a", script)) as house:
        bodies = [(await house.ask(post())).body for _ in range(4)]
        assert bodies == [bodies[0]] * 4
        assert b'"type":"invalid_request_error"' in bodies[0]


async def test_an_engine_that_is_busy_is_passed_over_however_well_its_head_is_known() -> None:
    async def busy(call: Call) -> None:
        await call.answer(b"{}", b"503 Service Unavailable", b"Retry-After: 0\r\n")

    async with rig(Engine("a", busy), Engine("b", plain)) as house:
        assert [(await house.ask(post())).status for _ in range(8)] == [200] * 8
        assert len(house.engines[0].calls) >= 3


async def test_a_request_whose_head_repeats_has_an_id_of_its_own() -> None:
    engine = Engine("a", plain)
    async with rig(engine) as house:
        told = [(await house.ask(post())).header("x-request-id") for _ in range(5)]
        assert len(set(told)) == 5
    assert [call.header(b"x-request-id") for call in engine.calls] == [[str(id).encode()] for id in told]


@pytest.mark.parametrize("before", [0, 3])
async def test_limits_of_bodies_hold_however_well_the_head_is_known(before: int) -> None:
    go = asyncio.Event()

    async def waits(call: Call) -> None:
        await go.wait()
        await call.answer()

    async with rig(Engine("a", waits), max_body=40_000, body_budget=50_000) as house:
        go.set()
        for _ in range(before):
            await house.ask(post())
        go.clear()
        assert (await house.ask(post(b" " * 40_001))).status == 413
        first, second, third = [await house.client() for _ in range(3)]
        body = b'{"model":"m"}'
        await first.send(post(body.ljust(40_000)))
        await until(lambda: house.worker.bodies_held == 40_000)
        await second.send(post(body.ljust(10_001)))
        assert (await second.answer()).status == 503
        await third.send(post(body.ljust(10_000)))
        await until(lambda: house.worker.bodies_held == 50_000)
        go.set()
        assert [(await client.answer()).status for client in (first, third)] == [200, 200]
        await until(lambda: not house.worker.bodies_held)


async def test_connections_at_rest_hold_no_bodies() -> None:
    """What is given back to the budget is given back to the system, too."""
    body = b'{"model":"m"}'.ljust(MB)
    engine = Engine("a", plain)
    async with rig(engine) as house:
        tracemalloc.start()
        try:
            clients = [await house.client() for _ in range(16)]
            for turn in range(2):
                for client in clients:
                    await client.send(post(body, extra=b"X: %d\r\n" % turn))
                    assert (await client.answer()).status == 200
            engine.calls.clear()
            gc.collect()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(house.worker.clients) == 16
    assert held < 8 * MB


# what is not read


@pytest.mark.parametrize("behind", [b"", b"junk\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"])
@pytest.mark.parametrize("path", ["/livez", "/sleep", "/v1/chat/completions"])
async def test_nothing_is_read_behind_the_last_request_of_a_connection(path: str, behind: bytes) -> None:
    """Not even to refuse it: its answer was promised to be the last one."""
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    method = b"POST" if path.startswith("/v1") else b"GET"
    body = b"{}" if path.startswith("/v1") else b""
    head = b"%b %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    async with rig(Engine("a", plain)) as house:
        for _ in range(3):
            client = await house.client()
            await client.send(head % (method, path.encode(), len(body)) + body + behind)
            answer = await client.answer()
            assert answer.status == (403 if path == "/sleep" else 200)
            assert answer.header("connection") == "close"
            assert await client.closed() == b""
    assert failed == []


async def test_a_request_behind_too_many_is_not_answered_though_its_head_is_known() -> None:
    """The connection was told that it sent too much; it is over behind that."""
    go = asyncio.Event()

    async def waits(call: Call) -> None:
        await go.wait()
        await call.answer()

    quick = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"
    async with rig(Engine("a", waits)) as house:
        for _ in range(3):
            await house.ask(quick, "GET")
        client = await house.client()
        await client.send(post() + quick * (MAX_PIPELINED + 1))
        await until(lambda: house.engines[0].calls)
        await client.send(quick)
        (conn,) = [conn for conn in house.worker.clients if conn.driver is not None]
        await until(lambda: conn._pending)
        go.set()
        statuses = [(await client.answer()).status for _ in range(MAX_PIPELINED + 2)]
        assert statuses == [200] * (MAX_PIPELINED + 1) + [400]
        assert await client.closed() == b""


@pytest.mark.parametrize("head", [b"", b"Content-Length: 0\r\n", b"Upgrade: x\r\n", b"Connection: Upgrade\r\n"])
async def test_an_engine_that_says_101_and_does_not_switch_is_told_of_at_once(head: bytes) -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % head)
        await call.gone()

    async with rig(Engine("a", script)) as house:
        answer = await asyncio.wait_for(house.ask(post()), 10)
        assert (answer.status, b"101" in answer.body or b"switched" in answer.body) == (502, True)


async def test_an_error_in_another_shape_keeps_no_trailers() -> None:
    """RFC 9110 6.5.1; it gets a head of ours made from the engine's."""

    async def script(call: Call) -> None:
        head = (
            b"HTTP/1.1 400 Bad Request\r\nX-Engine: 1\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await call.send(head + b"5\r\nwhat?\r\n0\r\nX-Trailer: 1\r\nSet-Cookie: a\r\n\r\n")

    async with rig(Engine("a", script)) as house:
        for _ in range(3):
            answer = await house.ask(post())
            assert (answer.status, answer.header("x-engine")) == (400, "1")
            assert (answer.header("x-trailer"), answer.header("set-cookie")) == (None, None)


# streams, over a worker without sockets


class Stage:
    """A client and an engine's connection that hold a request, and what the client's parser makes of the answer."""

    def __init__(self, request: bytes = post()) -> None:
        self.dry = Dry(services(1), wire=Kept)
        self.client: ClientConn = self.dry.client()
        self.client.data_received(request)
        self.engine: EngineConn = self.dry.engine(self.client)
        self.wire = cast("Kept", self.client.transport)

    def play(self, reads: list[bytes], eof: bool = False) -> None:
        for data in reads:
            self.engine.data_received(data)
        if eof:
            self.engine.connection_lost(None)

    def parsed(self, closed: bool = False) -> tuple[list[bytes], bool]:
        """(data in the pieces in which they came, whether the answer is whole) by h11."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method="POST", target="/", headers=[("host", "h")]))
        parser.send(h11.EndOfMessage())
        pieces: list[bytes] = []
        for data in [*self.wire.written, *([b""] if closed else [])]:
            parser.receive_data(data)
            while (event := parser.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Data):
                    pieces.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    return pieces, True
        return pieces, False


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@settings(max_examples=300)
@given(st.data())
def test_a_stream_reaches_the_client_byte_for_byte_however_it_is_cut(data: st.DataObject) -> None:
    chunks, pieces = data.draw(chunked())
    stage = Stage()
    stage.play(data.draw(reads_of(CHUNKED, chunks) | cut(CHUNKED + b"".join(chunks), ("anywhere", "at CRLF"))))
    told, whole = stage.parsed()
    assert (b"".join(told), whole) == (b"".join(pieces), True)
    assert stage.client.driver is None
    assert sum(stage.dry.shared.loads[0]) == 0


@settings(max_examples=100)
@given(st.data())
def test_a_client_of_http_1_0_gets_the_bytes_of_a_stream_without_its_framing(data: st.DataObject) -> None:
    chunks, pieces = data.draw(chunked())
    stage = Stage(post().replace(b"HTTP/1.1", b"HTTP/1.0"))
    stage.play(data.draw(reads_of(CHUNKED, chunks)))
    head, _, told = b"".join(stage.wire.written).partition(b"\r\n\r\n")
    assert told == b"".join(pieces)
    assert b"chunked" not in head
    assert stage.wire.closed


@settings(max_examples=100)
@given(st.binary(max_size=300), st.data())
def test_bodies_of_a_length_and_until_the_end_reach_the_client_however_they_are_cut(
    body: bytes, data: st.DataObject
) -> None:
    length = data.draw(st.booleans())
    head = b"HTTP/1.1 200 OK\r\n%b\r\n" % (b"Content-Length: %d\r\n" % len(body) if length else b"")
    stage = Stage()
    stage.play(data.draw(cut(head + body, ("whole", "anywhere"))), eof=not length)
    told, whole = stage.parsed()
    assert (b"".join(told), whole) == (body, True)


@settings(max_examples=200)
@given(st.data())
@example(None)
def test_a_stream_that_breaks_is_never_whole_however_it_is_cut(data: st.DataObject | None) -> None:
    if data is None:
        reads = [CHUNKED]
    else:
        chunks, _ = data.draw(chunked(odd=False))
        reads = data.draw(reads_of(CHUNKED, chunks))
        reads = reads[: data.draw(st.integers(0, len(reads) - 1))] or [CHUNKED]
    stage = Stage()
    stage.play(reads, eof=True)
    told, whole = stage.parsed()
    text = b"".join(told)
    assert not whole or b'"finish_reason":"error"' in text or b"data: [DONE]" in text
    assert sum(stage.dry.shared.loads[0]) == 0


#: A path whose streams no other engine could go on with.
NOT_CONTINUED = "/v1/audio/speech"
ENDINGS = {
    "between two events": ([b"data: {}\n\n"], b"data: {}\n\n"),
    "within an event": ([b"data: {}\n\n", b"data: {"], None),
    "within an event, behind long ones": ([b"data: %b\n\n" % (b"x" * 200), b"data: %b" % (b"y" * 200)], None),
    "within a long event, behind short ones": ([b"data: {}\n\n", b"data: %b" % (b"y" * 200)], None),
    "behind a long event": ([b"data: %b\n\n" % (b"x" * 200)], b"data: %b\n\n" % (b"x" * 200)),
    "behind the last event": ([b"data: %b\n\n" % (b"x" * 200), b"data: [DONE]\n\n"], b""),
    "behind the last event, in two chunks": ([b"data: [DO", b"NE]\n\n"], b""),
    "between two events, the blank line alone": ([b"data: {}\n", b"\n"], b"data: {}\n\n"),
    "behind the last event, which came with others": ([b"data: %b\n\ndata: [DONE]\n\n" % (b"x" * 200)], b""),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_stream_of_single_chunks_that_breaks_is_ended_as_any_other(name: str) -> None:
    """By an event where one can stand, by none where the last one came, else not at all: never cleanly."""
    events, last = ENDINGS[name]
    stage = Stage(post(path=NOT_CONTINUED))
    stage.play([CHUNKED, *[b"%x\r\n%b\r\n" % (len(event), event) for event in events]], eof=True)
    told, whole = stage.parsed()
    assert whole is (last is not None)
    assert b"".join(told).startswith(b"".join(events))
    ours = b"".join(told)[len(b"".join(events)) :]
    assert (b'"finish_reason":"error"' in ours) is bool(last)


def test_one_write_for_each_read_that_is_one_chunk_and_it_is_the_very_read() -> None:
    for path, end in ((NOT_CONTINUED, b"x"), ("/v1/chat/completions", b"\n\n")):
        stage = Stage(post(path=path))
        chunks = [b"%x\r\n%b%b\r\n" % (size, b":" * (size - len(end)), end) for size in (2, 15, 16, 255, 256, 4000)]
        stage.play([CHUNKED, *chunks])
        assert len(stage.wire.written) == 1 + len(chunks)
        assert all(written is read for written, read in zip(stage.wire.written[1:], chunks, strict=True))


@pytest.mark.parametrize("half", [b"data: {y", b"data: %b" % (b"y" * 200)])
def test_of_a_stream_that_could_be_gone_on_with_half_an_event_is_never_passed_on(half: bytes) -> None:
    stage = Stage()
    stage.play([CHUNKED, *[b"%x\r\n%b\r\n" % (len(event), event) for event in (b"data: {}\n\n", half)]], eof=True)
    told, whole = stage.parsed()
    assert whole
    assert told[0] == b"data: {}\n\n"
    assert half not in b"".join(told)
    assert b'"finish_reason":"error"' in b"".join(told)


def test_one_write_for_each_read_of_several_chunks() -> None:
    stage = Stage()
    reads = [b"4\r\n:a\n\n\r\n5\r\n:bc\n\n\r\n", b"6\r\n:def\n\n\r\n0\r\n\r\n"]
    stage.play([CHUNKED, *reads])
    assert stage.wire.written[1:] == reads


@pytest.mark.parametrize("in_one", [True, False])
def test_an_id_is_found_in_a_stream_of_single_chunks_as_in_any_other(in_one: bool) -> None:
    event = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n'
    chunk = b"%x\r\n%b\r\n" % (len(event), event)
    stage = Stage(post(path="/v1/responses"))
    stage.play([CHUNKED + chunk + chunk] if in_one else [CHUNKED, chunk, chunk])
    assert stage.dry.worker.recall("resp_1") == 0
    assert stage.parsed()[0] == [event, event]
