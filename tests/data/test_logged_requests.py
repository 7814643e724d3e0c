"""Every request has one line in the access log, however it ends, and the line says what the client got."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.rig import Answer, Call, Client, Engine, Rig, Script, post, rig, until

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
#: Seconds that an engine computes a prompt.
PREFILL = 0.05
#: For so many, at least, the first byte is waited for: the clock of a loop stands still within one of its turns.
WAITED = 0.9 * PREFILL
EVENT = b"a\r\ndata: {}\n\n\r\n"
DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Log:
    """What a worker has logged."""

    def __init__(self, path: Path, house: Rig) -> None:
        self.path = path
        self.house = house

    def lines(self) -> list[dict[str, Any]]:
        """Those that are written by now."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    async def line(self) -> dict[str, Any]:
        """The only line, as soon as there is one; a marker behind it shows that no other one follows."""
        await until(self.lines)
        assert (await self.house.ask(post(extra=b"X-Request-Id: marker\r\n", path="/sleep"))).status == 403
        await until(lambda: self.lines()[-1]["id"] == "marker")
        first, *others = self.lines()
        assert [line["id"] for line in others] == ["marker"]
        return first


@contextlib.asynccontextmanager
async def logged(tmp_path: Path, *scripts: Script | Engine, **settings: Any) -> AsyncIterator[Log]:
    """A worker with an access log, in front of engines `a`, `b`, … that follow these scripts."""
    path = tmp_path / "access.log"
    engines = [one if isinstance(one, Engine) else Engine("abc"[number], one) for number, one in enumerate(scripts)]
    async with rig(*engines, access_log=str(path), **{"queue_timeout": 0.05} | settings) as house:
        try:
            yield Log(path, house)
        finally:
            house.worker.access_log.close()


def shown(line: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in expected}


async def plain(call: Call) -> None:
    await call.answer()


async def streaming(call: Call) -> None:
    await call.send(SSE + EVENT)
    await call.send(EVENT)
    await call.send(DONE)


async def one_event_then(call: Call) -> None:
    await call.send(SSE + EVENT)


async def breaks_midway(call: Call) -> None:
    await call.send(SSE + EVENT)
    call.close()


