"""The manners of the two styles: when heads come, what a silent stream says, what happens to the connection."""

import asyncio
import json

import pytest

from tests.e2e.engines import SimFactory
from tests.sim import raw


async def test_vllm_sends_the_head_of_a_stream_before_the_first_token(sim_engine: SimFactory) -> None:
    sim = sim_engine(ttft=60)
    async with raw.line(sim.port) as line:
        await line.send(raw.chat(stream=True))
        assert b"transfer-encoding: chunked" in await line.until(b"\r\n\r\n")
        assert await line.nothing_for(0.1)


async def test_vllm_keeps_the_connection_after_a_stream(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    async with raw.line(sim.port) as line:
        for _ in range(3):
            await line.send(raw.chat(stream=True))
            assert raw.events((await line.reply()).body)[-1] == b"data: [DONE]"
    assert sim.stats()["connections"] == 2, "one for the streams, one for this question"


async def test_llama_sends_nothing_before_the_first_token(sim_engine: SimFactory) -> None:
    sim = sim_engine(style="llama.cpp", ttft=60, ping_interval=60)
    async with raw.line(sim.port) as line:
        await line.send(raw.chat(stream=True))
        assert await line.nothing_for(0.2)


async def test_llama_sends_head_and_comments_while_it_is_silent(sim_engine: SimFactory) -> None:
    sim = sim_engine(style="llama.cpp", ttft=0.5, ping_interval=0.05)
    events = raw.events((await raw.once(sim.port, raw.chat(stream=True))).body)
    assert events[0] == events[1] == b":"
    assert json.loads(events[-2].removeprefix(b"data: "))["choices"][0]["finish_reason"] == "stop"


async def test_llama_closes_after_a_stream_though_it_promised_to_keep_the_connection(sim_engine: SimFactory) -> None:
    sim = sim_engine(style="llama.cpp")
    got = await raw.exchange(sim.port, raw.chat(stream=True))
    assert b"\r\nkeep-alive: timeout=5, max=100\r\n" in got
    assert got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_llama_closes_after_an_error_and_keeps_after_an_answer(sim_engine: SimFactory) -> None:
    sim = sim_engine(style="llama.cpp")
    async with raw.line(sim.port) as line:
        assert (await line.ask("GET", "/v1/models")).status == 200
        assert (await line.ask("GET", "/nothing")).status == 404
        assert await line.rest() == b""


async def test_llama_answers_for_any_model_and_its_first_delta_has_no_content(sim_engine: SimFactory) -> None:
    sim = sim_engine(style="llama.cpp")
    reply = await raw.once(sim.port, raw.chat(stream=True, model="whatever"))
    first = json.loads(raw.events(reply.body)[0].removeprefix(b"data: "))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": None}


async def test_loading_answers_503_on_every_path_and_then_200(sim_engine: SimFactory) -> None:
    sim = sim_engine(ready_after=0.5)
    async with raw.line(sim.port) as line:
        for path in ("/health", "/v1/models", "/nothing"):
            reply = await line.ask("GET", path)
            assert (reply.status, reply.json["error"]["message"]) == (503, "Loading model")
    await sim.wait_ready()
    assert (await raw.once(sim.port, raw.chat())).status == 200


@pytest.mark.parametrize("style", ["vllm", "llama.cpp"])
async def test_idle_connections_are_closed_when_asked_for(sim_engine: SimFactory, style: str) -> None:
    sim = sim_engine(style=style, idle_timeout=0.2, ttft=0.5)
    async with raw.line(sim.port) as line:
        await line.send(raw.chat())
        assert (await line.reply()).status == 200, "an answer that takes longer than that is no idleness"
        assert await line.rest() == b""


async def test_idle_connections_stay_otherwise(sim_engine: SimFactory) -> None:
    sim = sim_engine()
    async with raw.line(sim.port) as line:
        assert await line.nothing_for(0.2)
        assert (await line.ask("GET", "/health")).status == 200
        await asyncio.sleep(0)
