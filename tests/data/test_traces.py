"""Trace contexts through a worker: untouched where traces are off, continued where they are on; what it notes of each
traced request for control."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.outcome import Outcome
from enginehouse.data.request import Request
from enginehouse.data.traces import MAX_WAITING, Traces
from enginehouse.wire.access_line import Record
from enginehouse.wire.request_head import RequestHead
from enginehouse.wire.span import decode_batch
from tests.data.rig import Call, Engine, Rig, post, rig, until
from tests.data.test_websocket import echo, frame, handshake

TRACE, PARENT = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
SENT = b"Traceparent: 00-%b-%b-01\r\nTraceState: a=1 ,b=2\r\n" % (TRACE, PARENT)
ON: dict[str, Any] = {"otlp_endpoint": "http://127.0.0.1:1"}


async def plain(call: Call) -> None:
    await call.answer(b'{"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}')


async def traced(house: Rig) -> list[Record]:
    """What the worker has for control, as soon as there is anything."""
    traces = house.worker.traces
    assert traces is not None
    await until(lambda: traces.any)
    dropped, records = decode_batch(traces.told())
    assert not dropped
    return records


async def test_where_traces_are_off_a_context_goes_to_the_engine_byte_for_byte() -> None:
    async with rig(engine := Engine("a", plain)) as house:
        assert (await house.ask(post(extra=SENT))).status == 200
        broken = b"traceparent: broken\r\nTRACEPARENT:  twice\r\n"
        assert (await house.ask(post(extra=broken))).status == 200
        assert (await house.ask(post())).status == 200
        assert house.worker.traces is None
    assert SENT in engine.calls[0].head
    assert engine.calls[1].header(b"traceparent") == [b"broken", b"twice"]
    assert engine.calls[2].header(b"traceparent") == []


async def test_a_traced_client_s_context_goes_on_with_our_span_as_the_engine_s_parent() -> None:
    async with rig(engine := Engine("a", plain), **ON) as house:
        assert (await house.ask(post(extra=SENT))).status == 200
        (record,) = await traced(house)
        trace = record.trace
        assert trace is not None
        assert (trace.trace_id, trace.parent_id) == (TRACE, PARENT)
        assert trace.span_id not in (PARENT, b"0" * 16)
        # The same bytes but for the parent's, in the same place.
        assert SENT.replace(PARENT, trace.span_id) in engine.calls[0].head
        assert (record.model, record.service, record.outcome) == ("m", "a", Outcome.ANSWERED)
        assert record.usage is not None
        assert record.usage.prompt == 7
        (attempt,) = trace.tries
        assert (attempt.service, attempt.outcome) == ("a", Outcome.ANSWERED)
        assert record.begun <= attempt.sent <= attempt.ended <= record.ended


async def test_a_key_does_not_leave_the_worker() -> None:
    async with rig(Engine("a", plain), **ON) as house:
        await house.ask(post(extra=b"Authorization: Bearer sk-secret\r\n"))
        traces = house.worker.traces
        assert traces is not None
        await until(lambda: traces.any)
        told = traces.told()
        assert b"sk-secret" not in told
        assert decode_batch(told)[1][0].key == b""


async def test_a_client_that_does_not_record_is_not_recorded_here_and_its_context_stays_its_own() -> None:
    unsampled = SENT.replace(b"-01\r\n", b"-00\r\n")
    async with rig(engine := Engine("a", plain), **ON) as house:
        await house.ask(post(extra=unsampled))
        await house.ask(post(extra=SENT))
        assert len(await traced(house)) == 1
    assert unsampled in engine.calls[0].head


async def test_without_a_context_a_trace_begins_here() -> None:
    async with rig(engine := Engine("a", plain), **ON) as house:
        await house.ask(post())
        await house.ask(post(extra=b"traceparent: 00-broken\r\ntracestate: a=1\r\n"))
        records = await traced(house)
        records += await traced(house) if len(records) < 2 else []
        for record, call in zip(records, engine.calls, strict=True):
            assert record.trace is not None
            assert record.trace.parent_id == b""
            ours = b"00-%b-%b-01" % (record.trace.trace_id, record.trace.span_id)
            assert call.header(b"traceparent") == [ours]
            assert call.header(b"tracestate") == []
        assert len({record.trace.trace_id for record in records if record.trace}) == 2


async def test_who_is_not_among_the_sampled_ones_is_not_sampled_by_the_engine_either() -> None:
    async with rig(engine := Engine("a", plain), **ON, trace_sample=0.0) as house:
        await house.ask(post())
        await house.ask(post(extra=SENT))
        (record,) = await traced(house)
        assert record.trace is not None
        assert record.trace.trace_id == TRACE
    (told,) = engine.calls[0].header(b"traceparent")
    assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-00", told)


async def test_every_attempt_is_told_with_its_service_and_its_outcome() -> None:
    async def break_off(call: Call) -> None:
        call.close()

    first, second = Engine("a", break_off), Engine("b", plain)
    async with rig(first, second, **ON, policy="round_robin") as house:
        assert (await house.ask(post(extra=SENT))).status == 200
        assert (await house.ask(post(extra=SENT))).status == 200
        records = await traced(house)
        while len(records) < 2:
            records += await traced(house)
    tries = [[(each.service, each.outcome) for each in record.trace.tries] for record in records if record.trace]
    assert [("a", Outcome.BROKE_BEFORE_HEAD), ("b", Outcome.ANSWERED)] in tries
    assert {tuple(call.header(b"traceparent")) for call in first.calls} <= {
        tuple(call.header(b"traceparent")) for call in second.calls
    }


@pytest.mark.parametrize("path", ["/v1/realtime?model=m", "/v1/realtime"])
async def test_a_websocket_is_one_span_from_its_handshake_to_its_end(path: str) -> None:
    """Wherever it names its model; the engine's handshake has the context."""
    async with rig(engine := Engine("a", echo), **ON) as house:
        client = await house.client()
        await client.send(handshake(path, SENT))
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        event = frame({"type": "session.update", "session": {"model": "m"}})
        await client.send(event)
        await client.reader.readexactly(len(b"a:" + event))
        assert house.worker.traces is not None
        assert not house.worker.traces.any
        client.close()
        (record,) = await traced(house)
    assert (record.outcome, record.status, record.model, record.service) == (Outcome.CLIENT_LEFT, 101, "m", "a")
    trace = record.trace
    assert trace is not None
    assert (trace.trace_id, trace.parent_id) == (TRACE, PARENT)
    (sent,) = engine.calls[0].header(b"traceparent")
    assert sent == b"00-%b-%b-01" % (TRACE, trace.span_id)


