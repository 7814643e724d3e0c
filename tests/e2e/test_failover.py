"""An engine is killed in the middle of streamed answers: the clients' SDK sees whole ones, said by two engines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest

from enginehouse.engines import models
from tests.e2e.conftest import StartHouse
from tests.e2e.house import House, real, simulated

STORY: list[Any] = [{"role": "user", "content": "Tell me about the sea, in a few sentences."}]


class Told(NamedTuple):
    """A streamed answer as the SDK gave it."""

    text: str
    ids: set[str]
    roles: int
    finished: list[str]
    usage: list[Any]


async def tell(client: openai.AsyncOpenAI, model: str, tokens: int, begun: asyncio.Semaphore | None = None) -> Told:
    """One streamed answer; `begun` is released when some of it was said."""
    stream = await client.chat.completions.create(
        model=model,
        messages=STORY,
        max_tokens=tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    parts: list[str] = []
    ids: set[str] = set()
    roles, finished, usage = 0, [], []
    async for chunk in stream:
        ids.add(chunk.id)
        usage += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            roles += choice.delta.role is not None
            parts.append(choice.delta.content or "")
            finished += [choice.finish_reason] if choice.finish_reason else []
        if begun is not None and len(parts) == 6:
            begun.release()
    return Told("".join(parts), ids, roles, list(finished), usage)


async def kill_under(house: House, model: str, tokens: int, streams: int, victim: str) -> tuple[Told, list[Told]]:
    """The undisturbed answer, and those to the same question of which about half were said by the engine killed."""
    async with openai.AsyncOpenAI(base_url=house.url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
        whole = await tell(client, model, tokens)
        begun = asyncio.Semaphore(0)
        telling = [asyncio.ensure_future(tell(client, model, tokens, begun)) for _ in range(streams)]
        for _ in range(streams):
            await asyncio.wait_for(begun.acquire(), 60)
        house.kill9("engine", victim)
        return whole, list(await asyncio.gather(*telling))


def well_formed(told: Told, tokens: int) -> bool:
    """One id, one role, one end, and the usage of the whole."""
    return (
        (len(told.ids), told.roles, told.finished) == (1, 1, ["length"])
        and len(told.usage) == 1
        and told.usage[0].completion_tokens == tokens
    )


async def test_streams_of_a_killed_engine_are_the_same_to_the_byte_as_undisturbed_ones(start_house: StartHouse) -> None:
    engines = [simulated(name, "shared", time_per_token=0.05) for name in ("a", "b")]
    house = start_house(*engines)
    await house.ready()
    whole, told = await kill_under(house, "shared", 60, 8, "a")
    assert {answer.text for answer in told} == {whole.text}
    assert all(well_formed(answer, 60) for answer in told)
    assert {answer.usage[0].prompt_tokens for answer in told} == {whole.usage[0].prompt_tokens}


@pytest.mark.parametrize("model", ["smollm2"])
async def test_streams_of_a_killed_llama_cpp_are_whole_for_the_openai_sdk(
    start_house: StartHouse, models_cache: Path, model: str
) -> None:
    models.find(model, models_cache)
    house = start_house(*[real(name, model, models_cache, parallel=2, ctx_size=2048) for name in ("a", "b")])
    await house.ready()
    whole, told = await kill_under(house, model, 48, 4, "a")
    assert all(well_formed(answer, 48) for answer in told), told
    same = sum(answer.text == whole.text for answer in told)
    print(f"{same} of {len(told)} the same as undisturbed")
    assert same >= len(told) - 1