async def breaks_within_a_body(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
    call.close()


async def breaks_at_once(call: Call) -> None:
    call.close()


async def silent(call: Call) -> None:
    await call.gone()


async def only_a_head(call: Call) -> None:
    await call.send(SSE)
    await call.gone()


async def stalls_midway(call: Call) -> None:
    await call.send(SSE + EVENT)
    await call.gone()


async def nonsense(call: Call) -> None:
    await call.send(b"no HTTP\r\n\r\n")


async def until_it_closes(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nabc")
    await call.send(b"def")
    call.close()


async def without_a_body(call: Call) -> None:
    await call.send(b"HTTP/1.1 204 No Content\r\n\r\n")


async def bad_request(call: Call) -> None:
    await call.answer(b"what?", b"400 Bad Request")


async def busy(call: Call) -> None:
    await call.answer(b'{"error":{"message":"busy","type":"t","param":null,"code":null}}', b"503 Busy")


async def switches(call: Call) -> None:
    await call.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")


async def switches_quietly(call: Call) -> None:
    await call.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")


# requests that get an answer

BODY = b'{"model":"m"}'
ANSWERED: dict[str, tuple[list[Script], bytes, dict[str, Any]]] = {
    "answered": ([plain], post(), {"outcome": "answered", "status": 200, "service": "a", "model": "m", "attempts": 1}),
    "streamed": ([streaming], post(), {"outcome": "answered", "status": 200, "stream": True, "termination": "--"}),
    "until it closes": ([until_it_closes], post(), {"outcome": "answered", "status": 200, "bytes_out": 6}),
    "no body": ([without_a_body], post(), {"outcome": "answered", "status": 204, "bytes_out": 0}),
    "no model": ([plain], post(b"{}"), {"outcome": "answered", "model": "", "bytes_in": 2}),
    "a GET": ([plain], b"GET /version HTTP/1.1\r\nHost: h\r\n\r\n", {"method": "GET", "path": "/version"}),
    "an engine's error": ([bad_request], post(), {"outcome": "answered", "status": 400, "service": "a"}),
    "busy everywhere": ([busy, busy], post(), {"outcome": "rejected", "status": 503, "attempts": 2, "service": "b"}),
    "busy at first": ([busy, plain], post(), {"outcome": "answered", "status": 200, "attempts": 2, "service": "b"}),
    "broke at first": ([breaks_at_once, plain], post(), {"outcome": "answered", "attempts": 2, "service": "b"}),
    "broke everywhere": (
        [breaks_at_once, breaks_at_once], post(), {"outcome": "poisonous", "status": 502, "attempts": 2},
    ),
    "no HTTP": ([nonsense], post(), {"outcome": "bad_response", "status": 502, "termination": "EH"}),
    "an upgrade nobody asked for": ([switches], post(), {"outcome": "bad_response", "status": 502}),
    "an upgrade nobody asked for, without its headers": (
        [switches_quietly], post(), {"outcome": "bad_response", "status": 502},
    ),
    "no JSON": ([plain], post(b"x"), {"outcome": "bad_json", "status": 400, "service": "", "bytes_in": 1}),
    "a denied path": ([plain], post(path="/sleep"), {"outcome": "path_denied", "status": 403, "path": "/sleep"}),
    "a path not normal": ([plain], post(path="/v1/../x"), {"outcome": "path_not_normal", "status": 400}),
    "an encoded body": ([plain], post(extra=b"Content-Encoding: gzip\r\n"), {"outcome": "body_encoded", "status": 415}),
    "two hosts": ([plain], post(extra=b"Host: other\r\n"), {"outcome": "bad_request", "status": 400, "bytes_in": 0}),
    "no HTTP from the client": ([plain], b"x\r\n\r\n", {"outcome": "bad_request", "status": 400, "termination": "CR"}),
    "another expectation": ([plain], post(extra=b"Expect: x\r\n"), {"outcome": "expectation_failed", "status": 417}),
    "a large head": ([plain], post(extra=b"X: %b\r\n" % (b"x" * 70000)), {"outcome": "head_too_large", "status": 431}),
    "a large body": ([plain], post(b"x" * 2000), {"outcome": "body_too_large", "status": 413}),
    "an unknown model": ([plain], post(b'{"model":"x"}'), {"outcome": "model_unknown", "status": 503, "model": "x"}),
    "a model nobody has now": ([plain], post(b'{"model":"gone"}'), {"outcome": "no_service_for_model", "status": 503}),
    "a method not allowed": (
        [plain], b"POST /livez HTTP/1.1\r\nHost: h\r\n\r\n", {"outcome": "method_not_allowed", "status": 405},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERED)
@pytest.mark.parametrize("before", ["first", "known heads"])
async def test_a_request_that_gets_an_answer(name: str, before: str, tmp_path: Path) -> None:
    """Also behind others with the same head, which need no parser."""
    scripts, request, expected = ANSWERED[name]
    repeats = 1 if before == "first" else 3
    async with logged(tmp_path, *scripts, max_body=1024, ejection_time=0.001) as log:
        answers: list[Answer] = []
        for _ in range(repeats):
            answers.append(await log.house.ask(request, request.split(b" ")[0].decode()))
            await until(lambda: len(log.lines()) == len(answers))
        for line, answer in zip(log.lines(), answers, strict=True):
            if repeats == 1:
                assert shown(line, expected) == expected
            assert line["outcome"] == expected.get("outcome", "answered")
            came = line["outcome"] in ("answered", "rejected") or "upgrade" in name
            assert (line["first_byte_ms"] is not None) == came
            assert line["status"] == answer.status
            assert line["id"] == answer.header("x-request-id")
            assert line["service"] == (answer.header("x-enginehouse-service") or "").strip("-")
            assert line["attempts"] == int(answer.header("x-enginehouse-attempts") or "-1")
            assert line["bytes_out"] == len(answer.body)
            assert line["client"] == "127.0.0.1"
            assert line["duration_ms"] >= (line["first_byte_ms"] or 0.0) >= 0.0


async def test_a_stream_of_single_chunks(tmp_path: Path) -> None:
    """Each is a read of its own, and passed on as it is; framing does not count."""
    event = b"data: %b\n\n" % (b"x" * 100)
    seen = asyncio.Semaphore(0)

    async def script(call: Call) -> None:
        await call.send(SSE)
        for _ in range(5):
            await call.send(b"%x\r\n%b\r\n" % (len(event), event))
            await seen.acquire()
        await call.send(b"0\r\n\r\n")

    async with logged(tmp_path, script) as log:
        client = await sent(log)
        for _ in range(5):
            await client.reader.readuntil(event + b"\r\n")
            seen.release()
        expected = {"outcome": "answered", "status": 200, "stream": True, "bytes_out": 5 * len(event)}
        assert shown(await log.line(), expected) == expected


async def test_a_stream_begins_with_its_body(tmp_path: Path) -> None:
    """vLLM sends the head of a stream before it has computed anything: when it came says nothing."""
    head_seen = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(SSE)
        await head_seen.wait()
        await asyncio.sleep(PREFILL)
        await call.send(EVENT + DONE)

    async with logged(tmp_path, script) as log:
        client = await sent(log)
        await client.read_head()
        head_seen.set()
        line = await log.line()
        assert line["duration_ms"] >= line["first_byte_ms"] >= 1000 * WAITED
        (count,) = log.house.worker.counters.report(1, 1).counts
        assert count.first_byte_seconds >= WAITED


async def test_comments_of_an_engine_that_is_still_at_the_prompt_are_no_first_byte(tmp_path: Path) -> None:
    """llama.cpp sends some, lest it be taken for dead; where the prompt counts, its first token is looked for."""
    comment_seen = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(SSE + b"3\r\n:\n\n\r\n")
        await comment_seen.wait()
        await asyncio.sleep(PREFILL)
        await call.send(EVENT + DONE)

    async with logged(tmp_path, script) as log:
        prompt = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % (b"x" * 2000)
        client = await sent(log, post(prompt))
        await client.reader.readuntil(b":\n\n\r\n")
        comment_seen.set()
        assert (await log.line())["first_byte_ms"] >= 1000 * WAITED


async def test_a_service_that_cannot_be_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with logged(tmp_path, Engine("a", plain, port=port), queue_size=0) as log:
        answer = await log.house.ask(post())
        line = await log.line()
        expected = {"outcome": "connect_failed", "status": 502, "attempts": 1, "service": "a", "first_byte_ms": None}
        assert shown(line, expected) == expected
        assert line["bytes_out"] == len(answer.body)


async def test_an_answer_to_head(tmp_path: Path) -> None:
    async with logged(tmp_path, plain) as log:
        await log.house.ask(b"HEAD /version HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD")
        line = await log.line()
        assert (line["method"], line["status"], line["bytes_out"]) == ("HEAD", 200, 0)


@pytest.mark.parametrize("sent", [b"GET /livez", b"GET /readyz", b"HEAD /livez", b"GET /livez?x=y"])
async def test_questions_whether_the_worker_lives_are_not_logged(sent: bytes, tmp_path: Path) -> None:
    async with logged(tmp_path, plain) as log:
        for _ in range(2):
            await log.house.ask(sent + b" HTTP/1.1\r\nHost: h\r\n\r\n", sent.split(b" ")[0].decode())
        await log.house.ask(post())
        assert (await log.line())["path"] == "/v1/chat/completions"


async def test_pipelined_requests_have_a_line_each(tmp_path: Path) -> None:
    async with logged(tmp_path, plain) as log:
        client = await log.house.client()
        await client.send(b"".join(post(extra=b"X-Request-Id: %d\r\n" % number) for number in range(5)) + b"x\r\n\r\n")
        for _ in range(6):
            await client.answer()
        await until(lambda: len(log.lines()) == 6)
        assert [line["id"] for line in log.lines()[:5]] == ["0", "1", "2", "3", "4"]
        assert [line["status"] for line in log.lines()] == [200] * 5 + [400]


# requests that end otherwise


async def sent(log: Log, request: bytes = post()) -> Client:
    client = await log.house.client()
    await client.send(request)
    return client


@pytest.mark.parametrize("script", [breaks_midway, stalls_midway])
async def test_a_stream_that_breaks(script: Script, tmp_path: Path) -> None:
    """The client is told within the stream; what it is told is part of the answer."""
    async with logged(tmp_path, script, idle_timeout=0.1) as log:
        answer = await (await sent(log)).answer()
        line = await log.line()
        outcome = "broke_midway" if script is breaks_midway else "idle_timeout"
        expected = {"outcome": outcome, "status": 200, "attempts": 1, "stream": True, "termination": "ED"}
        assert shown(line, expected) == expected
        assert b'"error"' in answer.body
        assert line["bytes_out"] == len(answer.body)


async def test_a_body_that_breaks(tmp_path: Path) -> None:
    async with logged(tmp_path, breaks_within_a_body) as log:
        client = await sent(log)
        await client.read_head()
        assert await client.closed() == b"hello"
        expected = {"outcome": "broke_midway", "status": 200, "bytes_out": 5, "stream": False}
        assert shown(await log.line(), expected) == expected


async def test_an_engine_that_says_nothing(tmp_path: Path) -> None:
    async with logged(tmp_path, silent, first_byte_timeout=0.1) as log:
        answer = await (await sent(log)).answer()
        expected = {"outcome": "first_byte_timeout", "status": 504, "attempts": 1, "first_byte_ms": None}
        line = await log.line()
        assert shown(line, expected) == expected
        assert line["bytes_out"] == len(answer.body)


async def test_a_client_that_says_nothing_more(tmp_path: Path) -> None:
    async with logged(tmp_path, plain, head_timeout=0.1, body_timeout=0.1) as log:
        for cut in (20, -1):
            client = await sent(log, post()[:cut])
            answer = await client.answer()
            await until(log.lines)
            assert (answer.status, log.lines()[-1]["outcome"], log.lines()[-1]["status"]) == (
                408,
                "client_too_slow",
                408,
            )
            assert log.lines()[-1]["bytes_out"] == len(answer.body)
            client.close()


LEAVING: dict[str, tuple[Script, bytes, dict[str, Any]]] = {
    "before an answer": (silent, b"", {"status": 0, "bytes_out": 0, "termination": "CH"}),
    "before the first token": (only_a_head, b"\r\n\r\n", {"status": 200, "bytes_out": 0, "termination": "CH"}),
    "within an answer": (stalls_midway, EVENT, {"status": 200, "bytes_out": 10, "termination": "CD"}),
}


@pytest.mark.parametrize("when", LEAVING)
async def test_a_client_that_leaves(when: str, tmp_path: Path) -> None:
    script, seen, expected = LEAVING[when]
    async with logged(tmp_path, script) as log:
        client = await sent(log)
        if seen:
            await client.reader.readuntil(seen)
        await until(lambda: log.house.engines[0].calls)
        client.close()
        line = await log.line()
        expected = expected | {"outcome": "client_left", "bytes_in": len(BODY), "attempts": 1}
        assert shown(line, expected) == expected
        assert (line["first_byte_ms"] is None) == (expected["termination"] == "CH")


async def test_a_client_that_leaves_while_it_waits_for_a_service(tmp_path: Path) -> None:
    async with logged(tmp_path, silent, service_capacity=1, queue_timeout=30.0) as log:
        first = await sent(log)
        await until(lambda: log.house.engines[0].calls)
        second = await sent(log)
        await until(lambda: log.house.worker.room.waiting)
        second.close()
        expected = {"outcome": "client_left", "status": 0, "attempts": 0, "service": "", "termination": "CQ"}
        await until(log.lines)
        assert shown(log.lines()[0], expected) == expected
        first.close()


@pytest.mark.parametrize(("waits", "when"), [(True, "RQ"), (False, "RH")])
async def test_a_worker_that_stops_before_an_answer(waits: bool, when: str, tmp_path: Path) -> None:
    async with logged(tmp_path, silent, service_capacity=1, queue_timeout=30.0) as log:
        first = await sent(log)
        await until(lambda: log.house.engines[0].calls)
        if waits:
            second = await sent(log)
            await until(lambda: log.house.worker.room.waiting)
            conn = next(conn for conn in log.house.worker.clients if conn.driver and conn.driver.waits_since)
        else:
            (conn,) = log.house.worker.clients
        assert conn.driver is not None
        conn.driver.stop()
        assert (await (second if waits else first).answer()).status == 503
        await until(log.lines)
        expected = {"outcome": "stopping", "status": 503, "termination": when}
        assert shown(log.lines()[0], expected) == expected
        first.close()


async def test_a_client_that_does_not_read(tmp_path: Path) -> None:
    async def flood(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        for _ in range(15000):
            await call.send(b"x" * 65536)

    async with logged(tmp_path, flood, send_timeout=0.2) as log:
        client = await log.house.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(post())
        expected = {"outcome": "client_stalled", "status": 200, "attempts": 1}
        assert shown(await log.line(), expected) == expected


async def test_a_worker_that_stops(tmp_path: Path) -> None:
    async with logged(tmp_path, stalls_midway) as log:
        client = await sent(log)
        await client.reader.readuntil(EVENT)
        (conn,) = log.house.worker.clients
        assert conn.driver is not None
        conn.driver.stop()
        await client.closed()
        expected = {"outcome": "cut_at_stop", "status": 200, "termination": "RD"}
        assert shown(await log.line(), expected) == expected


async def test_a_bug_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with logged(tmp_path, plain, plain, policy="random") as log:
        chance, log.house.worker.rng = log.house.worker.rng, None  # type: ignore[assignment]
        answer = await log.house.ask(post(extra=b"X-Request-Id: mine\r\n"))
        log.house.worker.rng = chance
        expected = {"id": "mine", "outcome": "bug", "status": 500, "bytes_in": len(BODY), "attempts": 0}
        line = await log.line()
        assert shown(line, expected) == expected
        assert line["bytes_out"] == len(answer.body)
    assert "a bug, please report it" in capsys.readouterr().err


async def test_a_bug_of_ours_in_the_middle_of_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No status can be sent any more, but the line is written."""
    async with logged(tmp_path, stalls_midway) as log:
        client = await sent(log)
        await client.reader.readuntil(EVENT)
        (conn,) = log.house.worker.clients
        conn.bug(RuntimeError("made up"))
        with contextlib.suppress(ConnectionResetError):
            await client.closed()
        expected = {"outcome": "bug", "status": 200, "attempts": 1, "service": "a", "termination": "RD"}
        assert shown(await log.line(), expected) == expected
    assert "a bug, please report it" in capsys.readouterr().err


async def test_one_connection_too_many(tmp_path: Path) -> None:
    async with logged(tmp_path, plain, max_connections=1) as log:
        first = await sent(log)
        await first.answer()
        answer = await (await log.house.client()).answer()
        await until(lambda: len(log.lines()) == 2)
        line = log.lines()[1]
        assert (line["outcome"], line["status"], answer.status) == ("connections_full", 503, 503)
        first.close()
