"""A house of real llama.cpp engines with real small models, used through the official SDKs.

Two chat models (`smollm2` and the random `tiny`), each on an engine of its own, both engines also serving `shared`; an
embedding model; and a simulated engine that transcribes. An engine that cannot be had fails every test here.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import psutil
import pytest

from enginehouse.engines import models
from tests.e2e.conftest import StartPart
from tests.e2e.engines import LlamaFactory
from tests.e2e.house import House, real, simulated
from tests.e2e.program import DEADLINE, get, until
from tests.ports import Ports
from tests.sim import raw

HI: list[Any] = [{"role": "user", "content": "Say hello."}]
TO_THE_END = {"ignore_eos": True}
"""For llama.cpp: as many tokens as were asked for, whatever is drawn."""
FIVE_MB = 5 * 1000 * 1000
PROMPTLY = 2.0
"""Seconds; the router closes within 50 ms and llama.cpp stops at its next token, but this machine may be busy."""
UNSTOPPED = 1500
"""Tokens. SmolLM2 takes more than half a minute for so many."""


@pytest.fixture(scope="module")
def house(models_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Everything above, ready."""
    for name in ("smollm2", "tiny", "minilm"):
        models.find(name, models_cache)
    watched = {"slots": True, "metrics": True, "parallel": 2, "ctx_size": 4096}
    engines = [
        real("smol", "smollm2", models_cache, ("smollm2", "shared"), **watched),
        real("tiny", "tiny", models_cache, ("tiny", "shared"), **watched),
        real("embed", "minilm", models_cache, embedding=True),
        simulated("ears", "whisper"),
    ]
    ports = Ports()
    started = House(engines, ports, tmp_path_factory.mktemp("house"))
    try:
        asyncio.run(started.ready())
        yield started
    finally:
        asyncio.run(started.close())
        ports.release()


@pytest.fixture
def sdk(house: House) -> Iterator[openai.OpenAI]:
    """The openai SDK, with its own retries off."""
    with openai.OpenAI(base_url=house.url + "/v1", api_key="none", max_retries=0, timeout=DEADLINE) as client:
        yield client


@pytest.fixture
def plain(house: House) -> Iterator[httpx2.Client]:
    """A plain HTTP client."""
    with httpx2.Client(base_url=house.url, timeout=DEADLINE) as client:
        yield client


def complaint(answer: httpx2.Response) -> dict[str, Any]:
    """The error of an answer, in OpenAI's shape exactly."""
    body = answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return body["error"]


# chat


@pytest.mark.parametrize(("model", "engine"), [("smollm2", "smol"), ("tiny", "tiny")])
def test_a_chat_with_a_model_reaches_the_real_engine_that_has_it(sdk: openai.OpenAI, model: str, engine: str) -> None:
    got = sdk.chat.completions.with_raw_response.create(model=model, messages=HI, max_tokens=8, temperature=0)
    assert got.headers["server"] == "llama.cpp"
    assert got.headers["x-enginehouse-service"] == f"{engine}-server"
    answer = got.parse()
    assert answer.model == model
    assert answer.choices[0].message.content
    assert answer.usage
    assert answer.usage.completion_tokens == 8


@pytest.mark.parametrize(("model", "engine"), [("smollm2", "smol"), ("tiny", "tiny")])
def test_a_streamed_chat_comes_token_by_token_and_is_the_same_text(sdk: openai.OpenAI, model: str, engine: str) -> None:
    asked: dict[str, Any] = {"model": model, "messages": HI, "max_tokens": 16, "temperature": 0}
    whole = sdk.chat.completions.create(**asked)
    raw_stream = sdk.chat.completions.with_raw_response.create(**asked, stream=True)
    assert raw_stream.headers["x-enginehouse-service"] == f"{engine}-server"
    assert raw_stream.headers["content-type"].startswith("text/event-stream")
    pieces = [chunk.choices[0].delta.content or "" for chunk in raw_stream.parse() if chunk.choices]
    assert len([piece for piece in pieces if piece]) > 8
    assert "".join(pieces) == whole.choices[0].message.content


def test_the_shared_model_is_spread_evenly_over_both_its_services(sdk: openai.OpenAI) -> None:
    answered: Counter[str] = Counter()
    for _ in range(10):
        got = sdk.chat.completions.with_raw_response.create(model="shared", messages=HI, max_tokens=1)
        answered[got.headers["x-enginehouse-service"]] += 1
    assert answered == {"smol-server": 5, "tiny-server": 5}


