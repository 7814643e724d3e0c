"""The fuzzer's client before things that are no router: it has to notice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.fuzz.case import Answer, Case, End, Kind, tag
from bench.fuzz.client import Client
from bench.fuzz.corpus import REQUESTS, TAG
from bench.fuzz.engine import Engine, Script
from tests.bench.test_fuzz_readers import answer


def plain(number: int, name: str = "chat") -> Case:
    return Case(number, Kind.PLAIN, name, (), REQUESTS[name].replace(TAG, tag(number)))


@asynccontextmanager
async def answering(data: bytes, close: bool) -> AsyncIterator[int]:
    """Something that says `data` to each connection's first bytes."""

    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(65536)
            writer.write(data)
            if not close:
                await reader.read()
            writer.close()
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.wait_for(ended.wait(), 20)


async def found(case: Case, data: bytes, close: bool = True) -> list[str]:
    """The kinds of findings that playing the case before something that says `data` leads to."""
    findings: list[tuple[str, str, int]] = []
    async with answering(data, close) as port:
        await Client(port, lambda *finding: findings.append(finding), patience=0.5).play(case)
    return [kind for kind, _, _ in findings]


def told(number: int) -> bytes:
    body = b'{"case":"%b"}' % tag(number)
    return answer(b"content-length: %d" % len(body), b"connection: close", body=body)


async def test_an_answer_of_its_own_is_right() -> None:
    right = told(7).replace(b"service: -", b"service: e0")
    assert await found(plain(7), right) == []


async def test_the_answer_to_another_request_is_found_out() -> None:
    other = told(8).replace(b"service: -", b"service: e0")
    assert await found(plain(7), other) == ["client got what is wrong"]


@pytest.mark.parametrize("data", [b"", b"\0\0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_no_answer_and_what_is_none_are_found_out(data: bytes) -> None:
    assert await found(plain(7), data) == ["client got what is wrong"]


async def test_a_connection_that_is_neither_answered_nor_ended_is_found_out() -> None:
    assert await found(plain(7), b"", close=False) == ["connection hung"]


async def test_an_answer_cut_short_is_no_answer_to_a_right_request() -> None:
    assert await found(plain(7), told(7)[:-2]) == ["client got what is wrong"]


@asynccontextmanager
async def engine() -> AsyncIterator[tuple[Engine, Script, list[str]]]:
    problems: list[str] = []
    script = Script(lambda *finding: problems.append(finding[1]))
    one = Engine(script)
    await one.start()
    try:
        yield one, script, problems
    finally:
        await one.stop()


def request(port: int, number: int, body: bytes = b"{}") -> bytes:
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nx-request-id: 1\r\nx-forwarded-for: 1\r\n" % port
    )
    return head + b"X-Fuzz: %b\r\nContent-Length: %d\r\n\r\n%b" % (tag(number), len(body), body)


async def test_an_engine_says_what_its_case_tells_it_for_each_attempt_and_else_the_number() -> None:
    async with engine() as (one, script, problems):
        script.answers[5] = (Answer(b"first"), Answer(b"second", end=End.CLOSE))
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        for number, expected in ((5, b"first"), (6, b'{"case":"00000006","bytes":2}'), (5, b"second")):
            writer.write(request(one.port, number))
            said = b""
            while not said.endswith(expected):
                said += await asyncio.wait_for(reader.read(1000), 10)
        assert await reader.read() == b""
        writer.close()
        assert (problems, script.asked) == ([], 3)


async def test_an_engine_that_is_asked_twice_at_once_tells() -> None:
    async with engine() as (one, _, problems):
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(request(one.port, 1) * 2)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(reader.readexactly(100_000), 10)
        writer.close()
    assert problems
