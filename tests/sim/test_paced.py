"""The simulated engine with a model of a real one inside, over real sockets.

The model's own times are exact and told by `/metrics`; the clock on the wall is only asked whether something came too
early, which no load of the machine can cause.
"""

import asyncio
import json
import re
import time
from typing import Any, get_args

import pytest

from enginehouse.core.config import sim as settings
from enginehouse.sim.constants import PROFILES
from enginehouse.sim.paced import blocks
from tests.e2e.engines import SimFactory, SimProcess
from tests.sim import raw

MS = 0.001
STORY = "Once upon a time there was a house full of engines. " * 400  # 5200 tokens
ENDLESS = 300_000  # tokens; an answer that does not end while a test runs


def ask(prompt: str = STORY, tokens: int = 4, **fields: Any) -> bytes:
    """A streamed chat with usage, for exactly so many tokens."""
    turn = {"role": "user", "content": prompt}
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}
    return raw.chat(**({**options, "messages": [turn], "max_tokens": tokens} | fields))


def usage(reply: raw.Reply) -> dict[str, Any]:
    """What the last event of a stream says."""
    assert raw.events(reply.body)[-1] == b"data: [DONE]"
    told: dict[str, Any] = json.loads(raw.events(reply.body)[-2].removeprefix(b"data: "))["usage"]
    return told


async def first_token(line: raw.Line) -> None:
    """Read until the first token is there."""
    await line.until(b'"content":""')  # the role
    await line.until(b'"content":"')


def engine(sim: SimProcess, **change: Any) -> dict[str, Any]:
    """`/sim/engine`, asked or changed."""
    status, told = sim.request("POST" if change else "GET", "/sim/engine", change or None)
    assert status == 200, told
    return dict(told)


async def until(sim: SimProcess, **wanted: int) -> None:
    """Wait until `/sim/engine` says so."""
    deadline = time.monotonic() + raw.WAIT
    while not wanted.items() <= (told := engine(sim)).items():
        assert time.monotonic() < deadline, told
        await asyncio.sleep(0.01)


async def metrics(sim: SimProcess) -> dict[str, float]:
    """`/metrics` by name; labels of series that differ in nothing else are dropped."""
    reply = await raw.once(sim.port, raw.request("GET", "/metrics"))
    assert reply.headers["content-type"].startswith("text/plain")
    lines = re.findall(rb"^(\S+?)\{.*\} (\S+)$", reply.body, re.MULTILINE)
    return {name.decode(): float(value) for name, value in lines}


# what is told


async def test_the_tokens_of_a_prompt_that_are_still_there_are_told_in_the_usage(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=10)
    first, second = await raw.once(sim.port, ask()), await raw.once(sim.port, ask())
    assert usage(first)["prompt_tokens_details"] == {"cached_tokens": 0}
    assert usage(second) == {
        "prompt_tokens": 5202,
        "completion_tokens": 4,
        "total_tokens": 5206,
        "prompt_tokens_details": {"cached_tokens": 5200},
    }
    assert raw.text_of(first.body) == raw.text_of(second.body)


async def test_every_endpoint_tells_cached_tokens_in_its_own_way(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=10, models=["m"])
    turns = [{"role": "user", "content": STORY}]
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": turns},
        "/v1/completions": {"prompt": STORY},
        "/v1/responses": {"input": STORY},
        "/v1/messages": {"messages": turns, "max_tokens": 5},
    }
    told = {}
    for path, body in bodies.items():
        for _ in range(2):
            reply = await raw.once(sim.port, raw.request("POST", path, {"model": "m", **body}))
        told[path] = reply.json["usage"]
    assert told["/v1/chat/completions"]["prompt_tokens_details"] == {"cached_tokens": 5200}
    assert told["/v1/completions"]["prompt_tokens_details"] == {"cached_tokens": 5184}
    assert told["/v1/responses"]["input_tokens_details"] == {"cached_tokens": 5200}
    assert told["/v1/messages"] == {"input_tokens": 2, "cache_read_input_tokens": 5200, "output_tokens": 5}


async def test_models_share_nothing_and_what_differs_early_differs_to_the_end(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=10, models=["a", "b"])
    await raw.once(sim.port, ask(model="a"))
    other_model = await raw.once(sim.port, ask(model="b"))
    other_beginning = await raw.once(sim.port, ask("x" + STORY, model="a"))
    same_beginning = await raw.once(sim.port, ask(STORY[:4096] + "x" + STORY[4096:], model="a"))
    found = [usage(each)["prompt_tokens_details"]["cached_tokens"] for each in (other_model, other_beginning)]
    assert found == [0, 0]
    assert usage(same_beginning)["prompt_tokens_details"] == {"cached_tokens": 1024}


