"""A stream whose engine dies is gone on with by another one, and the client reads one answer."""

import asyncio
import json
from typing import Any

import pytest

from enginehouse.wire.resume import Kind
from enginehouse.wire.resumed import COMMENT
from tests.data.rig import Call, Engine, Script, post, rig
from tests.wire import streams

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WORDS = ("Once", " upon", " a", "\n", "\n", "time", " there", " was", ".")
BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "go"}],
    "stream": True,
    "max_tokens": 50,
    "stream_options": {"include_usage": True},
}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def events_of(call: Call) -> list[bytes]:
    """What the engine that was called says to this request."""
    return streams.Engine("vllm", Kind.CHAT, WORDS, f"by-{call.engine.name}").stream(call.body)


async def whole(call: Call) -> None:
    await call.send(HEAD + b"".join(chunk(event) for event in events_of(call)) + b"0\r\n\r\n")


def dying(after: int, half: bytes = b"", reset: bool = False) -> Script:
    """The first engine that is asked dies after some events; the other one goes on."""
    asked_before: list[Call] = []

    async def script(call: Call) -> None:
        asked_before.append(call)
        if len(asked_before) > 1:
            await whole(call)
            return
        await call.send(HEAD)
        for event in events_of(call)[:after]:
            await call.send(chunk(event))
        await call.send(half)
        call.reset() if reset else call.close()

    return script


async def asked(script: Script, **body: Any) -> tuple[bytes, list[Call]]:
    """What a client gets in front of two engines, and the engines' requests in order."""
    one, other = (Engine(name, script, continues=True) for name in "ab")
    async with rig(one, other) as house:
        answer = await house.ask(post(json.dumps({**BODY, **body}).encode()))
    assert answer.status == 200
    calls = [*one.calls, *other.calls]
    return answer.body, sorted(calls, key=lambda call: b"continue_final_message" in call.body)


HALF = b'data: {"id": "by'


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("half", [b"", b"5", chunk(HALF)[:-3], b"100\r\n" + HALF, b"100\r\n" + HALF + b'x"}\n'])
@pytest.mark.parametrize("after", [1, 2, 5, 7, 9, 10])
async def test_wherever_the_engine_dies_the_client_reads_one_whole_answer(after: int, half: bytes, reset: bool) -> None:
    got, (first, second) = await asked(dying(after, half, reset))
    assert first.engine is not second.engine
    undisturbed = streams.read(b"".join(events_of(first)))
    assert streams.read(got) == undisturbed
    assert undisturbed.text == "".join(WORDS)
    assert undisturbed.usage == {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
    assert got.count(COMMENT) == 1


async def test_what_came_at_once_and_what_came_in_pieces_of_chunks_is_known_alike() -> None:
    async def script(call: Call) -> None:
        events = events_of(call)
        if b"continue_final_message" not in call.body:
            stream = HEAD + b"".join(chunk(event) for event in events[:2]) + chunk(b"".join(events[2:5]))
            stream += chunk(events[5] + events[6][:9]) + chunk(events[6][9:]) + b"200\r\n"
            for at in range(0, len(stream), 37):
                await call.send(stream[at : at + 37])
            call.close()
        else:
            await whole(call)

    got, calls = await asked(script)
    assert streams.read(got) == streams.read(b"".join(events_of(calls[0])))


async def test_what_cannot_be_gone_on_with_exactly_ends_with_an_error_event() -> None:
    got, calls = await asked(dying(3), stop=["."])
    assert len(got.split(b"\n\n")) == 5
    assert b'"finish_reason":"error"' in got
    assert b"continue_final_message" not in calls[-1].body


async def test_no_service_is_asked_to_go_on_that_is_not_known_to_be_able_to() -> None:
    one, other = (Engine(name, dying(3), continues=False) for name in "ab")
    async with rig(one, other) as house:
        answer = await house.ask(post(json.dumps(BODY).encode()))
    assert b'"finish_reason":"error"' in answer.body
    assert len(one.calls) + len(other.calls) == 1


async def test_any_service_can_take_over_a_stream_without_text() -> None:
    script = dying(1)
    one, other = (Engine(name, script, continues=False) for name in "ab")
    async with rig(one, other) as house:
        answer = await house.ask(post(json.dumps(BODY).encode()))
    found = streams.read(answer.body)
    assert (found.text, found.roles, found.done, len(found.envelopes)) == ("".join(WORDS), ["assistant"], 1, 1)


async def test_a_stream_whose_length_was_told_is_not_gone_on_with_for_another_one_would_be_longer() -> None:
    async def script(call: Call) -> None:
        stream = b"".join(events_of(call))
        head = HEAD.replace(b"transfer-encoding: chunked", b"content-length: %d" % len(stream))
        await call.send(head + stream[: len(stream) // 2])
        call.close()

    one, other = (Engine(name, script, continues=True) for name in "ab")
    async with rig(one, other) as house:
        client = await house.client()
        await client.send(post(json.dumps(BODY).encode()))
        with pytest.raises(asyncio.IncompleteReadError):
            await client.answer()
    assert len(one.calls) + len(other.calls) == 1
