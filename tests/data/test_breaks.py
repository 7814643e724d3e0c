"""Engines that fail: before the first byte another attempt, after it an honest end, never a clean one."""

from __future__ import annotations

import asyncio
import json

import pytest

from enginehouse.core.fleet import Service
from tests.data.rig import Call, Engine, Script, post, rig, until

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def plain(call: Call) -> None:
    await call.answer(call.engine.name.encode())


async def die(call: Call) -> None:
    call.reset()


async def test_a_connection_that_cannot_be_made_goes_to_another_service() -> None:
    dead = Engine("dead", plain)
    async with rig(dead, Engine("b", plain)) as house:
        dead._server.close()
        for _ in range(4):
            answer = await house.ask(post())
            assert (answer.status, answer.body) == (200, b"b")
        assert answer.header("x-enginehouse-service") == "b"


async def test_a_reused_connection_that_dies_before_any_byte_is_repeated_once_on_a_fresh_one() -> None:
    async def script(call: Call) -> None:
        if call.number == 1:
            call.close()  # as an engine does whose keep-alive time has just passed
        else:
            await call.answer()

    engine = Engine("a", script)
    async with rig(engine) as house:
        client = await house.client()
        for _ in range(4):
            await client.send(post())
            answer = await client.answer()
            assert answer.status == 200
    assert engine.connections > 1


async def test_an_engine_that_dies_before_its_head_is_followed_by_one_other_attempt() -> None:
    async with rig(Engine("a", die), Engine("b", plain)) as house:
        for _ in range(2):
            answer = await house.ask(post())
            assert (answer.status, answer.body) == (200, b"b")


async def test_a_request_that_broke_two_services_is_answered_with_502() -> None:
    engines = [Engine(name, die) for name in "abc"]
    async with rig(*engines) as house:
        answer = await house.ask(post())
        error = json.loads(answer.body)["error"]
        assert (answer.status, error["type"], error["code"]) == (502, "server_error", "bad_gateway")
        assert answer.header("x-enginehouse-attempts") == "2"
    assert sum(len(engine.calls) for engine in engines) == 2


@pytest.mark.parametrize(
    "garbage",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"\0" * 100,
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70000,
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ],
    ids=["ssh", "status", "both lengths", "bad length", "nul", "huge head", "unasked upgrade"],
)
async def test_garbage_instead_of_an_answer_is_a_502(garbage: bytes) -> None:
    async def script(call: Call) -> None:
        await call.send(garbage)
        await call.gone()

    async with rig(Engine("a", script)) as house:
        answer = await house.ask(post())
        assert answer.status == 502
        assert json.loads(answer.body)["error"]["code"] == "bad_gateway"


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_stream_that_breaks_ends_with_an_error_event_and_never_cleanly(ending: str) -> None:
    async def script(call: Call) -> None:
        await call.send(SSE + chunk(EVENT))
        await asyncio.sleep(0.01)
        getattr(call, ending)()

    async with rig(Engine("a", script)) as house:
        answer = await house.ask(post())
        events = answer.body.split(b"\n\n")
        assert events[0] + b"\n\n" == EVENT
        broken = json.loads(events[1].removeprefix(b"data: "))
        assert broken["error"]["code"] == "bad_gateway"
        assert broken["choices"][0]["finish_reason"] == "error"
        assert b"[DONE]" not in answer.body


async def test_a_stream_that_ends_with_its_connection_and_without_done_is_broken() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + EVENT)
        call.close()

    async with rig(Engine("a", script)) as house:
        assert b'"finish_reason":"error"' in (await house.ask(post())).body


async def test_a_stream_that_ends_with_its_connection_behind_done_is_whole() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + EVENT + b"data: [DONE]\n\n")
        call.close()

    async with rig(Engine("a", script)) as house:
        assert (await house.ask(post())).body == EVENT + b"data: [DONE]\n\n"


async def within_an_event(call: Call) -> None:
    await call.send(SSE + chunk(EVENT) + chunk(EVENT + b'data: {"cho'))
    call.close()


async def test_a_stream_cut_within_an_event_is_aborted_because_no_event_can_be_framed() -> None:
    async with rig(Engine("a", within_an_event)) as house:
        client = await house.client()
        await client.send(post(path="/v1/messages"))
        with pytest.raises((EOFError, asyncio.IncompleteReadError)):
            await client.answer()


async def test_of_a_stream_that_may_be_continued_the_client_gets_whole_events_only() -> None:
    async with rig(Engine("a", within_an_event)) as house:
        answer = await house.ask(post())
    assert answer.body.startswith(EVENT + EVENT + b'data: {"error"')


@pytest.mark.parametrize(
    ("path", "marks"),
    [
        ("/v1/messages", [b"event: error", b'"api_error"']),
        ("/v1/responses", [b"event: error", b'"type":"error"']),
    ],
)
async def test_other_dialects_get_their_own_error_event(path: str, marks: list[bytes]) -> None:
    async def script(call: Call) -> None:
        await call.send(SSE + chunk(b"event: ping\ndata: {}\n\n"))
        call.close()

    async with rig(Engine("a", script)) as house:
        body = (await house.ask(post(path=path))).body
        for mark in marks:
            assert mark in body


