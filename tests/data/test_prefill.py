"""Prompts at the services that compute them: queued until the first token, warm from the dispatch on, learned from."""

from __future__ import annotations

import asyncio
import json
import mmap
from typing import Any

import pytest

from enginehouse.core.ask import Prompt
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Service
from enginehouse.core.shared import SIZE, Shared
from enginehouse.policy.chunks import prompt_of, seed_of
from enginehouse.policy.prefix_index import RATE, TOKEN_BYTES
from tests.data.rig import Answer, Call, Engine, Rig, Script, beside, post, rig, until

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
#: A little more than one of the lengths up to which prompts are compared.
TEXT = "".join(f"{number} bottles of beer on the wall, " for number in range(400))[: 12 * 1024 + 200]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(value: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def token(text: str = "word") -> bytes:
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]})


STOP = event({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


def usage(tokens: int, cached: int | None = None) -> dict[str, Any]:
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return {"usage": {"prompt_tokens": tokens, "completion_tokens": 1, **details}}


def messages(text: str = TEXT) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def request(text: str = TEXT, path: str = "/v1/chat/completions", extra: bytes = b"", **more: Any) -> bytes:
    return post(json.dumps({"model": "m", "messages": messages(text), **more}).encode(), path, extra)


def prompt(text: str = TEXT) -> Prompt:
    """As the worker sees that of `request`."""
    return prompt_of(json.dumps(messages(text)).encode(), seed_of("m"))


def warm(house: Rig, slot: int, text: str = TEXT) -> int:
    """Bytes of it that a service is thought to have."""
    return house.worker.loads.index.matched(house.worker.table.by_slot[slot], prompt(text))


def service(house: Rig, slot: int = 0) -> Service:
    return house.worker.table.by_slot[slot]


def answering(*counts: dict[str, Any]) -> Script:
    """Whole answers with these counts, the last one again and again."""
    left = list(counts or ({},))

    async def script(call: Call) -> None:
        await call.answer(json.dumps({"choices": [], **(left.pop(0) if len(left) > 1 else left[0])}).encode())

    return script


def streaming(*events: bytes, head: bytes = HEAD) -> Script:
    """Streams, each event in a chunk and a write of its own."""

    async def script(call: Call) -> None:
        await call.send(head)
        for one in (token(), STOP, *events, b"data: [DONE]\n\n"):
            await asyncio.sleep(0.005)
            await call.send(chunk(one))
        await call.send(b"0\r\n\r\n")

    return script


class Stepwise:
    """An engine whose answers go on when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.over = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        self.calls.append(call)
        await self.over.wait()


def reason(answer: Answer) -> str:
    found = answer.header("x-enginehouse-reason")
    assert found is not None
    return found


# -- where it goes -----------------------------------------------------------------------------------------------------


async def test_a_conversation_stays_where_its_beginning_is_warm_and_the_answer_says_how_much_of_it() -> None:
    async with rig(*(Engine(name, answering()) for name in "abcd")) as house:
        first = await house.ask(request())
        assert reason(first) == "prefix 0%"
        for more in ("And then?", "And then? Tell me more."):
            again = await house.ask(request(TEXT + more))
            assert again.header("x-enginehouse-service") == first.header("x-enginehouse-service")
            word, share = reason(again).split()
            assert word == "prefix"
            assert 85 <= int(share[:-1]) <= 100


async def test_other_models_prompts_are_other_prompts() -> None:
    async with rig(Engine("a", answering(), models=("m", "n"))) as house:
        await house.ask(request())
        assert warm(house, 0)
        body = json.dumps({"model": "n", "messages": messages()}).encode()
        assert reason(await house.ask(post(body))) == "only 0%"
        assert reason(await house.ask(post(body))) != "only 0%"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": messages()}),
        ("/v1/completions", {"prompt": TEXT}),
        ("/v1/completions", {"prompt": list(range(5000))}),
        ("/v1/responses", {"input": TEXT, "instructions": "Be brief."}),
        ("/v1/messages", {"system": TEXT, "messages": messages("hi"), "max_tokens": 9}),
        ("/completion", {"prompt": TEXT}),
        ("/generate", {"text": TEXT, "sampling_params": {}}),
    ],
)
async def test_whatever_generates_has_a_prompt(path: str, body: dict[str, Any]) -> None:
    async with rig(Engine("a", answering()), Engine("b", answering())) as house:
        sent = post(json.dumps({"model": "m", **body}).encode(), path)
        first, second = await house.ask(sent), await house.ask(sent)
        assert reason(first) == "prefix 0%"
        assert int(reason(second).split()[1][:-1]) > 75
        assert first.header("x-enginehouse-service") == second.header("x-enginehouse-service")


async def test_what_generates_nothing_and_what_another_policy_chooses_for_has_none() -> None:
    async with rig(Engine("a", answering()), Engine("b", answering())) as house:
        for _ in range(2):
            answer = await house.ask(post(json.dumps({"model": "m", "input": TEXT}).encode(), "/v1/embeddings"))
            assert reason(answer) == "least_load"
    async with rig(Engine("a", answering()), Engine("b", answering()), policy="least_load") as house:
        for _ in range(2):
            assert reason(await house.ask(request())) == "least_load"
            assert warm(house, 0) == warm(house, 1) == 0


async def test_a_session_has_a_home_whatever_is_warm_elsewhere() -> None:
    async with rig(*(Engine(name, answering()) for name in "abcd")) as house:
        warm_at = (await house.ask(request())).header("x-enginehouse-service")
        homes = {}
        for number in range(12):
            answer = await house.ask(request(extra=b"X-Session-Id: %d\r\n" % number))
            assert reason(answer).split()[0] == "session"
            homes[number] = answer.header("x-enginehouse-service")
        assert set(homes.values()) != {warm_at}
        for number, home in homes.items():
            answer = await house.ask(request("short", extra=b"x-session-id: %d\r\n" % number))
            assert answer.header("x-enginehouse-service") == home


async def test_a_request_may_name_the_policy_that_chooses_for_it_where_that_is_allowed() -> None:
    named = b"X-Enginehouse-Policy: Round_Robin\r\n"
    async with rig(Engine("a", answering()), Engine("b", answering()), allow_policy_header=True) as house:
        answers = [await house.ask(request(extra=named)) for _ in range(4)]
        assert {reason(answer) for answer in answers} == {"round_robin"}
        assert [len(engine.calls) for engine in house.engines] == [2, 2]
        assert reason(await house.ask(request())) == "prefix 0%", "what others choose is not looked at"
        refused = await house.ask(request(extra=b"x-enginehouse-policy: fastest\r\n"))
        assert refused.status == 400
        assert b"least_load" in refused.body, "it says which there are"
    async with rig(Engine("a", answering()), Engine("b", answering()), policy="random") as house:
        assert reason(await house.ask(request(extra=named))) == "random"
    engines = (Engine("a", answering()), Engine("b", answering()))
    async with rig(*engines, policy="random", allow_policy_header=True) as house:
        assert reason(await house.ask(request(extra=b"x-enginehouse-policy: prefix\r\n"))) == "prefix 0%"
        assert warm(house, 0) + warm(house, 1) > 0


async def test_another_worker_knows_at_once_what_is_warm_and_what_is_queued() -> None:
    holds = Stepwise()
    async with rig(Engine("a", holds), Engine("b", holds)) as house, beside(house) as other:
        asked = asyncio.ensure_future(house.ask(request()))
        await until(lambda: holds.calls)
        slot = next(slot for slot in (0, 1) if house.shared.queued[0][slot])
        assert warm(other, slot)
        assert other.worker.loads.queued[0][slot] == house.queued() > 2000
        await holds.calls[0].answer()
        holds.over.set()
        await asked


# -- the queue ---------------------------------------------------------------------------------------------------------


async def test_a_prompt_is_queued_from_the_dispatch_until_the_whole_answer_is_there() -> None:
    holds = Stepwise()
    async with rig(Engine("a", holds)) as house:
        asked = asyncio.ensure_future(house.ask(request()))
        await until(lambda: holds.calls)
        assert house.queued() == house.held() == pytest.approx(prompt().size / TOKEN_BYTES, rel=0.01)
        await holds.calls[0].answer()
        holds.over.set()
        await asked
        assert house.queued() == house.held() == 0


async def test_of_a_prompt_only_what_is_not_warm_is_queued() -> None:
    holds = Stepwise()
    async with rig(Engine("a", holds)) as house:
        asked = [asyncio.ensure_future(house.ask(request()))]
        await until(lambda: holds.calls)
        first = house.queued()
        asked.append(asyncio.ensure_future(house.ask(request())))
        await until(lambda: len(holds.calls) == 2)
        assert 0 < house.queued() - first < 300, "less than the chunk that is not whole"
        assert house.held() == 2 * first, "warm or not, it is in the cache while it is in flight"
        for call in holds.calls:
            await call.answer()
        holds.over.set()
        await asyncio.gather(*asked)


async def test_a_stream_that_has_begun_has_its_prompt_computed_and_goes_on() -> None:
    holds = Stepwise()
    async with rig(Engine("a", holds)) as house:
        client = await house.client()
        await client.send(request(stream=True))
        await until(lambda: holds.calls)
        call = holds.calls[0]
        await call.send(HEAD)
        await client.read_head()
        await call.send(chunk(b": still here\n\n"))
        await client.reader.readuntil(b"still here\n\n")
        assert house.queued() > 2000, "neither a head nor a comment shows that anything was computed"
        await call.send(chunk(token()))
        await client.reader.readuntil(b"word")
        assert (house.queued(), house.load()) == (0, 1)
        assert house.held() > 2000, "until the end of its answer"
        for number in range(3):
            await call.send(chunk(token(f"token-{number}")))
            await client.reader.readuntil(b"token-%d" % number)
        assert call.engine.calls
        await call.send(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        holds.over.set()
        await client.reader.readuntil(b"0\r\n\r\n")


async def test_the_responses_api_tells_of_a_response_before_anything_is_computed() -> None:
    holds = Stepwise()
    async with rig(Engine("a", holds)) as house:
        client = await house.client()
        await client.send(post(json.dumps({"model": "m", "input": TEXT, "stream": True}).encode(), "/v1/responses"))
        await until(lambda: holds.calls)
        call = holds.calls[0]
        for name in ("created", "in_progress"):
            data = event({"type": f"response.{name}", "response": {"id": "resp_1"}})
            await call.send(
                (HEAD if name == "created" else b"") + chunk(b"event: response.%b\n" % name.encode() + data)
            )
            await client.reader.readuntil(name.encode())
            await client.reader.readuntil(b"\n\n")
            assert house.queued() > 2000
        await call.send(chunk(b"event: response.output_text.delta\n" + event({"delta": "word"})))
        await client.reader.readuntil(b"word")
        assert house.queued() == 0
        call.reset()
        holds.over.set()
        await client.closed()


async def test_a_client_that_leaves_leaves_nothing_queued() -> None:
    holds = Stepwise()
    async with rig(Engine("a", holds)) as house:
        client = await house.client()
        await client.send(request())
        await until(lambda: holds.calls)
        assert house.queued()
        client.close()
        await until(lambda: not house.load())
        assert house.queued() == 0
        holds.over.set()


async def test_two_attempts_at_once_are_queued_at_both_and_whoever_is_outrun_is_rid_of_it() -> None:
    holds = Stepwise()
    async with rig(Engine("a", holds), Engine("b", holds), hedge_after=0.05) as house:
        asked = asyncio.ensure_future(house.ask(request()))
        await until(lambda: len(holds.calls) == 2)
        assert all(house.shared.queued[0][slot] > 2000 for slot in (0, 1))
        await holds.calls[1].answer()
        await asked
        assert house.queued() == 0
        holds.over.set()


# -- what is undone ----------------------------------------------------------------------------------------------------


async def test_a_service_that_cannot_be_reached_is_not_thought_to_have_the_prompt() -> None:
    async with rig(Engine("a", answering()), Engine("b", answering())) as house:
        text = TEXT
        while (await house.ask(request(text))).header("x-enginehouse-service") != "b":
            text = "x" + text
        await house.engines[1].stop()
        house.worker.pool.close()
        other = text[: 4 * 1024] + "different from there on" * 400
        answer = await house.ask(request(other))
        assert answer.header("x-enginehouse-service") == "a"
        assert answer.header("x-enginehouse-attempts") == "2"
        assert warm(house, 0, other) > 8 * 1024
        assert 0 < warm(house, 1, other) <= 4 * 1024, "it has still what it had"


@pytest.mark.parametrize("status", [b"503 Service Unavailable", b"404 Not Found", b"400 Bad Request"])
async def test_a_service_that_refuses_a_prompt_has_not_computed_it(status: bytes) -> None:
    async def refuses(call: Call) -> None:
        await call.answer(b'{"error":{"message":"no"}}', status)

    async with rig(Engine("a", refuses)) as house:
        await house.ask(request())
        assert (warm(house, 0), house.queued()) == (0, 0)


async def test_a_connection_that_was_closed_meanwhile_changes_nothing() -> None:
    async def closes_the_second(call: Call) -> None:
        if call.number == 1:
            call.reset()
        else:
            await call.answer()

    async with rig(Engine("a", closes_the_second)) as house:
        for text in ("first", "second"):
            assert (await house.ask(request(text + TEXT))).status == 200
            assert warm(house, 0, text + TEXT)
        assert len(house.engines[0].calls) == 3
        assert house.queued() == 0


# -- what answers teach ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        answering(usage(1000)),
        streaming(event(usage(1000))),
        streaming(event(usage(1000)), token()),
        streaming(event(usage(1000)), head=HEAD.replace(b"event-stream", b"plain")),
    ],
)
async def test_the_counts_at_the_end_tell_how_many_bytes_a_token_has(script: Script) -> None:
    async with rig(Engine("a", script)) as house:
        index = house.worker.loads.index
        assert index.figures(service(house)).token_bytes == TOKEN_BYTES
        await house.ask(request())
        await until(lambda: index.figures(service(house)).token_bytes > TOKEN_BYTES)
        assert prompt().size / 1000 > index.figures(service(house)).token_bytes


async def test_what_cannot_be_read_teaches_nothing() -> None:
    gzip = b"content-encoding: gzip\r\n"

    async def zipped(call: Call) -> None:
        await call.answer(json.dumps(usage(1000)).encode(), extra=gzip)

    async with rig(Engine("a", zipped)) as house:
        for _ in range(3):  # a head that is known is read in another way
            await house.ask(request())
        assert house.worker.loads.index.figures(service(house)).token_bytes == TOKEN_BYTES


async def test_a_stream_tells_how_fast_a_service_computes_if_it_has_nothing_else_to_do() -> None:
    async with rig(Engine("a", streaming())) as house:
        await house.ask(request(TEXT * 3, stream=True))
        assert house.worker.loads.index.figures(service(house)).rate != RATE


async def test_a_whole_answer_does_not_since_it_was_generated_meanwhile() -> None:
    async with rig(Engine("a", answering())) as house:
        await house.ask(request(TEXT * 3))
        assert house.worker.loads.index.figures(service(house)).rate == RATE


@pytest.mark.parametrize("none", [usage(2500, 0), usage(2500)])
async def test_where_nothing_was_cached_that_should_have_been_the_service_was_restarted(none: dict[str, Any]) -> None:
    """vLLM leaves the count out where it is zero: an engine that has ever told it means zero by that."""
    async with rig(Engine("a", answering(usage(2500, 0), usage(2500, 2400), none))) as house:
        other = TEXT[::-1]
        await house.ask(request(other))
        for _ in range(2):
            await house.ask(request())
        assert warm(house, 0, other)
        for _ in range(2):
            await house.ask(request())
        assert warm(house, 0, other) == 0


async def test_engines_that_never_tell_what_was_cached_are_believed_to_have_it() -> None:
    async with rig(Engine("a", answering(usage(2500)))) as house:
        other = TEXT[::-1]
        await house.ask(request(other))
        for _ in range(5):
            await house.ask(request())
        assert warm(house, 0, other)


async def test_a_stream_that_another_engine_went_on_with_teaches_nothing_of_that_engine() -> None:
    async def breaks(call: Call) -> None:
        await call.send(HEAD + chunk(token("The")))
        await told.wait()
        call.reset()

    told = asyncio.Event()
    engines = (
        Engine("a", breaks, continues=True),
        Engine("b", streaming(event({"choices": [], **usage(9)})), continues=True),
    )
    async with rig(*engines) as house:
        house.shared.queued[7][1] = 1 << 20  # of a worker that is gone; so the first engine is asked first
        house.shared.beats[7] = 1.0
        house.worker.beat()
        client = await house.client()
        await client.send(request(stream=True, stream_options={"include_usage": True}))
        await client.reader.readuntil(b"The")
        told.set()
        await client.reader.readuntil(b"[DONE]")
        await house.idle()
        assert len(engines[1].calls) == 1
        assert house.queued() == 0
        assert house.worker.loads.index.figures(service(house, 1)).token_bytes == TOKEN_BYTES


def test_prefix_is_what_models_have_that_are_not_configured() -> None:
    assert RouterConfig().policy == "prefix"


def test_the_row_of_a_dead_worker_is_dropped() -> None:
    shared = Shared(memoryview(mmap.mmap(-1, SIZE)))
    shared.queued[3][5], shared.held[3][5] = 4000, 9000
    shared.forget_worker(3)
    assert (shared.queued[3][5], shared.held[3][5]) == (0, 0)
