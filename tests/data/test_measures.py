"""What a worker measures: each counter moves when the thing happens, and labels stay few whatever clients send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from enginehouse.core.fleet import Fleet
from enginehouse.core.metrics import METRICS, OTHER, Labels, Series, Values
from enginehouse.core.outcome import Outcome
from enginehouse.data import measures
from enginehouse.data.measures import Histogram, Measures
from enginehouse.wire.access_line import Entry, Record
from enginehouse.wire.usage import Usage
from tests.data.access_log_rig import entry
from tests.data.rig import Call, Engine, Rig, post, rig, service_of, until
from tests.data.test_resuming import speaking

EVENT_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = b'{"usage":{"prompt_tokens":30,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":20}}}'

Found = dict[str, dict[Labels, Values]]


def by_name(told: Iterable[Series]) -> Found:
    found: Found = {}
    for name, labels, values in told:
        assert len(labels) == len(METRICS[name].labels), name
        assert len(values) == METRICS[name].size, name
        assert labels not in found.setdefault(name, {}), "told twice"
        found[name][labels] = values
    return found


def measured(house: Rig) -> Found:
    """Everything that the worker has measured, as it tells it."""
    worker = house.worker
    worker.ended.flush(worker.now())
    worker.measures.forget_told()
    return by_name(worker.reports.make().measures)


def count(values: Values) -> float:
    """Of a histogram."""
    return sum(values[:-1])


async def plain(call: Call) -> None:
    await call.answer()


async def counted(call: Call) -> None:
    await call.answer(USAGE)


async def busy(call: Call) -> None:
    await call.answer(b"{}", b"429 Too Many Requests")


async def dies(call: Call) -> None:
    call.reset()


async def hangs(call: Call) -> None:
    await call.gone()


# requests


async def test_a_request_is_counted_with_its_model_service_outcome_and_status_and_its_times() -> None:
    async with rig(Engine("a", plain)) as house:
        for _ in range(3):
            await house.ask(post())
        found = measured(house)
    assert found["requests_total"] == {("m", "a", "answered", "2xx"): (3,)}
    assert found["attempts_total"] == {("a", "answered"): (3,)}
    for name in ("request_duration_seconds", "time_to_first_byte_seconds"):
        assert list(found[name]) == [("m", "a")]
        assert count(found[name]["m", "a"]) == 3
        assert 0 < found[name]["m", "a"][-1] < 60
    assert count(found["queue_seconds"][("m",)]) == 3
    assert found["queue_seconds"][("m",)][-1] == 0
    assert count(found["overhead_seconds"][()]) == 3
    assert "time_between_chunks_seconds" not in found
    assert "tokens_total" not in found


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_are_counted_where_the_engine_tells_them(stream: bool) -> None:
    async def script(call: Call) -> None:
        data = b"data: %b\n\n" % USAGE
        await (call.send(EVENT_STREAM + b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)) if stream else counted(call))

    async with rig(Engine("a", script)) as house:
        for _ in range(2):
            await house.ask(post())
        found = measured(house)
    tokens = {("m", "a", "input"): (60,), ("m", "a", "output"): (10,), ("m", "a", "cached"): (40,)}
    assert found["tokens_total"] == tokens


async def test_what_an_engine_does_not_tell_is_no_zero() -> None:
    async def tells_some(call: Call) -> None:
        await call.answer(b'{"usage":{"prompt_tokens":30,"completion_tokens":5}}')

    async with rig(Engine("a", tells_some)) as house:
        await house.ask(post())
        assert {labels[2] for labels in measured(house)["tokens_total"]} == {"input", "output"}


async def test_the_times_between_the_chunks_of_a_stream_are_counted_chunk_by_chunk() -> None:
    reads = asyncio.Semaphore(0)

    async def script(call: Call) -> None:
        await call.send(EVENT_STREAM)
        for piece in (b"8\r\ndata: a\n\r\n", b"8\r\ndata: b\n\r\n", b"8\r\ndata: c\n\r\n", b"0\r\n\r\n"):
            await call.send(piece)
            await reads.acquire()

    async with rig(Engine("a", script), failover=False) as house:
        client = await house.client()
        await client.send(post())
        await client.read_head()
        for piece in (b"a\n\r\n", b"b\n\r\n", b"c\n\r\n", b"0\r\n\r\n"):
            await client.reader.readuntil(piece)
            await asyncio.sleep(0.01)
            reads.release()
        await house.idle()
        values = measured(house)["time_between_chunks_seconds"]["m", "a"]
    assert count(values) == 2, "three chunks have two gaps; neither the head nor the end is one"
    assert values[-1] > 0.015
    assert not any(values[:3]), "none was shorter than 4 ms"


async def test_the_share_of_prompts_that_were_warm_is_counted_in_bytes() -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "warm " * 2000}]}).encode()
    async with rig(Engine("a", counted), Engine("b", counted), policy="prefix") as house:
        for _ in range(2):
            await house.ask(post(body))
        found = measured(house)
    prompts = sum(values[0] for values in found["prefix_prompt_bytes_total"].values())
    matched = sum(values[0] for values in found["prefix_matched_bytes_total"].values())
    assert prompts > 20_000
    assert 0.4 < matched / prompts < 0.5, "nothing the first time, nearly all the second"


async def test_the_routers_own_paths_are_counted_apart() -> None:
    async with rig(Engine("a", plain)) as house:
        assert (await house.ask(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n", "GET")).status == 502
        found = measured(house)
    assert found["own_requests_total"] == {("connect_failed", "5xx"): (1,)}
    assert "requests_total" not in found
    assert "attempts_total" not in found
    assert "ejections_total" not in found, "control is no service"


# what happens on the way


async def test_retries_and_the_attempts_that_failed_are_counted() -> None:
    async with rig(Engine("a", dies), Engine("b", plain), policy="round_robin") as house:
        for _ in range(2):
            assert (await house.ask(post())).status == 200
        found = measured(house)
        retries = len(house.engines[0].calls)
    assert retries >= 1
    assert found["retries_total"] == {(): (retries,)}
    assert found["attempts_total"]["a", Outcome.BROKE_BEFORE_HEAD.value] == (retries,)
    assert found["attempts_total"]["b", "answered"] == (2,)
    assert found["requests_total"] == {("m", "b", "answered", "2xx"): (2,)}


async def test_a_failover_is_counted_and_the_chunks_after_it_are_the_other_services() -> None:
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "?"}]}).encode()
    engines = [Engine(name, speaking(3, "reset") if name == "a" else speaking(), continues=True) for name in "ab"]
    async with rig(*engines, policy="round_robin") as house:
        for _ in range(2):
            assert b"[DONE]" in (await house.ask(post(body))).body
        found = measured(house)
    assert found["failovers_total"] == {(): (1,)}
    assert found["attempts_total"]["a", Outcome.BROKE_MIDWAY.value] == (1,)
    assert ("m", "b") in found["time_between_chunks_seconds"]


async def test_hedges_are_counted() -> None:
    async with rig(Engine("a", hangs), Engine("b", plain), hedge_after=0.03, policy="round_robin") as house:
        for _ in range(2):
            assert (await house.ask(post())).status == 200
        found = measured(house)
    assert found["hedges_total"] == {(): (1,)}
    assert found["attempts_total"] == {("b", "answered"): (2,)}, "who was outrun did not end"


async def test_a_client_that_leaves_is_a_cancellation_and_no_failure() -> None:
    async with rig(Engine("a", hangs)) as house:
        client = await house.client()
        await client.send(post())
        await until(lambda: house.engines[0].calls)
        client.close()
        await house.idle()
        found = measured(house)
    assert found["cancellations_total"] == {("m", "a"): (1,)}
    assert found["requests_total"] == {("m", "a", "client_left", "none"): (1,)}
    assert found["attempts_total"] == {("a", "client_left"): (1,)}


def test_a_client_that_ends_its_websocket_has_cancelled_nothing() -> None:
    made = Measures(0)
    made.use({"a"}, frozenset({"m"}), 1.0)
    made.take([ended("m", outcome=Outcome.CLIENT_LEFT, status=101)], 1.0)
    made.take([ended("m", outcome=Outcome.CLIENT_STALLED, status=200)], 1.0)
    assert by_name(made.tell()[0])["cancellations_total"] == {("m", "a"): (1,)}


async def test_an_ejection_is_counted() -> None:
    async with rig(Engine("a", dies), Engine("b", plain), max_errors=2, policy="round_robin") as house:
        for _ in range(6):
            await house.ask(post())
        found = measured(house)
    assert found["ejections_total"] == {("a",): (1,), ("b",): (0,)}


async def test_waiting_is_measured_also_where_it_was_in_vain_and_lines_are_a_gauge() -> None:
    async with rig(Engine("a", hangs, capacity=1), queue_timeout=0.1) as house:
        first, second = await house.client(), await house.client()
        await first.send(post())
        await until(house.load)
        await second.send(post())
        await until(lambda: house.worker.room.waiting)
        gauges = by_name(house.worker.reports._vitals._gauges())
        assert gauges["queue_length"] == {("m",): (1,)}
        assert gauges["connections"] == {("0",): (2,)}
        assert (await second.answer()).status == 503
        found = measured(house)
        assert found["requests_total"] == {("m", "", Outcome.QUEUE_TIMEOUT.value, "5xx"): (1,)}
        assert count(found["queue_seconds"][("m",)]) == 1
        assert found["queue_seconds"][("m",)][-1] >= 0.1
        assert "request_duration_seconds" not in found, "it was sent to nobody"


async def test_an_engines_refusal_is_told_by_the_class_of_its_status() -> None:
    async with rig(Engine("a", busy)) as house:
        assert (await house.ask(post())).status == 429
        found = measured(house)
    assert found["requests_total"] == {("m", "a", "rejected", "4xx"): (1,)}


async def test_a_request_that_cannot_be_read_is_counted_without_model_and_service() -> None:
    async with rig(Engine("a", plain)) as house:
        assert (await house.ask(post(b"no json"))).status == 400
        found = measured(house)
    assert found["requests_total"] == {("", "", "bad_json", "4xx"): (1,)}
    assert count(found["queue_seconds"][("",)]) == 0


async def test_lag_of_the_loop_is_measured_by_every_worker_under_its_number() -> None:
    assert by_name(Measures(7).tell()[0])["loop_lag_seconds"].keys() == {("7",)}


# bounds


async def test_models_that_clients_invent_are_one_label_in_a_real_worker() -> None:
    async with rig(Engine("a", plain)) as house:
        client = await house.client()
        for number in range(300):
            await client.send(post(b'{"model":"invented-%d"}' % number))
            assert (await client.answer()).status == 503
        found = measured(house)
    assert found["requests_total"] == {(OTHER, "", "model_unknown", "5xx"): (300,)}


def ended(model: str, service: str = "a", **fields: Any) -> Entry:
    return Record(*entry("x", model))._replace(service=service, **fields)


def test_a_million_invented_names_are_one_series_and_no_memory() -> None:
    made = Measures(0)
    made.use({"a"}, frozenset({"m"}), 1.0)
    for batch in range(1000):
        made.take([ended(f"{batch}-{number}", "") for number in range(1000)], 1.0)
    made.take([ended("m")], 1.0)
    assert {labels[0] for labels in by_name(made.tell()[0])["requests_total"]} == {OTHER, "m"}
    made.forget_told()
    assert by_name(made.tell()[0])["requests_total"][OTHER, "", "answered", "2xx"] == (10**6,)
    assert len(made._pairs) == len(made._queues) == 2


def test_pairs_of_models_and_services_are_bounded_too() -> None:
    made = Measures(0, max_pairs=10)
    known = frozenset(f"m{number}" for number in range(100))
    made.use({"a"}, known, 1.0)
    made.take([ended(model) for model in sorted(known)], 1.0)
    found = by_name(made.tell()[0])["requests_total"]
    assert len(found) <= 11
    assert sum(values[0] for values in found.values()) == 100
    assert found[OTHER, "a", "answered", "2xx"][0] >= 90


def test_a_service_that_has_left_is_forgotten_long_after_and_goes_on_where_it_was_if_it_returns_before() -> None:
    made = Measures(0)
    made.use({"a", "b"}, frozenset({"m"}), 1.0)
    made.take([ended("m", "a"), ended("m", "b")], 1.0)
    made.tries("a").answered += 1
    made.use({"b"}, frozenset({"m"}), 2.0)
    made.use({"a", "b"}, frozenset({"m"}), 2.0 + measures.KEEP + 1)
    made.take([ended("m", "a")], 1.0)
    assert by_name(made.tell()[0])["requests_total"]["m", "a", "answered", "2xx"] == (2,)
    made.use({"b"}, frozenset({"m"}), 1000.0)
    made.use({"b"}, frozenset({"m"}), 1000.0 + measures.KEEP)
    made.forget_told()
    found = by_name(made.tell()[0])
    assert list(found["requests_total"]) == [("m", "b", "answered", "2xx")]
    assert "attempts_total" not in found


async def test_counts_go_on_when_a_service_comes_back_as_another_incarnation() -> None:
    async with rig(Engine("a", plain)) as house:
        await house.ask(post())
        fresh = Fleet(version=2, synced=True, services=(service_of(house.engines[0], 5),), known_models=("m",))
        house.worker.use_fleet(fresh)
        await house.ask(post())
        found = measured(house)
    assert found["attempts_total"] == {("a", "answered"): (2,)}
    assert found["requests_total"] == {("m", "a", "answered", "2xx"): (2,)}


# telling control


def test_only_what_changed_is_told_again() -> None:
    made = Measures(0)
    made.use({"a", "b"}, frozenset({"m"}), 1.0)
    made.take([ended("m", "a"), ended("m", "b")], 1.0)
    assert {labels[1] for labels in by_name(made.tell()[0])["requests_total"]} == {"a", "b"}
    made.take([ended("m", "b")], 1.0)
    found = by_name(made.tell()[0])
    assert found["requests_total"] == {("m", "b", "answered", "2xx"): (2,)}
    assert made.tell() == ([], False)


def test_what_is_too_long_for_one_report_follows_with_the_next_ones_and_nothing_is_left_out() -> None:
    made = Measures(0, max_told=4096)
    names = {f"s{number}" for number in range(200)}
    made.use(names, frozenset({"m"}), 1.0)
    made.take([ended("m", name) for name in sorted(names)], 1.0)
    told, rounds, more = [], 0, True
    while more:
        some, more = made.tell()
        assert sum(40 + 9 * len(values) for _, _, values in some) < 8192
        told += some
        rounds += 1
        made.take([ended("m", "s7")], 1.0)  # what changes all the while keeps nobody from being told
    assert rounds > 5
    assert {labels[1] for name, labels, _ in told if name == "requests_total"} == names


@pytest.mark.parametrize(
    ("value", "bucket"), [(0.0, 0), (0.01, 0), (0.0100001, 1), (0.02, 1), (81.92, 13), (81.93, 14), (1e9, 14)]
)
def test_a_value_is_in_the_bucket_whose_bound_it_does_not_exceed(value: float, bucket: int) -> None:
    made = Histogram("request_duration_seconds")
    made.add(value)
    assert made.values() == (*[int(number == bucket) for number in range(15)], value)


def test_tokens_of_an_answer_without_cached_ones_leave_those_alone() -> None:
    made = Measures(0)
    made.use({"a"}, frozenset({"m"}), 1.0)
    made.take([ended("m", usage=Usage(10, 2, None)), ended("m", usage=Usage(10, 2, 7))], 1.0)
    assert by_name(made.tell()[0])["tokens_total"]["m", "a", "cached"] == (7,)