async def test_a_length_delimited_answer_that_breaks_is_visibly_short() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
        call.close()

    async with rig(Engine("a", script)) as house:
        client = await house.client()
        await client.send(post())
        head = await client.read_head()
        assert b"content-length: 10" in head
        assert await client.closed() == b"abc"


async def test_surplus_bytes_close_the_connection_and_never_answer_the_next_request() -> None:
    """Trap: surplus bytes on a pooled connection parse as a next response (poisoning)."""
    poison = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nPOISON"

    async def script(call: Call) -> None:
        body = b'{"good":1}'
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b%b" % (len(body), body, poison))
        await asyncio.sleep(0.01)
        call.writer.write(poison)

    engine = Engine("a", script)
    async with rig(engine) as house:
        client = await house.client()
        for _ in range(3):
            await client.send(post())
            assert (await client.answer()).body == b'{"good":1}'
    assert engine.connections == 3


@pytest.mark.parametrize("cut", [0, 70, 74])
async def test_an_answer_longer_than_it_announced_never_looks_whole(cut: int) -> None:
    """Whether nothing of it was passed on before that was seen, or its head, or some of its body."""

    async def script(call: Call) -> None:
        data = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 8\r\n\r\n{"longer":true}'
        await call.send(data[:cut])
        await asyncio.sleep(0.05)
        await call.send(data[cut:])

    async with rig(Engine("a", script)) as house:
        client = await house.client()
        await client.send(post())
        if cut:
            await client.read_head()
            assert len(await client.closed()) < 8
        else:
            answer = await client.answer()
            assert answer.status == 502
            assert b"bad_gateway" in answer.body


async def test_bytes_on_an_idle_connection_close_it() -> None:
    """Trap: the same, when the surplus comes late."""
    sent = asyncio.Event()

    async def script(call: Call) -> None:
        await call.answer(b"1")
        if call.number == 0 and len(call.engine.calls) == 1:
            await asyncio.sleep(0.02)
            await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nPOISON")
            await call.gone()
            sent.set()

    async with rig(Engine("a", script)) as house:
        client = await house.client()
        await client.send(post())
        assert (await client.answer()).body == b"1"
        await asyncio.wait_for(sent.wait(), 5)
        await client.send(post())
        assert (await client.answer()).body == b"1"


async def test_a_4xx_of_an_engine_passes_in_the_openai_shape_and_blames_nobody() -> None:
    async def script(call: Call) -> None:
        await call.answer(b'{"object":"error","message":"no such lora","code":400}', status=b"400 Bad Request")

    async with rig(Engine("a", script), max_errors=1) as house:
        for _ in range(3):
            answer = await house.ask(post())
            error = json.loads(answer.body)["error"]
            assert answer.status == 400
            assert error["message"] == "no such lora"
            assert set(error) == {"message", "type", "param", "code"}
        assert house.shared.ejected_until[0] == 0


async def test_verbatim_errors_leaves_an_engines_error_as_it_is() -> None:
    body = b'{"object":"error","message":"x"}'

    async def script(call: Call) -> None:
        await call.answer(body, status=b"400 Bad Request")

    async with rig(Engine("a", script), verbatim_errors=True) as house:
        assert (await house.ask(post())).body == body


async def test_an_error_body_without_length_or_too_large_is_still_passed_on() -> None:
    big = b"x" * 200_000

    async def script(call: Call) -> None:
        head = b"HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n"
        await call.send(head + chunk(big) + b"0\r\n\r\n")

    async with rig(Engine("a", script)) as house:
        answer = await house.ask(post())
        assert (answer.status, answer.body) == (500, big)


async def test_one_transport_error_does_not_bench_a_service_but_max_errors_in_a_row_do() -> None:
    """Defect: One transport error benches a service."""
    failing = {"now": True}

    async def script(call: Call) -> None:
        call.reset() if failing["now"] else await call.answer(call.engine.name.encode())

    async with rig(Engine("a", script), Engine("b", plain), max_errors=3) as house:
        for _ in range(2):  # of two requests one meets "a" first
            assert (await house.ask(post())).status == 200
        assert house.shared.ejected_until[0] == 0
        for _ in range(6):
            await house.ask(post())
        assert house.shared.ejected_until[0] > house.worker.now()


async def test_a_success_in_between_starts_the_count_of_failures_anew() -> None:
    async def script(call: Call) -> None:
        if len(call.engine.calls) % 3 == 0:
            await call.answer()
        else:
            call.reset()

    async with rig(Engine("a", script), max_errors=3) as house:
        for _ in range(9):
            await house.ask(post())
        assert house.shared.ejected_until[0] == 0