async def test_many_streams_at_once_are_all_whole(house: House) -> None:
    async with openai.AsyncOpenAI(base_url=house.url + "/v1", api_key="none", max_retries=0) as client:

        async def one(model: str) -> int:
            stream = await client.chat.completions.create(
                model=model,
                messages=HI,
                max_tokens=8,
                stream=True,
                stream_options={"include_usage": True},
                extra_body=TO_THE_END,
            )
            return sum([chunk.usage.completion_tokens async for chunk in stream if chunk.usage])

        assert await asyncio.gather(*[one(model) for model in ("tiny", "shared", "smollm2") * 4]) == [8] * 12


def test_the_anthropic_sdk_talks_to_the_same_engines(house: House) -> None:
    with anthropic.Anthropic(base_url=house.url, api_key="none", max_retries=0, timeout=DEADLINE) as client:
        whole = client.messages.create(model="smollm2", max_tokens=8, messages=HI)
        assert whole.content[0].type == "text"
        assert 0 < whole.usage.output_tokens <= 8
        with client.messages.stream(model="tiny", max_tokens=8, messages=HI) as stream:
            assert "".join(stream.text_stream)
            assert 0 < stream.get_final_message().usage.output_tokens <= 8
        with pytest.raises(anthropic.APIStatusError) as refused:
            client.messages.create(model="nobody", max_tokens=8, messages=HI)
    assert refused.value.status_code == 503
    assert refused.value.body["type"] == "error"  # type: ignore[index]
    assert "'nobody'" in refused.value.message


# embeddings, models, transcriptions


def test_embeddings_come_from_the_embedding_engine(sdk: openai.OpenAI) -> None:
    got = sdk.embeddings.with_raw_response.create(model="minilm", input=["A cat sat.", "A kitten rested.", "Tax law."])
    assert got.headers["x-enginehouse-service"] == "embed-server"
    cat, kitten, law = (each.embedding for each in got.parse().data)
    assert len(cat) == 384
    assert dot(cat, kitten) > dot(cat, law)