async def test_a_request_that_is_refused_is_traced_and_the_router_s_own_paths_are_not() -> None:
    async with rig(Engine("a", plain), **ON, queue_size=0) as house:
        assert (await house.ask(b"GET /livez HTTP/1.1\r\nhost: house\r\n\r\n", "GET")).status == 200
        assert (await house.ask(post(path="/sleep"))).status == 403
        assert (await house.ask(post(b"{", extra=SENT))).status == 400
        assert (await house.ask(post(b'{"model":"gone"}', extra=SENT))).status == 503
        records = await traced(house)
        while len(records) < 2:
            records += await traced(house)
        assert [record.outcome for record in records] == [Outcome.BAD_JSON, Outcome.NO_SERVICE_FOR_MODEL]
        assert [record.trace.tries for record in records if record.trace] == [[], []]


async def test_a_head_that_many_requests_share_is_theirs_without_anybody_s_context() -> None:
    """The worker remembers heads by their bytes: the ids of one request must not go on with the next."""
    async with rig(engine := Engine("a", plain), **ON) as house:
        client = await house.client()
        for _ in range(5):
            await client.send(post())
            await client.answer()
        assert len(house.worker.known_heads) == 1
    assert len({call.header(b"traceparent")[0] for call in engine.calls}) == 5


async def test_what_waits_for_control_is_bounded_and_what_does_not_fit_is_counted() -> None:
    async with rig(Engine("a", plain), **ON) as house:
        await house.ask(post(extra=SENT))
        (record,) = await traced(house)
    traces = Traces(RouterConfig())
    for _ in range(5):
        traces.take([record] * (MAX_WAITING // 4), 0.0)
    dropped, records = decode_batch(traces.told())
    assert (dropped, len(records)) == (MAX_WAITING // 4, MAX_WAITING)
    assert traces.told() == b""
    traces.take([record._replace(trace=None)], 0.0)
    assert not traces.any


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_that_is_sampled_is_the_one_that_was_set(share: float) -> None:
    traces, head = (
        Traces(RouterConfig(trace_sample=share), random.Random(7)),
        RequestHead(b"GET", b"/", "1.1", True, []),
    )
    requests = [Request("", 0.0, head) for _ in range(4000)]
    for request in requests:
        traces.begin(request)
    sampled = sum(request.trace is not None for request in requests)
    assert sampled == pytest.approx(4000 * share, abs=100)
    assert 0 < share < 1 or sampled == 4000 * share
