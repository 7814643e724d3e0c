"""Engines go on with an answer exactly where another one stopped, asked as the router asks: simulated and real ones."""

import json
from typing import Any

import pytest

from enginehouse.wire.continued import continued_body
from enginehouse.wire.events import split
from enginehouse.wire.resume import Kind, kind_of, read_partial
from enginehouse.wire.resumed import Splicer, closing
from tests.e2e.engines import EngineProcess, LlamaFactory, SimFactory, SimProcess
from tests.sim import raw
from tests.wire.streams import Read, read

PATHS = ("/v1/chat/completions", "/v1/completions")
FIELDS: dict[str, dict[str, Any]] = {
    PATHS[0]: {"messages": [{"role": "user", "content": "tell me of the house"}]},
    PATHS[1]: {"prompt": "in the house"},
}


@pytest.fixture(params=["vllm", "llama.cpp"])
def other(request: pytest.FixtureRequest, sim_engine: SimFactory) -> SimProcess:
    return sim_engine(name="other", style=request.param, tokens=9)


async def answer(sim: EngineProcess, path: str, body: bytes) -> bytes:
    reply = await raw.once(sim.port, raw.request("POST", path, body))
    assert reply.status == 200, reply.body
    return reply.body


@pytest.mark.parametrize("limit", [100, 5])
@pytest.mark.parametrize("path", PATHS)
async def test_every_cut_of_a_stream_is_gone_on_with(
    sim_engine: SimFactory, other: SimProcess, path: str, limit: int
) -> None:
    options = {"stream_options": {"include_usage": True}, "max_tokens": limit, "stream": True}
    asked: dict[str, Any] = {"model": "sim-model", **FIELDS[path], **options}
    body, kind = json.dumps(asked).encode(), kind_of(path)
    assert kind
    events, _ = split(await answer(sim_engine(name="one", tokens=9), path, body))
    whole = read(b"".join(events))
    assert len(whole.text.split()) == min(limit, 9)
    for cut in range(1, len(events)):
        assert await gone_on(other, kind, path, body, b"".join(events[:cut])) == whole


async def gone_on(other: EngineProcess, kind: Kind, path: str, body: bytes, got: bytes) -> Read:
    """What a client reads that has `got` when the other engine goes on."""
    partial = read_partial(kind, body, got)
    assert partial
    if not (end := closing(kind, partial)):
        splicer = Splicer(kind, partial)
        end = splicer.feed(await answer(other, path, continued_body(kind, body, partial)))
        assert splicer.finished
    return read(got + end)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (PATHS[0], {"messages": [{"role": "user", "content": "List three fruits as a numbered list."}]}),
        (PATHS[1], {"prompt": "1. Apples\n2. Bananas\n"}),
    ],
)
async def test_llama_cpp_goes_on_wherever_a_stream_of_it_is_cut(
    llama_engine: LlamaFactory, path: str, asked: dict[str, Any]
) -> None:
    engine, kind = llama_engine("smollm2", "smol"), kind_of(path)
    options = {"stream_options": {"include_usage": True}, "max_tokens": 16, "temperature": 0, "stream": True}
    body = json.dumps({"model": "smol", **asked, **options}).encode()
    assert kind
    events, _ = split(await answer(engine, path, body))
    whole = read(b"".join(events))
    assert len(whole.text) > 20
    for cut in range(1, len(events), 3):
        found = await gone_on(engine, kind, path, body, b"".join(events[:cut]))
        assert (found.text, found.roles, found.reasons, found.done) == (whole.text, whole.roles, whole.reasons, 1)
        assert len({envelope[0] for envelope in found.envelopes}) == 1
        assert found.usage
        assert whole.usage
        assert found.usage["total_tokens"] == whole.usage["total_tokens"]