def dot(one: list[float], other: list[float]) -> float:
    """The similarity of two vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_models_are_listed_once_each_and_can_be_retrieved_by_their_id(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["minilm", "shared", "smollm2", "tiny", "whisper"]
    assert sdk.models.retrieve("shared").id == "shared"
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.models.retrieve("nobody")
    assert missing.value.code == "model_not_found"


async def test_a_transcription_is_routed_by_the_model_in_its_form_and_arrives_byte_for_byte(
    house: House, sdk: openai.OpenAI
) -> None:
    sound = bytes(range(256)) * 4096
    got = await asyncio.to_thread(
        sdk.audio.transcriptions.with_raw_response.create, model="whisper", file=("hello.wav", sound, "audio/wav")
    )
    assert got.headers["x-enginehouse-service"] == "ears-server"
    assert got.parse().text
    form = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + sound
    form += b'\r\n--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper\r\n--x--\r\n'
    request = raw.request("POST", "/v1/audio/transcriptions", form, "content-type: multipart/form-data; boundary=x")
    assert (await raw.once(house.port, request)).status == 200
    assert await last_body(house, "ears") == (len(form), hashlib.sha256(form).hexdigest())


async def last_body(house: House, engine: str) -> tuple[int, str]:
    """Length and SHA-256 of the last body a simulated engine was sent."""
    _, stats = await get(f"{house.engine_url(engine)}/sim/stats")
    return stats["last"]["body_length"], stats["last"]["body_sha256"]


# what is wrong with a request


def test_an_unknown_model_is_refused_with_its_name_and_those_there_are(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        sdk.chat.completions.create(model="nobody", messages=HI)
    assert refused.value.status_code == 503
    assert refused.value.code == "model_not_found"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert "No healthy services available for model 'nobody'" in refused.value.message
    assert "minilm, shared, smollm2, tiny, whisper" in refused.value.message


@pytest.mark.parametrize("body", [b"{nope", b'[{"model": "tiny"}]', b'"tiny"', b"null", b"", b'{"model": "tiny"'])
def test_a_body_that_is_no_json_object_is_refused_and_reaches_no_engine(plain: httpx2.Client, body: bytes) -> None:
    answer = plain.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "could not parse the JSON body" in complaint(answer)["message"]
    assert answer.headers["x-enginehouse-service"] == "-"


def test_a_body_without_model_goes_round_all_services(plain: httpx2.Client) -> None:
    answers = [plain.post("/v1/embeddings", json={"input": "hi"}) for _ in range(8)]
    assert {answer.headers["x-enginehouse-service"] for answer in answers} == {
        f"{name}-server" for name in ("smol", "tiny", "embed", "ears")
    }


def test_what_the_engine_itself_refuses_is_passed_on_in_openais_shape(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "word " * 3000}])
    assert "context size" in refused.value.message
    assert refused.value.response.headers["x-enginehouse-service"] == "tiny-server"
    error = refused.value.response.json()["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert isinstance(error["code"], str), "llama.cpp itself sends a number"


async def test_a_body_of_5_mb_arrives_byte_for_byte_and_is_answered_by_the_real_engine(house: House) -> None:
    body = {"model": "tiny", "messages": HI, "max_tokens": 2, "padding": "x" * FIVE_MB}
    reply = await raw.once(house.port, raw.request("POST", "/v1/chat/completions", body))
    assert reply.status == 200, reply
    assert reply.json["usage"]["completion_tokens"] == 2
    data = json.dumps(body | {"model": "whisper"}).encode()
    assert (await raw.once(house.port, raw.request("POST", "/v1/chat/completions", data))).status == 200
    assert await last_body(house, "ears") == (len(data), hashlib.sha256(data).hexdigest())


# leaving


async def test_a_client_that_leaves_a_stream_stops_the_real_engine_and_the_routers_connection_to_it(
    house: House,
) -> None:
    await gone_connections(house, "smol", 10.0)  # idle ones of earlier requests
    async with raw.line(house.port) as line:
        await line.send(raw.chat(True, model="smollm2", max_tokens=UNSTOPPED, ignore_eos=True))
        await line.until(b"data: ")
        await line.until(b"data: ")
        assert await generating(house, "smol")
        assert len(connections(house, "smol")) == 1
    left = time.monotonic()
    await gone_connections(house, "smol", PROMPTLY)
    print(f"the router's connection was closed {time.monotonic() - left:.3f} s after the client left")

    async def stopped() -> bool:
        return not await generating(house, "smol")

    await until("the end of the generation", stopped, PROMPTLY)
    print(f"the engine had stopped {time.monotonic() - left:.3f} s after the client left")
    details = (await get(f"{house.url}/stats"))[1]["details"]["smol-server"]
    assert details["state"] == "up"
    assert details["in_flight"] == 0


async def test_a_client_that_leaves_before_a_whole_answer_closes_the_routers_connection_too(house: House) -> None:
    await gone_connections(house, "smol", 10.0)
    async with raw.line(house.port) as line:
        await line.send(raw.chat(False, model="smollm2", max_tokens=200, ignore_eos=True))

        async def begun() -> bool:
            return await generating(house, "smol")

        await until("the beginning of the generation", begun)
        assert len(connections(house, "smol")) == 1
    await gone_connections(house, "smol", PROMPTLY)


async def generating(house: House, engine: str) -> bool:
    """Whether the engine itself says that one of its slots is at work."""
    status, slots = await get(f"{house.engine_url(engine)}/slots")
    assert status == 200
    return any(slot["is_processing"] for slot in slots)


def connections(house: House, engine: str) -> list[int]:
    """The local ports of the worker's open connections to an engine."""
    worker, port = psutil.Process(house.pid_of("worker", "0")), house.engines[engine]["port"]
    open_ones = [each for each in worker.net_connections(kind="tcp") if each.status == psutil.CONN_ESTABLISHED]
    return [each.laddr.port for each in open_ones if each.raddr.port == port]


async def gone_connections(house: House, engine: str, deadline: float) -> None:
    """Until the worker has none to the engine."""

    async def none() -> bool:
        return not connections(house, engine)

    await until(f"no connection of the worker to {engine}", none, deadline)


# an engine without a babysitter


async def test_a_plain_real_engine_in_a_static_file_needs_neither_babysitter_nor_registry(
    llama_engine: LlamaFactory, start_part: StartPart, tmp_path: Path
) -> None:
    """Defect: A static service without a babysitter at port+1 turns unhealthy, so a plain vLLM or llama.cpp cannot be
    used."""
    engine = llama_engine("tiny", "bare", parallel=2)
    services = tmp_path / "services.json"
    services.write_text(json.dumps([{"name": "plain", "host": "127.0.0.1", "port": engine.port}]))
    words = (
        "--router-port",
        "0",
        "--static-services",
        str(services),
        "--require-model",
        "--unknown-model-status",
        "404",
    )
    router = start_part("router", "--host", "127.0.0.1", *words)
    url = await router.first_line()

    async def listed() -> bool:
        _, body = await get(f"{url}/v1/models")
        return bool(body) and [model["id"] for model in body["data"]] == ["bare"]

    await until("its model, learned from itself", listed)
    async with openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(model="bare", messages=HI, max_tokens=4)
        assert answer.choices[0].message.content
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.chat.completions.create(model="nobody", messages=HI)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as missing:
            await client.post("/chat/completions", body={"messages": HI}, cast_to=object)
    assert "you must provide a model parameter" in missing.value.message
