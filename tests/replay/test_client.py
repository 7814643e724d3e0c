"""The client: connections kept and lost, and every way in which an answer can go wrong, over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from enginehouse.replay import client as clients
from enginehouse.replay.asking import Asking, target
from enginehouse.replay.call import Call, Ending
from enginehouse.replay.client import Client, UnreachableError
from enginehouse.replay.traces import Turn
from tests.ports import Ports
from tests.replay.engine import DONE, HEAD, Asked, Scripted, answer, chunks, delta, refusal, scripted

DEADLINE = 30.0
WORDS = ["one", " two"]


class Asker:
    """Asks one call after the other, or several at once."""

    def __init__(self, url: str, client: Client) -> None:
        self.client = client
        self._asking = Asking(target(url), "m")
        self._futures: dict[Call, asyncio.Future[Call]] = {}
        client.ended = lambda call: self._futures.pop(call).set_result(call)

    def begin(self) -> asyncio.Future[Call]:
        call = Call(0, Turn(1, 2, (1,)), 0.0)
        future = self._futures[call] = asyncio.get_running_loop().create_future()
        self.client.ask(call, self._asking.request([{"role": "user", "content": "x"}], 2, 0))
        return future

    async def ask(self) -> Call:
        async with asyncio.timeout(DEADLINE):
            return await self.begin()


@asynccontextmanager
async def asking(engine: Scripted, timeout: float = DEADLINE, header: str = "x-served-by") -> AsyncIterator[Asker]:
    client = Client(target(engine.url), header, timeout)
    await client.start()
    try:
        yield Asker(engine.url, client)
    finally:
        await client.close()


async def well(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(WORDS, b"X-Served-By: e1\r\nx-enginehouse-attempts: 2\r\n", prompt=4, cached=3))


async def test_an_answer_is_heard_with_who_gave_it_and_what_it_counted() -> None:
    async with scripted(well) as engine, asking(engine) as asker:
        call = await asker.ask()
    assert (call.ending, call.status, call.service, call.attempts) == (Ending.ANSWERED, 200, "e1", 2)
    assert (call.prompt, call.completion, call.cached) == (4, 2, 3)
    assert 0 < call.sent <= call.head <= call.first <= call.end


async def test_calls_that_follow_each_other_share_a_connection_and_those_at_once_do_not() -> None:
    async with scripted(well) as engine, asking(engine) as asker:
        for _ in range(5):
            assert (await asker.ask()).ending is Ending.ANSWERED
        assert engine.connections == 1
        await asyncio.gather(*[asker.begin() for _ in range(4)])
        assert engine.connections == 4


async def test_a_byte_at_a_time_is_an_answer_too() -> None:
    async def slowly(asked: Asked, writer: asyncio.StreamWriter) -> None:
        whole = answer(WORDS)
        for at in range(len(whole)):
            writer.write(whole[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)

    async with scripted(slowly) as engine, asking(engine) as asker:
        assert (await asker.ask()).completion == 2


async def test_what_comes_before_the_head_and_after_the_body_is_neither() -> None:
    async def chatty(asked: Asked, writer: asyncio.StreamWriter) -> None:
        begin = HEAD % b"trailer: x-served-by\r\n" + chunks(delta("a"), DONE)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nx-served-by: hint\r\n\r\n" + begin)
        writer.write(b"0\r\nx-served-by: trailer\r\n\r\n")

    async with scripted(chatty) as engine, asking(engine) as asker:
        first, second = await asker.ask(), await asker.ask()
    assert [first.ending, second.ending] == [Ending.ANSWERED] * 2
    assert [first.service, second.service] == ["hint", "hint"]


async def test_an_answer_may_end_with_its_connection() -> None:
    async def old(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        writer.write(delta("a") + DONE)
        writer.close()

    async with scripted(old) as engine, asking(engine) as asker:
        assert [(await asker.ask()).ending for _ in range(2)] == [Ending.ANSWERED] * 2
        assert engine.connections == 2


async def test_a_kept_connection_that_the_server_has_closed_costs_no_request() -> None:
    async def closes_before_the_second(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.number == 2:
            writer.close()
        else:
            await well(asked, writer)

    async with scripted(closes_before_the_second) as engine, asking(engine) as asker:
        calls = [await asker.ask() for _ in range(4)]
    assert [call.ending for call in calls] == [Ending.ANSWERED] * 4
    assert [call.resent for call in calls] == [False, True, True, True]


async def test_where_all_kept_connections_have_been_closed_the_second_try_is_on_a_new_one() -> None:
    async def closes_before_the_second(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.number == 2:
            writer.close()
        else:
            await well(asked, writer)

    async with scripted(closes_before_the_second) as engine, asking(engine) as asker:
        await asyncio.gather(*[asker.begin() for _ in range(5)])
        assert (await asker.ask()).ending is Ending.ANSWERED
        assert (len(engine.asked), engine.connections) == (7, 6)


async def test_a_new_connection_that_is_closed_without_an_answer_is_an_error() -> None:
    async def never(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with scripted(never) as engine, asking(engine) as asker:
        call = await asker.ask()
    assert (call.ending, call.detail, len(engine.asked)) == (Ending.LOST, "closed by the other side", 1)


async def test_a_request_that_was_answered_in_part_is_never_sent_again() -> None:
    async def half(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.number == 1:
            await well(asked, writer)
        else:
            writer.write(HEAD % b"" + chunks(delta("a")))
            writer.close()

    async with scripted(half) as engine, asking(engine) as asker:
        calls = [await asker.ask(), await asker.ask()]
    assert [call.ending for call in calls] == [Ending.ANSWERED, Ending.LOST]
    assert len(engine.asked) == 2


async def test_a_connection_that_is_announced_to_end_is_not_used_again() -> None:
    async def says_so(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(WORDS, b"connection: close\r\n"))

    async with scripted(says_so) as engine, asking(engine) as asker:
        assert [(await asker.ask()).resent for _ in range(3)] == [False] * 3
        assert [asked.connection for asked in engine.asked] == [1, 2, 3]


async def test_only_so_many_idle_connections_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "IDLE", 2)
    async with scripted(well) as engine, asking(engine) as asker:
        await asyncio.gather(*[asker.begin() for _ in range(5)])
        await asyncio.gather(*[asker.begin() for _ in range(5)])
        assert engine.connections == 8


async def test_a_refusal_keeps_its_connection_and_has_its_code() -> None:
    async def full(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(refusal(503, "server_is_overloaded", b"retry-after: 1\r\n"))

    async with scripted(full) as engine, asking(engine) as asker:
        calls = [await asker.ask(), await asker.ask()]
    assert {(call.ending, call.detail) for call in calls} == {(Ending.REJECTED, "503 server_is_overloaded")}
    assert engine.connections == 1


async def test_what_is_not_http_is_said_to_be_that() -> None:
    async def noise(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    async with scripted(noise) as engine, asking(engine) as asker:
        assert (await asker.ask()).ending is Ending.FRAMING


async def test_silence_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "SWEEP", 0.02)
    released = asyncio.Event()

    async def silent(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD % b"" + chunks(delta("a")))
        await writer.drain()
        await released.wait()

    async with scripted(silent) as engine:
        async with asking(engine, timeout=0.1) as asker:
            call = await asker.ask()
        released.set()
    assert call.ending is Ending.SILENT
    assert call.first > 0


async def test_closing_leaves_what_runs_unfinished() -> None:
    released = asyncio.Event()
    arrived = asyncio.Event()

    async def waits(asked: Asked, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await released.wait()

    async with scripted(waits) as engine:
        async with asking(engine) as asker:
            running = [asker.begin(), asker.begin()]
            await arrived.wait()
            await asker.client.close()
            calls = [await each for each in running]
        released.set()
    assert {call.ending for call in calls} == {Ending.UNFINISHED}
    assert all(call.end for call in calls)


async def test_nobody_there_is_said_before_anything_is_asked(ports: Ports) -> None:
    port = ports.one()
    client = Client(target(f"http://127.0.0.1:{port}"), "", 1.0)
    with pytest.raises(UnreachableError, match=rf"127.0.0.1:{port} cannot be reached: Connection refused"):
        await client.start()
    await client.close()


async def test_a_server_that_goes_away_while_it_is_asked_refuses_further_connections() -> None:
    async with scripted(well) as engine:
        client = Client(target(engine.url), "", DEADLINE)
        await client.start()
        asker = Asker(engine.url, client)
        assert (await asker.ask()).ending is Ending.ANSWERED
    call = await asker.ask()
    assert call.ending in (Ending.CONNECT, Ending.LOST)
    assert (await asker.ask()).detail == "Connection refused"
    await client.close()


async def test_a_name_is_resolved_and_one_that_does_not_exist_is_named() -> None:
    async with scripted(well) as engine:
        named = engine.url.replace("127.0.0.1", "localhost")
        client = Client(target(named), "", DEADLINE)
        await client.start()
        assert (await Asker(named, client).ask()).ending is Ending.ANSWERED
        await client.close()
    client = Client(target("http://no-such-host.invalid/v1"), "", DEADLINE)
    with pytest.raises(UnreachableError, match=r"no-such-host\.invalid cannot be reached: "):
        await client.start()
    await client.close()


async def test_tls_is_spoken_and_the_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with scripted(well, context) as engine:
        url = f"https://localhost:{engine.port}/v1"
        client = Client(target(url), "", DEADLINE)
        with pytest.raises(UnreachableError, match="certificate"):
            await client.start()
        await client.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        client = Client(target(url), "", DEADLINE)
        await client.start()
        assert (await Asker(url, client).ask()).ending is Ending.ANSWERED
        await client.close()
