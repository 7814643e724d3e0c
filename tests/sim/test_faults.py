"""Every fault of the simulated engine, seen over a plain socket."""

import asyncio
import gzip
import json
import zlib

import pytest

from enginehouse.core.config.base import ConfigError
from enginehouse.sim.faults import Fault, FaultBook, parse
from tests.e2e.engines import SimFactory
from tests.sim import raw


def test_a_fault_is_spelled_as_its_kind_and_fields() -> None:
    assert parse("reset:after=3,times=2,path=/v1/chat") == Fault(kind="reset", after=3, times=2, path="/v1/chat")
    assert parse("stall:seconds=0.5,reused=true") == Fault(kind="stall", seconds=0.5, reused=True)
    assert parse(r"garbage:times=1,data=a,b\r\n\x00") == Fault(kind="garbage", times=1, data="a,b\r\n\x00")
    assert parse("informational").code == 103


@pytest.mark.parametrize(
    ("spelled", "hint"),
    [
        ("rest", "there are: refuse, silent"),
        ("reset:afer=3", "did you mean `after`"),
        ("reset:after=three", "not a number"),
        ("status:code=1000", "599"),
        ("status:code=true", "code"),
    ],
)
def test_a_misspelled_fault_is_refused_with_what_to_write_instead(spelled: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        parse(spelled)


def test_a_fault_meets_work_but_no_probe_unless_its_path_says_so() -> None:
    book = FaultBook([parse("status"), parse("silent:path=/health")])
    assert set(book.meet("/v1/chat/completions", reused=False)) == {"status"}
    assert set(book.meet("/v1/models", reused=False)) == set()
    assert set(book.meet("/health", reused=False)) == {"silent"}


def test_a_fault_happens_as_often_as_it_says_and_then_the_next_of_its_kind() -> None:
    book = FaultBook([parse("status:code=500,times=1"), parse("status:code=503,times=2")])
    met = [book.meet("/v1/x", reused=False).get("status") for _ in range(4)]
    assert [fault and fault.code for fault in met] == [500, 503, 503, None]


def test_a_fault_of_reused_connections_leaves_fresh_ones_alone() -> None:
    book = FaultBook([parse("close:after=-1,reused=true")])
    assert not book.meet("/v1/x", reused=False)
    assert book.meet("/v1/x", reused=True)


async def test_refuse_closes_the_port_and_opens_the_same_one_again(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    sim.set_faults("refuse:seconds=0.2")
    with pytest.raises(ConnectionRefusedError):
        async with raw.line(sim.port):
            pass
    await sim.wait_ready()


async def test_refuse_ends_when_the_faults_are_taken_back_on_a_connection_that_was_open(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    async with raw.line(sim.port) as line:
        await line.ask("POST", "/sim/faults", {"faults": ["refuse"]})
        with pytest.raises(ConnectionRefusedError):
            async with raw.line(sim.port):
                pass
        await line.ask("POST", "/sim/faults", {"faults": []})
    await sim.wait_ready()


async def test_refuse_as_a_setting_counts_from_the_start(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["refuse"])
    with pytest.raises(ConnectionRefusedError):
        async with raw.line(sim.port):
            pass


async def test_silent_reads_the_request_and_never_answers(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["silent"])
    async with raw.line(sim.port) as line:
        await line.send(raw.chat())
        assert await line.nothing_for(0.2)
        assert sim.stats()["active"] == 1
    stats = await sim.until(lambda stats: stats["aborted"] == 1)
    assert stats["active"] == 0


async def test_silent_with_seconds_answers_then(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["silent:seconds=0.2"])
    async with raw.line(sim.port) as line:
        await line.send(raw.chat())
        assert await line.nothing_for(0.1)
        assert (await line.reply()).status == 200


async def test_stall_head_sends_half_a_head(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["stall_head"])
    async with raw.line(sim.port) as line:
        await line.send(raw.chat())
        assert await line.until(b"200 OK\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(line.reader.readuntil(b"\r\n\r\n"), 0.2)


async def test_stall_head_with_seconds_sends_the_rest_then(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["stall_head:seconds=0.1"])
    assert raw.text_of((await raw.once(sim.port, raw.chat(stream=True))).body)


async def test_stall_stops_after_some_chunks_and_goes_on_where_it_was(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["stall:after=2,seconds=0.3"])
    async with raw.line(sim.port) as line:
        await line.send(raw.chat(stream=True))
        await line.until(b"\r\n\r\n")
        chunks = line.chunks()
        early = [await anext(chunks), await anext(chunks)]
        assert await line.nothing_for(0.1)
        late = [chunk async for chunk in chunks]
    sim.set_faults()
    whole = await raw.once(sim.port, raw.chat(stream=True))
    assert raw.text_of(b"".join(early + late)) == raw.text_of(whole.body)


async def test_a_stalled_engine_does_not_pile_up_what_it_would_have_sent(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["stall:after=1,path=/sim/bytes"])
    async with raw.line(sim.port) as line:
        await line.send(raw.request("GET", "/sim/bytes?n=10000000000"))
        await line.until(b"\r\n\r\n")
        await asyncio.wait_for(line.reader.readexactly(65536), raw.WAIT)
        assert await line.nothing_for(0.1)
        assert sim.stats()["bytes_sent"] < 100_000


@pytest.mark.parametrize("after", [-1, 0, 1, 3])
async def test_reset_comes_after_the_chunks_it_says(sim_engine: SimFactory, after: int) -> None:
    sim = sim_engine(faults=[f"reset:after={after}"])
    got, error = await raw.to_the_end(sim.port, raw.chat(stream=True))
    assert isinstance(error, ConnectionResetError)
    assert got.count(b"data: ") == max(after, 0)
    assert (got == b"") == (after == -1)
    assert sim.stats()["aborted"] == 0, "the engine's own doing is no client's"


@pytest.mark.parametrize("after", [-1, 0, 1, 3])
async def test_close_comes_after_the_chunks_it_says_without_an_end_of_the_framing(
    sim_engine: SimFactory, after: int
) -> None:
    sim = sim_engine(faults=[f"close:after={after}"])
    got = await raw.exchange(sim.port, raw.chat(stream=True))
    assert got.count(b"data: ") == max(after, 0)
    assert not got.endswith(b"0\r\n\r\n")
    assert (got == b"") == (after == -1)


async def test_half_close_ends_its_own_side_and_still_reads(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["half_close:after=1"])
    async with raw.line(sim.port) as line:
        await line.send(raw.chat(stream=True))
        got = await line.rest()
        assert got.count(b"data: ") == 1
        assert not got.endswith(b"0\r\n\r\n")
        before = sim.stats()["bytes_received"]
        await line.send(raw.chat())
        await sim.until(lambda stats: stats["bytes_received"] > before)


async def test_close_in_the_middle_of_an_answer_with_a_length(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["close:after=1"])
    head, _, body = (await raw.exchange(sim.port, raw.chat())).partition(b"\r\n\r\n")
    announced = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    assert 0 < len(body) < announced


async def test_end_looks_complete_but_lacks_the_last_events(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["end:after=3"])
    async with raw.line(sim.port) as line:
        await line.send(raw.chat(stream=True))
        reply = await line.reply()
        assert len(raw.events(reply.body)) == 3
        assert b"[DONE]" not in reply.body
        assert (await line.ask("GET", "/health")).status == 200, "the connection is as good as after any answer"


async def test_truncated_chunk_announces_more_than_it_sends(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["truncated_chunk:after=1"])
    async with raw.line(sim.port) as line:
        await line.send(raw.chat(stream=True))
        await line.until(b"\r\n\r\n")
        chunks = line.chunks()
        await anext(chunks)
        with pytest.raises(asyncio.IncompleteReadError):
            await anext(chunks)


async def test_error_event_says_in_the_stream_what_went_wrong(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["error_event:after=2"])
    reply = await raw.once(sim.port, raw.chat(stream=True))
    last = json.loads(raw.events(reply.body)[-1].removeprefix(b"data: "))
    assert last["error"]["code"] == 500
    assert b"[DONE]" not in reply.body


@pytest.mark.parametrize("code", [400, 429, 500, 503])
async def test_status_answers_at_once(sim_engine: SimFactory, code: int) -> None:
    sim = sim_engine(faults=[f"status:code={code},seconds=7"], ttft=60)
    reply = await raw.once(sim.port, raw.chat())
    assert (reply.status, reply.headers["retry-after"]) == (code, "7")
    assert reply.json["error"]["code"] == code


async def test_early_status_answers_before_the_body_is_there_and_closes(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["early_status:code=413"])
    head, _, _ = raw.request("POST", "/v1/chat/completions", b"x" * 1000).partition(b"\r\n\r\n")
    assert (await raw.exchange(sim.port, head + b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("data", ["", r",data=HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"])
async def test_garbage_takes_the_place_of_the_answer(sim_engine: SimFactory, data: str) -> None:
    sim = sim_engine(faults=[f"garbage:times=1{data}"])
    got = await raw.exchange(sim.port, raw.chat())
    assert got == parse(f"garbage:times=1{data}").data.encode("latin-1")


async def test_wrong_length_too_long_ends_before_it(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["wrong_length:by=10"])
    head, _, body = (await raw.exchange(sim.port, raw.chat())).partition(b"\r\n\r\n")
    assert b"content-length: %d\r\n" % (len(body) + 10) in head


async def test_wrong_length_too_short_leaves_surplus_bytes_on_a_connection_that_stays(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["wrong_length:by=-10,times=1"])
    async with raw.line(sim.port) as line:
        reply = await line.ask("POST", "/v1/embeddings", {"input": "a", "model": "sim-model"})
        surplus = await asyncio.wait_for(line.reader.readexactly(10), raw.WAIT)
        assert json.loads(reply.body + surplus)["data"]
        assert (await line.ask("GET", "/health")).status == 200


async def test_gzip_of_a_whole_answer(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["gzip"])
    reply = await raw.once(sim.port, raw.chat())
    assert reply.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(reply.body))["choices"]


async def test_gzip_of_a_stream_can_be_read_chunk_by_chunk(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["gzip"])
    unpacker, events = zlib.decompressobj(wbits=31), b""
    async with raw.line(sim.port) as line:
        await line.send(raw.chat(stream=True))
        assert b"content-encoding: gzip" in await line.until(b"\r\n\r\n")
        async for chunk in line.chunks():
            events += unpacker.decompress(chunk)
            assert events.endswith(b"\n\n")
    assert unpacker.eof
    assert raw.events(events)[-1] == b"data: [DONE]"


@pytest.mark.parametrize("stream", [False, True])
async def test_until_close_has_no_length_and_ends_with_the_connection(sim_engine: SimFactory, stream: bool) -> None:
    sim = sim_engine(faults=["until_close"])
    head, _, body = (await raw.exchange(sim.port, raw.chat(stream))).partition(b"\r\n\r\n")
    assert b"content-length" not in head
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body.endswith(b"data: [DONE]\n\n") if stream else json.loads(body)["choices"]


async def test_trailers_follow_the_last_chunk(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["trailers"])
    got = await raw.exchange(sim.port, raw.chat(False, "Connection: close"))
    assert b"\r\ntrailer: x-sim-trailer\r\n" in got
    assert got.endswith(b"0\r\nx-sim-trailer: 1\r\nx-request-id: spoofed\r\nx-enginehouse-service: spoofed\r\n\r\n")


async def test_informational_comes_before_the_answer(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["informational"])
    async with raw.line(sim.port) as line:
        assert (await line.ask("POST", "/tokenize", {"prompt": "abc"})).status == 103
        assert (await line.reply()).json["count"] == 1


@pytest.mark.parametrize(("seconds", "finishes"), [("0.01", True), ("0", False)])
async def test_slow_read_takes_the_body_piece_by_piece_or_not_at_all(
    sim_engine: SimFactory, seconds: str, finishes: bool
) -> None:
    sim = sim_engine(faults=[f"slow_read:seconds={seconds}"])
    body = b"x" * 8_000_000  # more than the system's buffers take
    sending = asyncio.create_task(raw.once(sim.port, raw.request("POST", "/sim/echo", body)))
    if finishes:
        assert (await sending).body == body
    else:
        await sim.until(lambda stats: stats["requests"] == 1)
        assert sim.stats()["bytes_received"] < len(body)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_huge_head_is_as_large_as_it_says(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["huge_head:bytes=100000"])
    head, _, _ = (await raw.exchange(sim.port, raw.chat(False, "Connection: close"))).partition(b"\r\n\r\n")
    assert len(head) > 100_000


@pytest.mark.parametrize("stream", [False, True])
async def test_split_sends_the_same_bytes_in_pieces(sim_engine: SimFactory, stream: bool) -> None:
    sim = sim_engine(faults=["split:bytes=7"], tokens=3)
    split = await raw.exchange(sim.port, raw.chat(stream, "Connection: close"))
    sim.set_faults()
    whole = await raw.exchange(sim.port, raw.chat(stream, "Connection: close"))
    assert split.split(b"\r\n\r\n")[0] == whole.split(b"\r\n\r\n")[0]
    assert len(split) == len(whole)


async def test_faults_are_shown_and_a_wrong_one_is_refused_and_changes_nothing(sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=["status:code=500"])
    async with raw.line(sim.port) as line:
        refused = await line.ask("POST", "/sim/faults", {"faults": ["stauts"]})
        assert refused.status == 400
        assert "unknown fault" in refused.json["error"]["message"]
        shown = (await line.ask("GET", "/sim/faults")).json["faults"]
    assert [(fault["kind"], fault["code"]) for fault in shown] == [("status", 500)]


async def test_objects_and_strings_spell_the_same_fault(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    sim.set_faults({"kind": "status", "code": 502})
    assert (await raw.once(sim.port, raw.chat())).status == 502
