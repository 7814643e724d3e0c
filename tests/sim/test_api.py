"""The endpoints of the simulated engine, asked by the official SDKs where there is one."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.e2e.engines import SimFactory, SimProcess
from tests.sim import raw

HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
def sim(sim_engine: SimFactory) -> SimProcess:
    return sim_engine(name="alpha", models=["m", "org/model"], tokens=12)


@pytest.fixture
def client(sim: SimProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=sim.url + "/v1", api_key="none", max_retries=0) as made:
        yield made


def test_models_are_listed_as_vllm_lists_them(client: openai.OpenAI) -> None:
    listed = client.models.list().data
    assert [model.id for model in listed] == ["m", "org/model"]
    assert listed[0].model_extra == {"max_model_len": 131072, "root": "m", "parent": None}


def test_a_chat_says_who_answered_and_what_it_used(client: openai.OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(model="m", messages=HI)
    assert answer.headers["x-sim-name"] == "alpha"
    chat = answer.parse()
    assert chat.system_fingerprint == "alpha"
    assert chat.usage
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens, chat.usage.total_tokens) == (3, 12, 15)
    assert len((chat.choices[0].message.content or "").split()) == 12


def test_a_streamed_chat_carries_the_same_text(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="m", messages=HI)
    chunks = list(client.chat.completions.create(model="m", messages=HI, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_comes_in_a_last_chunk_when_asked_for(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    *_, last = client.chat.completions.create(model="m", messages=HI, stream=True, stream_options=options)
    assert last.choices == []
    assert last.usage
    assert last.usage.completion_tokens == 12


@pytest.mark.parametrize(
    ("fields", "tokens", "reason"),
    [
        ({"max_tokens": 3}, 3, "length"),
        ({"max_completion_tokens": 4, "max_tokens": 9}, 4, "length"),
        ({"max_tokens": 100}, 12, "stop"),
        ({"max_tokens": 40, "ignore_eos": True}, 40, "length"),
        ({"max_tokens": 0}, 0, "length"),
    ],
)
async def test_limits_of_an_answer(sim: SimProcess, fields: dict, tokens: int, reason: str) -> None:
    for stream in (False, True):
        reply = await raw.once(sim.port, raw.chat(stream, model="m", stream_options={"include_usage": True}, **fields))
        body = reply.body.replace(b"data: [DONE]\n\n", b"")
        told = json.loads(raw.events(body)[-1].removeprefix(b"data: ")) if stream else reply.json
        assert told["usage"]["completion_tokens"] == tokens
        assert (b'"finish_reason":"%b"' % reason.encode()) in reply.body


@pytest.mark.parametrize("tokens_known", [1, 5, 11, 12])
def test_a_partial_answer_is_continued_without_repeating_it(client: openai.OpenAI, tokens_known: int) -> None:
    whole = client.chat.completions.create(model="m", messages=HI).choices[0].message.content or ""
    partial = " ".join(whole.split()[:tokens_known])
    turns = [*HI, {"role": "assistant", "content": partial}]
    go_on = {"continue_final_message": True, "add_generation_prompt": False}
    rest = client.chat.completions.create(model="m", messages=turns, stream=True, extra_body=go_on)
    assert partial + "".join(chunk.choices[0].delta.content or "" for chunk in rest) == whole


async def test_two_engines_give_the_same_answer(sim_engine: SimFactory) -> None:
    one, other = sim_engine(), sim_engine(style="llama.cpp")
    answers = [raw.text_of((await raw.once(each.port, raw.chat(stream=True))).body) for each in (one, other)]
    assert answers[0] == answers[1] != ""


@pytest.mark.parametrize("prompt", ["x", ["x", "y"], [1, 2], [[1, 2], [3]]])
def test_completions_take_prompts_in_every_form(client: openai.OpenAI, prompt: Any) -> None:
    whole = client.completions.create(model="m", prompt=prompt, max_tokens=5)
    chunks = client.completions.create(model="m", prompt=prompt, max_tokens=5, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text != ""


def test_responses_are_remembered_and_others_are_not_found(client: openai.OpenAI) -> None:
    made = client.responses.create(model="m", input="hello")
    assert client.responses.retrieve(made.id).output_text == made.output_text != ""
    assert made.metadata == {"engine": "alpha"}
    with pytest.raises(openai.NotFoundError, match="resp_unknown"):
        client.responses.retrieve("resp_unknown")


def test_streamed_responses_come_as_events_and_are_remembered_too(client: openai.OpenAI) -> None:
    with client.responses.stream(model="m", input="hello") as stream:
        numbers = [event.sequence_number for event in stream]
        final = stream.get_final_response()
    assert numbers == sorted(numbers)
    assert client.responses.retrieve(final.id).output_text == final.output_text != ""


def test_a_response_cut_by_its_limit_is_incomplete(client: openai.OpenAI) -> None:
    made = client.responses.create(model="m", input="hello", max_output_tokens=2)
    assert made.status == "incomplete"
    assert made.usage
    assert made.usage.output_tokens == 2


def test_messages_answer_the_anthropic_sdk(sim: SimProcess) -> None:
    with anthropic.Anthropic(base_url=sim.url, api_key="none", max_retries=0) as client:
        whole = client.messages.create(model="m", max_tokens=4, messages=HI)
        with client.messages.stream(model="m", max_tokens=4, messages=HI) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert whole.content[0].type == "text"
        assert whole.content[0].text == text
        assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 4)
        with pytest.raises(anthropic.NotFoundError, match="does not exist"):
            client.messages.create(model="x", max_tokens=4, messages=HI)


def test_embeddings_are_the_same_in_both_encodings(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="m", input=["a", "b"])
    plain = client.embeddings.create(model="m", input=["a", "b"], encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert len(client.embeddings.create(model="m", input="a", dimensions=100).data[0].embedding) == 100
    assert len(client.embeddings.create(model="m", input=[[1, 2], [3]]).data) == 2


def test_a_transcription_tells_what_was_received(client: openai.OpenAI) -> None:
    sound = io.BytesIO(b"RIFF\r\n--" + bytes(range(256)) * 1000)
    sound.name = "voice.wav"
    made = client.audio.transcriptions.create(model="m", file=sound, language="de")
    assert made.model_extra
    digest = hashlib.sha256(sound.getvalue()).hexdigest()
    assert made.model_extra["file"] == {"name": "voice.wav", "bytes": 256008, "sha256": digest}
    assert made.model_extra["fields"] == {"model": "m", "language": "de"}


async def test_rerank_puts_the_document_with_the_query_first(sim: SimProcess) -> None:
    ask = {"model": "m", "query": "warm house", "documents": ["a cold room", {"text": "a warm house"}], "top_n": 1}
    status, answer = sim.request("POST", "/v1/rerank", ask)
    assert (status, [each["index"] for each in answer["results"]]) == (200, [1])


async def test_render_tells_a_prompts_tokens_as_vllm_does_before_it_is_asked(sim: SimProcess) -> None:
    def rendered(text: str) -> list[int]:
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        tokens: list[int] = sim.request("POST", "/v1/chat/completions/render", body)[1]["token_ids"]
        return tokens

    one, other = rendered("a" * 400), rendered("a" * 400 + "b" * 40)
    assert other[: len(one) - 1] == one[:-1]
    assert len(other) == len(one) + 10
    assert all(0 <= token < 1 << 17 for token in other)


async def test_tokenize_counts(sim: SimProcess) -> None:
    assert sim.request("POST", "/tokenize", {"model": "m", "prompt": "abcdefgh"})[1]["count"] == 2
    assert sim.request("POST", "/tokenize", {"content": "abcd"})[1]["tokens"] == [int.from_bytes(b"abcd", "big")]


@pytest.mark.parametrize("path", ["/sleep", "/v1/load_lora_adapter", "/slots", "/reset_prefix_cache"])
async def test_administrative_paths_answer_so_that_reaching_them_shows(sim: SimProcess, path: str) -> None:
    assert sim.request("POST", path, {})[1]["reached"] == path
    assert sim.stats()["by_path"] == {f"POST {path}": 1}


async def test_an_unknown_model_is_not_found_in_vllms_words(sim: SimProcess) -> None:
    reply = await raw.once(sim.port, raw.chat(model="x"))
    assert (reply.status, reply.json["error"]["code"], reply.json["error"]["type"]) == (404, 404, "NotFoundError")


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/rerank"],
)
async def test_bad_bodies_are_refused_and_the_connection_goes_on(sim: SimProcess, path: str) -> None:
    wrong_types = [b'{"messages":"x"}', b'{"prompt":1}', b'{"messages":[{"role":1}]}', b'{"input":{}}']
    async with raw.line(sim.port) as line:
        for body in [b"", b"{", b"[]", b"\xff", b"[" * 100_000, *wrong_types]:
            refused = await line.ask("POST", path, body)
            assert refused.status == 400
            assert "error" in refused.json
        assert (await line.ask("GET", "/health")).status == 200


async def test_a_form_that_is_none_is_refused(sim: SimProcess) -> None:
    for kind in ("text/plain", "multipart/form-data", "multipart/form-data; boundary=x"):
        sent = raw.request("POST", "/v1/audio/transcriptions", b"nothing", f"Content-Type: {kind}")
        assert (await raw.once(sim.port, sent)).status == 400


async def test_a_prompt_longer_than_the_context_is_refused(sim_engine: SimFactory) -> None:
    sim = sim_engine(context=10)
    assert (await raw.once(sim.port, raw.chat(messages=[{"role": "user", "content": "x" * 100}]))).status == 400


async def test_unknown_paths_and_methods_are_refused(sim: SimProcess) -> None:
    assert sim.request("GET", "/nothing")[0] == 404
    assert sim.request("DELETE", "/v1/chat/completions")[0] == 405


@pytest.mark.parametrize("source", ["value", "file"])
async def test_a_key_is_required_everywhere_but_for_health(sim_engine: SimFactory, tmp_path: Path, source: str) -> None:
    (tmp_path / "key").write_text("secret\n")
    sim = sim_engine(**({"api_key": "secret"} if source == "value" else {"api_key_file": str(tmp_path / "key")}))
    async with raw.line(sim.port) as line:
        assert (await line.ask("GET", "/health")).status == 200
        for path in ("/v1/models", "/sim/stats", "/nothing"):
            assert (await line.ask("GET", path)).status == 401
        assert (await line.ask("GET", "/v1/models", None, "Authorization: Bearer wrong")).status == 401
        assert (await line.ask("GET", "/v1/models", None, "Authorization: Bearer secret")).status == 200
        assert (await line.ask("GET", "/v1/models", None, "x-api-key: secret")).status == 200
