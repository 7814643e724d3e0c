"""What the access log tells of prompts: tokens as the engine counts them, and how much was thought to be warm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.rig import Call, Engine, Script, post, rig, until

TOLD = json.dumps(
    {
        "choices": [],
        "usage": {"prompt_tokens": 2500, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 2400}},
    }
).encode()
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 8176}]}).encode()
TOKENS = {"tokens_in": 2500, "tokens_out": 20, "tokens_cached": 2400}


async def answers(call: Call) -> None:
    await call.answer(TOLD)


async def streams(call: Call) -> None:
    data = b"data: %b\n\ndata: [DONE]\n\n" % TOLD
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    await call.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))


async def says_nothing(call: Call) -> None:
    await call.answer(b"{}")


@pytest.mark.parametrize("script", [answers, streams])
@pytest.mark.parametrize(("policy", "warm"), [("prefix", [0.0, 0.99]), ("least_load", [None, None])])
async def test_a_line_has_the_tokens_and_under_the_policy_prefix_what_was_warm(
    tmp_path: Path, script: Script, policy: str, warm: list[float | None]
) -> None:
    path = tmp_path / "access.log"
    async with rig(Engine("a", script), access_log=str(path), policy=policy) as house:
        for _ in range(2):
            await house.ask(post(BODY))
        await until(lambda: path.exists() and path.read_bytes().count(b"\n") == 2)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["warm"] for line in lines] == warm
        for line in lines:
            assert {name: line[name] for name in TOKENS} == TOKENS
        house.worker.access_log.close()


async def test_what_the_engine_does_not_tell_is_null(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with rig(Engine("a", says_nothing), access_log=str(path)) as house:
        await house.ask(post(BODY))
        await until(lambda: path.exists() and path.read_bytes().count(b"\n") == 1)
        line = json.loads(path.read_text())
        assert [line[name] for name in TOKENS] == [None] * 3
        house.worker.access_log.close()