@pytest.mark.parametrize("script", [plain, die])
async def test_each_attempt_is_counted_once(script: Script) -> None:
    """Defect: Requests are counted twice."""
    async with rig(Engine("a", script), Engine("b", plain)) as house:
        for _ in range(2):
            await house.ask(post())
        requests = {count.slot: count.requests for count in house.worker.counters.report(1, 1).counts}
        assert requests == {0: len(house.engines[0].calls), 1: len(house.engines[1].calls)}
        errors = [count.errors for count in house.worker.counters.report(1, 1).counts if not count.slot]
        assert errors == [1 if script is die else 0]


async def test_a_service_without_an_address_is_a_connection_that_cannot_be_made() -> None:
    from enginehouse.core.fleet import Fleet

    async with rig(Engine("a", plain)) as house:
        lost = Service(
            name="x", slot=5, generation=1, host="gone.invalid", addresses=(), port=1, models=("m",), up=True
        )
        house.worker.use_fleet(Fleet(version=2, synced=True, services=(lost,)))
        answer = await house.ask(post())
        assert answer.status == 502
        assert "resolved" in json.loads(answer.body)["error"]["message"]


async def test_an_answer_to_an_http_1_0_client_that_breaks_is_reset_because_its_end_would_look_whole() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"half"))
        await asyncio.sleep(0.01)
        call.close()

    async with rig(Engine("a", script)) as house:
        client = await house.client()
        await client.send(post().replace(b"HTTP/1.1", b"HTTP/1.0"))
        await client.read_head()
        with pytest.raises(ConnectionError):
            await client.closed()


BUSY = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


async def busy(call: Call) -> None:
    await call.answer(BUSY, status=b"503 Service Unavailable", extra=b"Retry-After: 7\r\n")


async def limited(call: Call) -> None:
    await call.answer(b"", status=b"429 Too Many Requests")


@pytest.mark.parametrize("script", [busy, limited])
async def test_a_503_or_429_of_an_engine_is_tried_on_another_service_and_blames_nobody(script: Script) -> None:
    """Defect: 429/5xx are never retried; no back-off."""
    async with rig(Engine("a", script), Engine("b", plain), max_errors=1) as house:
        answers = [await house.ask(post()) for _ in range(4)]
        assert [answer.status for answer in answers] == [200] * 4
        assert {answer.header("x-enginehouse-attempts") for answer in answers} == {"1", "2"}
        assert house.shared.ejected_until[0] == 0


NO_MODEL = b'{"error":{"message":"The model `m` does not exist.","type":"NotFoundError","param":null,"code":404}}'


async def test_an_engine_that_has_not_got_its_model_any_more_is_passed_over_and_stays_in_use() -> None:
    """Its port may be another program's by now; or it is a path that this engine has not, and another one has."""

    async def lost(call: Call) -> None:
        await call.answer(NO_MODEL, status=b"404 Not Found")

    engines = Engine("a", lost), Engine("b", plain)
    async with rig(*engines, max_errors=1, learn_capacity=True) as house:
        answers = [await house.ask(post()) for _ in range(4)]
        assert [answer.status for answer in answers] == [200] * 4
        assert {answer.header("x-enginehouse-attempts") for answer in answers} == {"1", "2"}
        assert house.shared.ejected_until[0] == 0
        assert len(engines[0].calls) == 2, "it does not rest: a path that nobody has must not keep engines from work"
        assert house.shared.learned[0] == 0, "it did not have too much to do"
        assert [count.rejections for count in house.worker.counters.report(1, 1).counts] == [0, 0]
    async with rig(Engine("a", lost), Engine("b", lost)) as house:
        answer = await house.ask(post())
        assert answer.status == 404
        assert b"does not exist" in answer.body


async def test_where_every_service_rejects_the_last_ones_answer_is_passed_on_with_its_retry_after() -> None:
    engines = Engine("a", busy), Engine("b", busy)
    async with rig(*engines) as house:
        client = await house.client()
        for _ in range(2):
            await client.send(post())
            answer = await client.answer()
            assert (answer.status, answer.header("retry-after")) == (503, "7")
            assert json.loads(answer.body)["error"]["message"] == "Loading model"
    assert [len(engine.calls) for engine in engines] == [2, 2]


async def test_a_500_of_an_engine_is_passed_on_because_it_may_be_the_requests_fault() -> None:
    async def script(call: Call) -> None:
        await call.answer(BUSY, status=b"500 Internal Server Error")

    engines = Engine("a", script), Engine("b", script)
    async with rig(*engines) as house:
        assert (await house.ask(post())).status == 500
    assert sum(len(engine.calls) for engine in engines) == 1


async def test_a_client_that_leaves_during_the_back_off_ends_it() -> None:
    engines = Engine("a", busy), Engine("b", busy)
    async with rig(*engines) as house:
        house.worker.rng.random = lambda: 20.0  # type: ignore[method-assign]
        client = await house.client()
        await client.send(post())
        await until(lambda: engines[0].calls)
        client.close()
        await until(lambda: not house.worker.clients)
        assert house.load() == 0
    assert engines[1].calls == []