async def test_the_next_turn_of_a_conversation_finds_the_answer_too(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=10)
    first = await raw.once(sim.port, ask(tokens=400))
    turns = [
        {"role": "user", "content": STORY},
        {"role": "assistant", "content": raw.text_of(first.body)},
        {"role": "user", "content": "And then?"},
    ]
    second = await raw.once(sim.port, ask(messages=turns))
    # The full blocks of what was in the cache: the last token of the answer never is.
    assert usage(second)["prompt_tokens_details"] == {"cached_tokens": (5202 + 399) // 16 * 16}


# when it is told


async def test_the_first_token_comes_when_the_prompt_is_computed(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b")
    began = time.monotonic()
    async with raw.line(sim.port) as line:
        await line.send(ask())
        await first_token(line)
        took = time.monotonic() - began
    expected = (7 + 0.033 * 5202 + 0.0044) * MS
    assert took >= expected
    assert (await metrics(sim))["vllm:time_to_first_token_seconds_sum"] == pytest.approx(expected)


async def test_with_a_scale_the_same_seconds_pass_faster(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=1000, slow_factor=50)
    await asyncio.wait_for(raw.once(sim.port, ask(tokens=100)), raw.WAIT)  # 46 seconds of the model
    told = (await metrics(sim))["vllm:time_to_first_token_seconds_sum"]
    assert told == pytest.approx(50 * (7 + 0.033 * 5202 + 0.0044) * MS)


async def test_the_first_token_comes_alone_and_the_others_in_events_of_so_many(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", stream_interval=8)
    reply = await raw.once(sim.port, ask(tokens=20))
    pieces = re.findall(rb'"content":"([^"]+)"', reply.body)
    assert [len(piece.split()) for piece in pieces[:2]] == [1, 8]
    assert len(b"".join(pieces).split()) == 20
    whole = await raw.once(sim.port, ask(tokens=20, stream=False, stream_options=None))
    assert whole.json["choices"][0]["message"]["content"] == b"".join(pieces).decode()
    assert whole.json["usage"]["completion_tokens"] == usage(reply)["completion_tokens"] == 20


async def test_a_limit_counts_with_and_without_an_end_of_its_own(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=10, tokens=6)
    counts = {
        (limit, ignoring): usage(await raw.once(sim.port, ask(tokens=limit, ignore_eos=ignoring)))["completion_tokens"]
        for limit in (3, 30)
        for ignoring in (True, False)
    }
    assert counts == {(3, True): 3, (3, False): 3, (30, True): 30, (30, False): 6}
    nothing = await raw.once(sim.port, ask(tokens=0))
    assert usage(nothing)["completion_tokens"] == 0


async def test_a_reader_that_stops_reading_gets_all_of_it_when_it_goes_on(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=2000)
    async with raw.line(sim.port) as line:
        await line.send(ask("hi", tokens=60_000))  # in events of several kilobytes at this scale, megabytes in all
        await until(sim, finished=1)
        reply = await line.reply()
    assert usage(reply)["completion_tokens"] == 60_000 == len(raw.text_of(reply.body).split())


# what there is room for


@pytest.mark.parametrize("status", [503, 429])
async def test_when_too_many_wait_the_next_one_is_refused_before_any_head(sim_engine: SimFactory, status: int) -> None:
    sim = sim_engine(engine_model="h100-8b", max_running=1, max_waiting=1, full_status=status)
    async with raw.line(sim.port) as running, raw.line(sim.port) as waiting:
        await running.send(ask(tokens=ENDLESS))
        await until(sim, running=1)
        await waiting.send(ask(tokens=ENDLESS))
        await until(sim, running=1, waiting=1)
        refused = await raw.once(sim.port, ask())
        assert refused.status == status
        assert refused.json["error"]["message"] == "Too many requests are waiting"
        told = await metrics(sim)
        assert (told["vllm:num_requests_running"], told["vllm:num_requests_waiting"]) == (1, 1)
    await until(sim, running=0, waiting=0)
    assert (await raw.once(sim.port, ask())).status == 200


async def test_what_its_cache_will_never_hold_is_the_clients_fault(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", kv_tokens=5000)
    refused = await raw.once(sim.port, ask())
    assert refused.status == 400
    assert "KV cache" in refused.json["error"]["message"]


async def test_a_client_that_leaves_frees_its_place(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=10)
    async with raw.line(sim.port) as line:
        await line.send(ask(tokens=ENDLESS))
        await first_token(line)
        assert engine(sim)["running"] == 1
        assert engine(sim)["blocks"]["held"] > 0
    await until(sim, running=0)
    told = engine(sim)
    assert told["blocks"]["held"] == 0
    assert told["blocks"]["kept"] > 0
    assert told["finished"] == 0


async def test_a_fault_that_breaks_an_answer_frees_its_place(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=10, faults=["reset:after=3"])
    got, error = await raw.to_the_end(sim.port, ask(tokens=ENDLESS))
    assert isinstance(error, ConnectionResetError) or b"[DONE]" not in got
    await until(sim, running=0)
    assert engine(sim)["blocks"]["held"] == 0


async def test_many_in_a_small_cache_give_way_to_each_other_and_all_end(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=50, kv_tokens=4000, stream_interval=50)
    prompts = [f"{number} " + STORY[:800] for number in range(30)]
    replies = await asyncio.gather(*(raw.once(sim.port, ask(prompt, tokens=300)) for prompt in prompts))
    assert {usage(each)["completion_tokens"] for each in replies} == {300}
    told = engine(sim)
    assert told["preemptions"] > 0
    assert (told["running"], told["waiting"], told["blocks"]["held"]) == (0, 0, 0)
    assert told["generated_tokens"] == 30 * 300


# what can be changed while it runs


async def test_it_can_be_slowed_down_and_sped_up_while_it_runs(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", slow_factor=20)  # 0.14 seconds a step: half an hour for all of it
    async with raw.line(sim.port) as line:
        await line.send(ask("hi", tokens=10_000))
        await first_token(line)
        assert engine(sim, slow_factor=0.001)["slow_factor"] == 0.001
        rest = await line.until(b"[DONE]")
    assert b'"completion_tokens":10000' in rest


async def test_its_cache_can_be_dropped_as_by_a_restart(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=10)
    await raw.once(sim.port, ask())
    assert engine(sim, drop_cache=True)["blocks"]["kept"] == 0
    assert usage(await raw.once(sim.port, ask()))["prompt_tokens_details"] == {"cached_tokens": 0}


@pytest.mark.parametrize("change", [{"slow_factor": 0}, {"slow_factor": -1}, {"slow": 2}, {"slow_factor": "x"}])
async def test_a_change_that_makes_no_sense_is_refused(sim_engine: SimFactory, change: dict[str, Any]) -> None:
    sim = sim_engine(engine_model="h100-8b")
    assert sim.request("POST", "/sim/engine", change)[0] == 400
    assert engine(sim)["slow_factor"] == 1.0


async def test_an_engine_without_a_model_says_how_to_get_one(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    status, told = sim.request("GET", "/sim/engine")
    assert status == 400
    assert "--engine-model" in told["error"]["message"]
    assert sim.request("GET", "/metrics")[1]["reached"] == "/metrics"
    assert "prompt_tokens_details" not in (await raw.once(sim.port, raw.chat())).json["usage"]


# names


async def test_metrics_have_vllms_names_and_the_size_of_the_cache(sim_engine: SimFactory) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=10, models=["org/m"])
    for _ in range(2):
        await raw.once(sim.port, ask(tokens=7, model="org/m"))
    told = await metrics(sim)
    assert told["vllm:prompt_tokens_total"] == told["vllm:prefix_cache_queries_total"] == 2 * 5202
    assert told["vllm:prefix_cache_hits_total"] == 5200
    assert told["vllm:generation_tokens_total"] == 14
    assert told["vllm:request_success_total"] == told["vllm:time_to_first_token_seconds_count"] == 2
    assert told["vllm:kv_cache_usage_perc"] == told["vllm:gpu_cache_usage_perc"] == 0
    page = (await raw.once(sim.port, raw.request("GET", "/metrics"))).body.decode()
    assert 'block_size="16",enable_prefix_caching="True",num_gpu_blocks="26312"} 1.0' in page
    assert 'model_name="org/m"' in page


def test_every_profile_can_be_chosen() -> None:
    assert set(get_args(settings.EngineModel)) == {"none", *PROFILES}


def test_a_block_is_known_by_everything_up_to_its_end() -> None:
    text = b"".join(b"%064d" % number for number in range(4))
    one, two, three, four = blocks(text, 16, "m")
    assert blocks(text[:-1], 16, "m") == [one, two, three], "the rest of a text is no block"
    assert blocks(text[:64] + text, 16, "m")[:2] != [one, two]
    assert blocks(text[:64] + text, 16, "m")[0] == one
    assert blocks(text, 16, "n")[0] != one
    assert len({one, two, three, four}) == 4
    assert blocks(b"", 16, "m") == []
