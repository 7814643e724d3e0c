"""Connections of the simulated engine: order, limits, clients that leave, bodies made to order."""

import asyncio
import hashlib

import pytest

from tests.e2e.engines import SimFactory, SimProcess
from tests.sim import raw


async def test_pipelined_requests_are_answered_in_order(sim_engine: SimFactory) -> None:
    sim = sim_engine(ttft=0.01)
    async with raw.line(sim.port) as line:
        asked = [f"prompt {number}" for number in range(40)]
        await line.send(b"".join(raw.chat(messages=[{"role": "user", "content": each}]) for each in asked))
        together = [(await line.reply()).json["choices"][0]["message"]["content"] for _ in asked]
    alone = [await raw.once(sim.port, raw.chat(messages=[{"role": "user", "content": each}])) for each in asked]
    assert together == [reply.json["choices"][0]["message"]["content"] for reply in alone]


async def test_stats_tell_the_last_request_exactly_as_it_came(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    body = b'{"input": "a",\t"unknown": [1.0, "\\u00e4"]}'
    head = (
        "POST /v1/embeddings?a=%2F&b HTTP/1.1\r\nHost: Sim\r\nX-CASE: a  b\r\nx-dup: 1\r\nx-dup: 2\r\nx-\xe4: \xff\r\n"
    )
    sent = (head + f"Content-Length: {len(body)}\r\n\r\n").encode("latin-1") + body
    await raw.once(sim.port, sent.replace("x-\xe4".encode("latin-1"), b"x-a"))
    last = sim.stats()["last"]
    assert (last["method"], last["target"], last["version"]) == ("POST", "/v1/embeddings?a=%2F&b", "1.1")
    assert last["headers"] == [
        ["Host", "Sim"],
        ["X-CASE", "a  b"],
        ["x-dup", "1"],
        ["x-dup", "2"],
        ["x-a", "\xff"],
        ["Content-Length", str(len(body))],
    ]
    assert (last["body_length"], last["body_sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


async def test_probes_and_controls_are_no_requests(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    async with raw.line(sim.port) as line:
        for path in ("/health", "/v1/models", "/sim/faults", "/sim/status", "/sim/stats"):
            await line.ask("GET", path)
    stats = sim.stats()
    assert (stats["requests"], stats["probes"], stats["active"]) == (1, 2, 0)
    assert stats["last"]["target"] == "/sim/status"


async def test_a_client_that_leaves_a_stream_ends_it_and_is_counted(sim_engine: SimFactory) -> None:
    sim = sim_engine(tokens=1_000_000, time_per_token=0.001)
    async with raw.line(sim.port) as line:
        await line.send(raw.chat(stream=True))
        await line.until(b"data: ")
        assert sim.stats()["active"] == 1
    stats = await sim.until(lambda stats: stats["aborted"] == 1)
    assert (stats["active"], stats["connections_open"]) == (0, 1)
    written = sim.stats()["bytes_sent"]
    assert sim.stats()["bytes_sent"] - written < 5000, "nothing but the stats themselves is written any more"


async def test_a_client_that_leaves_before_the_answer_is_counted_too(sim_engine: SimFactory) -> None:
    sim = sim_engine(ttft=60)
    async with raw.line(sim.port) as line:
        await line.send(raw.chat())
        await sim.until(lambda stats: stats["active"] == 1)
    await sim.until(lambda stats: stats["aborted"] == 1)


async def test_half_a_close_counts_as_leaving(sim_engine: SimFactory) -> None:
    sim = sim_engine(ttft=60)
    async with raw.line(sim.port) as line:
        await line.send(raw.chat())
        line.writer.write_eof()
        await sim.until(lambda stats: stats["aborted"] == 1)


@pytest.mark.parametrize("query", ["n=300000", "n=300000&chunked=1", "n=0", "n=0&chunked=1"])
async def test_bytes_are_as_many_as_asked_for(sim_engine: SimFactory, query: str) -> None:
    sim = sim_engine()
    async with raw.line(sim.port) as line:
        reply = await line.ask("GET", f"/sim/bytes?{query}")
        assert len(reply.body) == int(query.split("&")[0].removeprefix("n="))
        assert ("transfer-encoding" in reply.headers) == ("chunked" in query)
        assert (await line.ask("GET", "/health")).status == 200


async def standstill(sim: SimProcess) -> int:
    """Bytes written, once only the answers to this very question are written any more."""
    before, deadline = 0, asyncio.get_running_loop().time() + raw.WAIT
    while (written := sim.stats()["bytes_sent"]) - before > 5000:
        assert asyncio.get_running_loop().time() < deadline
        before = written
        await asyncio.sleep(0.1)
    return written


async def test_bytes_stand_still_while_nobody_reads_and_go_on_then(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    size = 200_000_000
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port, limit=1024)
    try:
        writer.write(raw.request("GET", f"/sim/bytes?n={size}"))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), raw.WAIT)
        written = await standstill(sim)
        assert written < size / 2
        left = size
        while left:
            left -= len(await asyncio.wait_for(reader.read(1 << 20), raw.WAIT))
    finally:
        writer.transport.abort()


async def test_echo_gives_back_what_it_got(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    body = bytes(range(256)) * 20_000
    reply = await raw.once(sim.port, raw.request("PUT", "/sim/echo", body, "Content-Type: image/x"))
    assert (reply.body, reply.headers["content-type"]) == (body, "image/x")


@pytest.mark.parametrize("code", [200, 204, 304, 404, 418, 500])
async def test_status_answers_as_asked_for(sim_engine: SimFactory, code: int) -> None:
    sim = sim_engine()
    async with raw.line(sim.port) as line:
        reply = await line.ask("GET", f"/sim/status?code={code}")
        assert (reply.status, bool(reply.body)) == (code, code not in (204, 304))
        assert (await line.ask("GET", "/health")).status == 200


async def test_head_tells_the_length_and_sends_no_body(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    async with raw.line(sim.port) as line:
        await line.send(raw.request("HEAD", "/v1/models"))
        head = await line.until(b"\r\n\r\n")
        whole = await line.ask("GET", "/v1/models")
        assert b"content-length: %d\r\n" % len(whole.body) in head


async def test_expect_is_answered_before_the_body_is_sent(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    head, _, body = raw.request("POST", "/sim/echo", b"later", "Expect: 100-continue").partition(b"\r\n\r\n")
    async with raw.line(sim.port) as line:
        await line.send(head + b"\r\n\r\n")
        assert (await line.reply()).status == 100
        await line.send(body)
        assert (await line.reply()).body == b"later"


async def test_http_1_0_gets_no_chunks_and_a_close(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    got = await raw.exchange(sim.port, raw.chat(stream=True).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert b"transfer-encoding" not in got
    assert got.endswith(b"data: [DONE]\n\n")


async def test_a_request_in_chunks_is_whole_and_its_trailers_are_no_headers(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    sent = b"POST /sim/echo HTTP/1.1\r\nHost: sim\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent += b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-late: 1\r\n\r\n"
    assert (await raw.once(sim.port, sent)).body == b"abcde"
    assert "x-late" not in dict(sim.stats()["last"]["headers"])


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"a" * 300_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na", 400),
    ],
)
async def test_what_is_no_request_is_refused_and_others_notice_nothing(
    sim_engine: SimFactory, sent: bytes, status: int
) -> None:
    sim = sim_engine()
    async with raw.line(sim.port) as other:
        got, _ = await raw.to_the_end(sim.port, sent)
        assert got.startswith(b"HTTP/1.1 %d " % status)
        assert (await other.ask("GET", "/health")).status == 200
