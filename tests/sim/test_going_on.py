"""The simulated engine goes on with an answer exactly where another one stopped, asked as the router asks."""

import json
from typing import Any

import pytest

from enginehouse.wire.continued import continued_body
from enginehouse.wire.events import split
from enginehouse.wire.resume import kind_of, read_partial
from enginehouse.wire.resumed import Splicer, closing
from tests.e2e.engines import SimFactory, SimProcess
from tests.sim import raw
from tests.wire.streams import read

PATHS = ("/v1/chat/completions", "/v1/completions")
FIELDS: dict[str, dict[str, Any]] = {
    PATHS[0]: {"messages": [{"role": "user", "content": "tell me of the house"}]},
    PATHS[1]: {"prompt": "in the house"},
}


@pytest.fixture(params=["vllm", "llama.cpp"])
def other(request: pytest.FixtureRequest, sim_engine: SimFactory) -> SimProcess:
    return sim_engine(name="other", style=request.param, tokens=9)


async def answer(sim: SimProcess, path: str, body: bytes) -> bytes:
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
        got = b"".join(events[:cut])
        partial = read_partial(kind, body, got)
        assert partial
        if not (end := closing(kind, partial)):
            splicer = Splicer(kind, partial)
            end = splicer.feed(await answer(other, path, continued_body(kind, body, partial)))
            assert splicer.finished
        assert read(got + end) == whole
