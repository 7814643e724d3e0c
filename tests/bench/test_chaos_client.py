"""The client of the failure lab knows how an answer ended."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from bench.chaos.client import End, Got, connect, fetch, request

ASK = request("/v1/chat/completions", b"{}", "me")
HEAD = b"HTTP/1.1 200 OK\r\nX-Request-Id: me\r\n"


@asynccontextmanager
async def server(*pieces: bytes, then: str = "close", pause: float = 0.0) -> AsyncIterator[int]:
    """Answers each connection with these bytes, each in a write of its own, and then closes, resets or waits."""
    waiting = asyncio.Event()
    serving: set[asyncio.Task[None] | None] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n{}")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        await asyncio.sleep(pause)
        if then == "wait":
            await waiting.wait()
        if then == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        waiting.set()
        listening.close()
        await asyncio.gather(*[task for task in serving if task])


async def ask(port: int, patience: float = 20.0) -> Got:
    line = await connect(port)
    got = await line.exchange(ASK, patience)
    line.close()
    return got


async def test_a_whole_answer_is_read_by_its_length_or_its_chunks() -> None:
    async with server(HEAD + b"content-length: 5\r\n\r\nhel", b"lo") as port:
        got = await ask(port)
    assert (got.end, got.status, got.body, got.headers["x-request-id"]) == (End.WHOLE, 200, b"hello", "me")
    async with server(HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r", b"\n2\r\nlo\r\n0\r\n\r\n") as port:
        got = await ask(port)
    assert (got.end, got.body) == (End.WHOLE, b"hello")


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    ("pieces", "end"),
    [
        pytest.param((), End.CLOSED, id="nothing"),
        pytest.param((b"HTTP/1.1 200",), End.CUT, id="half a head"),
        pytest.param((HEAD + b"content-length: 5\r\n\r\nhel",), End.CUT, id="less than announced"),
        pytest.param((HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n",), End.CUT, id="no last chunk"),
        pytest.param((HEAD + b"transfer-encoding: chunked\r\n\r\n9\r\nhel",), End.CUT, id="half a chunk"),
    ],
)
async def test_an_answer_that_ends_before_its_framing_was_cut(pieces: tuple[bytes, ...], end: End, then: str) -> None:
    async with server(*pieces, then=then) as port:
        got = await ask(port)
    if then == "close" or end is End.CLOSED:
        assert got.end is end
    else:
        assert got.end in (End.CUT, End.CLOSED), "a reset may overtake what was sent before it"


@pytest.mark.parametrize(
    "answer",
    [
        b"\x16\x03\x01 nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nnot a header\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        HEAD + b"content-length: many\r\n\r\n",
        HEAD + b"\r\n",
    ],
)
async def test_what_is_no_http_is_told_apart_from_what_was_cut(answer: bytes) -> None:
    async with server(answer, then="wait") as port:
        assert (await ask(port)).end is End.MALFORMED


async def test_silence_ends_with_patience_and_the_wait_is_told() -> None:
    async with server(HEAD + b"content-length: 5\r\n\r\nhel", then="wait") as port:
        got = await ask(port, patience=0.2)
    assert (got.end, got.body) == (End.SILENT, b"hel")
    assert got.wait >= 0.1
    assert got.first < got.wait


async def test_a_connection_that_closes_after_a_while_made_its_client_wait_until_then() -> None:
    async with server(HEAD + b"content-length: 5\r\n\r\nhel", pause=0.2) as port:
        got = await ask(port)
    assert got.end is End.CUT
    assert got.wait >= 0.1
    async with server(pause=0.2) as port:
        got = await ask(port)
    assert got.end is End.CLOSED
    assert got.first == got.wait >= 0.1


async def test_a_connection_takes_another_request_until_it_is_closed_or_has_too_much_to_say() -> None:
    async with server(HEAD + b"content-length: 2\r\n\r\nok", then="wait") as port:
        line = await connect(port)
        assert not (await line.exchange(ASK, 20.0)).reused
        assert line.usable
        assert (await line.exchange(ASK, 0.1)).reused
        assert not line.usable, "it was silent"
    for surplus in (HEAD + b"content-length: 2\r\n\r\nok?", HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\nok"):
        async with server(surplus, then="wait") as port:
            line = await connect(port)
            assert (await line.exchange(ASK, 20.0)).end is End.WHOLE
            assert not line.usable
            line.close()


async def test_fetch_gives_json_or_nothing(unused: Callable[[], int]) -> None:
    async with server(HEAD + b'content-length: 8\r\n\r\n{"a": 1}') as port:
        assert await fetch(port, "/x", b"{}") == (200, {"a": 1})
    assert await fetch(unused(), "/x", b"{}") == (0, None)


@pytest.fixture
def unused() -> Callable[[], int]:
    """A port at which nobody listens."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find
