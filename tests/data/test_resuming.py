"""Streams whose engine dies: another one goes on, and the client sees one uninterrupted answer, or an honest error."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.data.rig import Answer, Call, Engine, Rig, Script, post, rig

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WORDS = ("The", " quick", " brown", " fox", " jumps")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(value: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def delta(engine: str, content: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": content, "finish_reason": finish}
    return event({"id": f"chatcmpl-{engine}", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def known(call: Call) -> int:
    """How many of the words the request has already."""
    last = json.loads(call.body)["messages"][-1]
    said = last["content"].split() if last["role"] == "assistant" else []
    return len(said)


def speaking(until: int = len(WORDS), fault: str = "") -> Script:
    """An engine that says the words that are missing, up to `until` of all, then does as `fault` says."""

    async def script(call: Call) -> None:
        name = call.engine.name
        await call.send(HEAD + chunk(delta(name, {"role": "assistant", "content": ""})))
        for word in WORDS[known(call) : until]:
            await call.send(chunk(delta(name, {"content": word.strip() if word == WORDS[0] else word})))
        if fault == "reset":
            call.reset()
        elif fault == "close":
            call.close()
        elif fault == "half":
            await call.send(chunk(b'data: {"id":"chat'))
            call.close()  # a reset could overtake it
        else:
            await call.send(chunk(delta(name, {}, "stop")) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    return script


def request(**more: Any) -> bytes:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "speak"}], **more}
    return post(json.dumps(body).encode())


def events_of(answer: Answer) -> list[Any]:
    found = [line[6:] for line in answer.body.split(b"\n\n") if line.startswith(b"data: ")]
    return [json.loads(data) if data != b"[DONE]" else "done" for data in found]


def said(answer: Answer) -> str:
    parts = [e["choices"][0]["delta"].get("content") or "" for e in events_of(answer) if e != "done" and e["choices"]]
    return "".join(parts)


def both_speak(first: Script, second: Script, **service: Any) -> tuple[Engine, Engine]:
    fit = {"continues": True, **service}
    return Engine("a", first, **fit), Engine("b", second, **fit)


async def until_broken(house: Rig, **more: Any) -> Answer:
    """The answer to a request that the broken engine, which is the first, got first."""
    for _ in range(4):
        answer = await house.ask(request(**more))
        if house.engines[0].calls:
            return answer
    raise AssertionError("the first engine was never asked")


@pytest.mark.parametrize("fault", ["reset", "close"])
@pytest.mark.parametrize("after", range(len(WORDS) + 1))
async def test_wherever_the_engine_dies_between_two_events_the_answer_is_whole(after: int, fault: str) -> None:
    async with rig(*both_speak(speaking(after, fault), speaking())) as house:
        answer = await until_broken(house)
        events = events_of(answer)
        assert said(answer) == "".join(WORDS)
        assert events[-1] == "done"
        assert events.count("done") == 1
        assert {e["id"] for e in events[:-1]} == {"chatcmpl-a"}
        assert sum("role" in e["choices"][0]["delta"] for e in events[:-1]) == 1
        assert [e["choices"][0]["finish_reason"] for e in events[:-1] if e["choices"][0]["finish_reason"]] == ["stop"]
        assert b": enginehouse: continued by another service\n\n" in answer.body
        assert house.worker.mended.resumed == 1


async def test_the_next_engine_is_told_what_was_said_and_to_go_on_with_it() -> None:
    async with rig(*both_speak(speaking(2, "reset"), speaking())) as house:
        await until_broken(house, max_tokens=20)
        told = json.loads(house.engines[1].calls[-1].body)
        assert told["messages"][-1] == {"role": "assistant", "content": "The quick"}
        assert told["continue_final_message"] is True
        assert told["add_generation_prompt"] is False
        assert told["max_tokens"] == 18


async def test_an_engine_that_does_not_go_on_with_an_answer_is_passed_over_and_gets_the_next_request_as_before() -> (
    None
):
    async def refuses(call: Call) -> None:
        if known(call):
            await call.answer(b"no", status=b"503 Service Unavailable")
        else:
            await speaking()(call)

    engines = *both_speak(speaking(2, "reset"), refuses), Engine("c", speaking(), continues=True)
    async with rig(*engines, learn_capacity=True) as house:
        while not (house.engines[0].calls and any(known(call) for call in house.engines[1].calls)):
            assert said(await house.ask(request())) == "".join(WORDS)
        assert (house.shared.rest_until[1], house.shared.learned[1]) == (0, 0)
        assert [count.rejections for count in house.worker.counters.report(1, 1).counts] == [0, 0, 0]


async def test_an_event_that_was_cut_in_two_is_said_whole_by_the_next_engine() -> None:
    async with rig(*both_speak(speaking(2, "half"), speaking())) as house:
        answer = await until_broken(house)
        assert said(answer) == "".join(WORDS)
        assert b'"chat:' not in answer.body


def broken(answer: Answer) -> Any:
    return events_of(answer)[-1]["error"]["code"]


@pytest.mark.parametrize(
    "more",
    [{"n": 2}, {"logprobs": True}, {"response_format": {"type": "json_object"}}, {"stop": ["x"]}],
)
async def test_where_going_on_would_not_be_exact_the_client_is_told_that_the_answer_broke(more: dict[str, Any]) -> None:
    async with rig(*both_speak(speaking(2, "reset"), speaking())) as house:
        answer = await until_broken(house, **more)
        assert broken(answer) == "bad_gateway"


async def test_one_option_turns_it_off() -> None:
    async with rig(*both_speak(speaking(2, "reset"), speaking()), failover=False) as house:
        assert broken(await until_broken(house)) == "bad_gateway"


async def test_engines_that_cannot_go_on_with_an_answer_are_not_asked_to() -> None:
    async with rig(*both_speak(speaking(2, "reset"), speaking(), continues=False)) as house:
        assert broken(await until_broken(house)) == "bad_gateway"
        assert all(b"assistant" not in call.body for call in house.engines[1].calls)


async def test_streams_beyond_the_memory_for_it_are_not_continued_and_are_counted() -> None:
    async with rig(*both_speak(speaking(3, "reset"), speaking()), failover_memory=0) as house:
        assert broken(await until_broken(house)) == "bad_gateway"
        assert house.worker.replay_memory.dropped >= 1


async def test_a_request_that_breaks_every_engine_is_told_so_and_nobody_is_blamed() -> None:
    engines = *both_speak(speaking(2, "reset"), speaking(4, "reset")), Engine("c", speaking(), continues=True)
    async with rig(*engines) as house:
        answers = [await house.ask(request()) for _ in range(3)]
        await house.idle()
        errors = sum(count.errors for count in house.worker.counters.report(1, 1).counts)
        broken_twice = sum(events_of(answer)[-1] != "done" for answer in answers)
        assert broken_twice == 1
        breaks = sum(len(engine.calls) for engine in house.engines[:2])
        assert errors == breaks - 2 * broken_twice


async def test_an_engine_that_dies_behind_its_last_event_costs_nothing() -> None:
    async def script(call: Call) -> None:
        await speaking()(call) if call.engine.name == "b" else await call.send(
            HEAD + chunk(delta("a", {"role": "assistant", "content": "all"})) + chunk(delta("a", {}, "stop"))
        )
        if call.engine.name == "a":
            call.reset()

    async with rig(*both_speak(script, script)) as house:
        answer = await until_broken(house)
        assert said(answer) == "all"
        assert events_of(answer)[-1] == "done"
        assert all(b"assistant" not in call.body for call in house.engines[1].calls)


async def test_a_client_that_leaves_while_another_engine_is_to_go_on_leaves_nothing_behind() -> None:
    asked = asyncio.Event()

    async def hangs(call: Call) -> None:
        if known(call):
            asked.set()
            await call.gone()
        else:
            await speaking()(call)

    async with rig(*both_speak(speaking(2, "reset"), hangs)) as house:
        while not asked.is_set():
            client = await house.client()
            await client.send(request())
            await client.reader.readuntil(b"The" if house.engines[1].calls else b"quick")
            if house.engines[0].calls:
                await asyncio.wait_for(asked.wait(), 10)
        client.close()
        await house.idle()
