"""What engines say of the size of their KV cache: how each kind says it, and when control asks."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from enginehouse.control.access import Accesses
from enginehouse.control.engine_client import EngineClient
from enginehouse.control.kv_cache import INTERVAL, KvCaches, from_metrics, from_props, from_server_info
from enginehouse.control.resolver import Resolver
from enginehouse.control.roster import Entry
from enginehouse.core.record import RecordError, parse_record
from enginehouse.core.units import MAX_KV_TOKENS
from enginehouse.machines.health import Health
from tests.control.rig import Scripted, engine, house, models, scripted, static, until, write_static

VLLM = (
    b"# TYPE vllm:cache_config_info gauge\n"
    b'vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_cpu_blocks="None",'
    b'num_gpu_blocks="26344",prefix_caching_hash_algo="sha256"} 1.0\n'
    b'vllm:num_requests_running{engine="0",model_name="m"} 3.0\n'
)
SGLANG = (
    b'sglang:num_running_reqs{model_name="m"} 0.0\nsglang:max_total_num_tokens{model_name="m",tp_rank="0"} 471258.0\n'
)
PROPS = {"default_generation_settings": {"n_ctx": 4096, "params": {}}, "total_slots": 8, "model_path": "m.gguf"}
SERVER_INFO = {"model_path": "m", "max_total_num_tokens": 901109, "internal_states": [{"last_gen_throughput": 1.0}]}


@pytest.mark.parametrize(
    ("metrics", "tokens"),
    [
        (VLLM, 26344 * 16),
        (VLLM.replace(b'"26344"', b'"None"'), 0),
        (VLLM.replace(b'block_size="16",', b'block_size="16",kv_cache_size_tokens="400000",'), 400_000),
        (VLLM.replace(b'block_size="16",', b'block_size="16",kv_cache_size_tokens="None",'), 26344 * 16),
        (VLLM + VLLM.replace(b'engine="0"', b'engine="1"'), 2 * 26344 * 16),
        (VLLM.replace(b'"auto"', rb'"{odd=\"num_gpu_blocks=\"1\"}, \\"'), 26344 * 16),
        (SGLANG, 471_258),
        (SGLANG.replace(b"471258.0", b"NaN"), 0),
        (b"llamacpp:requests_processing 1\n", 0),
        (b'vllm:cache_config_info{block_size="16', 0),
        (b"\xff\x00<html>", 0),
        (b"", 0),
    ],
)  # fmt: skip
def test_metrics_of_vllm_and_sglang_tell_the_tokens_of_all_their_ranks_together(metrics: bytes, tokens: int) -> None:
    assert from_metrics(metrics) == tokens


def test_an_answer_made_to_take_long_does_not() -> None:
    assert from_metrics(b'vllm:cache_config_info{a="b",' * 40_000) == 0
    assert from_metrics(b'vllm:cache_config_info{a="b",\n' * 40_000) == 0


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"max_total_num_tokens": 901109}', 901_109),
        (b'{"max_total_num_tokens": 7, "internal_states": [{"memory_usage": {"token_capacity": 5}}]}', 5),
        (
            b'{"internal_states": [{"memory_usage": {"token_capacity": 5}}, {"memory_usage": {"token_capacity": 6}}]}',
            11,
        ),
        (b'{"internal_states": [7, {"memory_usage": null}], "max_total_num_tokens": true}', 0),
        (b"[]", 0),
        (b'"\xff"', 0),
        (b"[" * 100_000, 0),
    ],
    ids=lambda given: repr(given)[:40],
)
def test_sglangs_server_info_tells_the_tokens_of_all_ranks_together(body: bytes, tokens: int) -> None:
    assert from_server_info(body) == tokens


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4}', 16_384),
        (b'{"default_generation_settings": {"n_ctx": -1}, "total_slots": 4}', 0),
        (b'{"default_generation_settings": null, "total_slots": 4}', 0),
        (b'{"total_slots": 4}', 0),
    ],
)
def test_llama_cpps_props_tell_the_context_of_a_slot_and_the_slots(body: bytes, tokens: int) -> None:
    assert from_props(body) == tokens


class Asking:
    """A `KvCaches` with a real HTTP client, and one engine that it asks."""

    def __init__(self, engine: Scripted, key: str = "", **metadata: Any) -> None:
        accesses, resolver = Accesses(lambda _: (key, "")), Resolver()
        self.client = EngineClient(resolver, accesses, 0.2)
        self.news = 0
        self.caches = KvCaches(self.client.get, self._told)
        record = parse_record({"name": "a", "host": "127.0.0.1", "port": engine.port, "metadata": metadata})
        self.entry = Entry(record, "static", 0, 1, Health(3))

    def _told(self) -> None:
        self.news += 1

    async def ask(self, now: float = 0.0) -> int:
        """Find it well at a time; what is known when the reading is over, if there is one."""
        self.caches.well(self.entry, now)
        async with asyncio.timeout(20):
            await asyncio.gather(*self.caches._readings.values())
        return self.entry.kv_tokens

    async def close(self) -> None:
        await self.caches.close()
        await self.client.close()


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        ("metrics", VLLM, 26344 * 16),
        ("metrics", SGLANG, 471_258),
        ("server_info", SERVER_INFO, 901_109),
        ("get_server_info", SERVER_INFO, 901_109),
        ("props", PROPS, 32_768),
        ("metrics", b"no metrics\n", 0),
        ("metrics", VLLM.replace(b"26344", str(MAX_KV_TOKENS).encode()), 0),
    ],
)
async def test_every_kind_of_engine_is_asked_in_its_own_way(path: str, body: Any, tokens: int) -> None:
    async with scripted(**{path: (200, body)}) as engine:
        asking = Asking(engine, key="sesame")
        assert await asking.ask() == tokens
        assert asking.news == (1 if tokens else 0)
        assert {request.headers["Authorization"] for request in engine.requests} == {"Bearer sesame"}
        await asking.close()


async def test_an_engine_is_asked_rarely_and_again_after_it_was_not_well() -> None:
    async with scripted(metrics=(200, VLLM)) as engine:
        asking = Asking(engine)
        for now, readings in ((1.0, 1), (30.0, 1), (INTERVAL, 1), (1.0 + INTERVAL, 2), (2.0 + INTERVAL, 2)):
            await asking.ask(now)
            assert len(engine.asked) == readings
        engine.answers["/metrics"] = (200, VLLM.replace(b"26344", b"1000"))
        asking.caches.ill(asking.entry)
        assert await asking.ask(3.0 + INTERVAL) == 16_000
        assert asking.news == 2
        await asking.close()


async def test_what_its_owner_states_goes_before_and_nobody_is_asked() -> None:
    async with scripted(metrics=(200, VLLM)) as engine:
        asking = Asking(engine, kv_tokens=5)
        await asking.ask()
        assert engine.asked == []
        await asking.close()


async def test_an_engine_that_does_not_answer_keeps_what_it_said_before_but_not_one_that_says_no_more() -> None:
    async with scripted(metrics=(200, VLLM)) as engine:
        asking = Asking(engine)
        await asking.ask()
        await engine.close()
        assert await asking.ask(INTERVAL) == 26344 * 16
        await engine.listen()
        engine.answers.clear()
        assert await asking.ask(2 * INTERVAL) == 0
        assert asking.news == 2
        await asking.close()


@pytest.mark.parametrize("stated", [0, -1, True, "many", 1.5, MAX_KV_TOKENS + 1])
def test_a_record_that_states_another_thing_than_tokens_is_refused(stated: object) -> None:
    with pytest.raises(RecordError, match=r"metadata\.kv_tokens"):
        parse_record({"name": "a", "host": "h", "port": 1, "metadata": {"kv_tokens": stated}})


async def test_the_workers_and_services_are_told_what_engines_and_owners_say(short_dir: Path, tmp_path: Path) -> None:
    answers: dict[str, Any] = {"health": (200, {}), "v1/models": models("m")}
    async with scripted(**answers, metrics=(200, VLLM)) as says, scripted(**answers) as silent:
        file = write_static(
            tmp_path / "s.json",
            static("says", says.port),
            static("silent", silent.port),
            static("stated", silent.port, metadata={"kv_tokens": 77}),
        )
        async with house(short_dir, static_services=file) as running, running.worker() as worker:
            told = await worker.until(lambda fleet: any(service.kv_tokens > 77 for service in fleet.services))
            assert {service.name: service.kv_tokens for service in told.services} == {
                "says": 26344 * 16,
                "silent": 0,
                "stated": 77,
            }
            await until(lambda: silent.asked.count("GET /props") == 1, "the last question")
            service = await running.service("silent")
            assert service is not None
            assert service["kv_tokens"] is None


async def test_a_simulated_engine_with_a_model_is_read_as_vllm_is(short_dir: Path, tmp_path: Path) -> None:
    async with engine(engine_model="h100-8b", kv_tokens=65_536) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        async with house(short_dir, static_services=file) as running, running.worker() as worker:
            fleet = await worker.until(lambda fleet: any(service.kv_tokens for service in fleet.services))
            assert fleet.services[0].kv_tokens == 65_536
