"""The real llama.cpp server: what it answers, and how our program starts and stops it."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from enginehouse.control.kv_cache import from_props
from enginehouse.engines.llamacpp import main
from tests.e2e.engines import EngineProcess, LlamaFactory, llama_arguments
from tests.sim import raw

HI: list[Any] = [{"role": "user", "content": "Say hello."}]
EXAMPLE_START = [0.0677, 0.0635, 0.0487, 0.0793, 0.0374]
"""The first numbers of all-MiniLM-L6-v2's embedding of `This is an example sentence`, as its authors publish them."""


Connect = Callable[[EngineProcess], openai.OpenAI]


@pytest.fixture
def client() -> Iterator[Connect]:
    """Makes SDK clients, and closes them after the test."""
    with contextlib.ExitStack() as clients:

        def connect(engine: EngineProcess) -> openai.OpenAI:
            made = openai.OpenAI(base_url=engine.url + "/v1", api_key=engine.key or "none", max_retries=0)
            return clients.enter_context(made)

        yield connect


@pytest.fixture
def own_engine(models_cache: Path) -> Iterator[Any]:
    """Starts a real engine that this test may end as it likes."""
    started: list[EngineProcess] = []

    def start(model: str, **flags: Any) -> EngineProcess:
        started.append(EngineProcess(model, list(llama_arguments(models_cache, model, **flags))))
        return started[-1]

    yield start
    for each in started:
        each.kill9()


def test_a_real_model_answers_a_chat_whole_and_streamed_alike(llama_engine: LlamaFactory, client: Connect) -> None:
    smol = client(llama_engine("smollm2", "smol"))
    assert [model.id for model in smol.models.list()] == ["smol"]
    whole = smol.chat.completions.create(model="smol", messages=HI, max_tokens=24, temperature=0)
    stream = smol.chat.completions.create(model="smol", messages=HI, max_tokens=24, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(text.split()) > 2
    assert whole.usage
    assert whole.usage.prompt_tokens > 5


def test_a_real_model_answers_messages_of_the_anthropic_sdk(llama_engine: LlamaFactory) -> None:
    engine = llama_engine("smollm2", "smol")
    with anthropic.Anthropic(base_url=engine.url, api_key="none", max_retries=0) as sdk:
        whole = sdk.messages.create(model="smol", max_tokens=12, messages=HI)
        assert whole.content[0].type == "text"
        assert whole.usage.output_tokens > 0
        with sdk.messages.stream(model="smol", max_tokens=12, messages=HI) as stream:
            assert "".join(stream.text_stream)


def test_embeddings_are_those_the_model_is_known_for(llama_engine: LlamaFactory, client: Connect) -> None:
    minilm = client(llama_engine("minilm"))
    asked = ["This is an example sentence", "A cat sat on the mat", "A kitten rested on the rug"]
    example, cat, kitten = (each.embedding for each in minilm.embeddings.create(model="minilm", input=asked).data)
    assert len(example) == 384
    assert example[:5] == pytest.approx(EXAMPLE_START, abs=5e-4)
    assert similar(cat, kitten) > 0.5 > similar(cat, example)


def similar(one: list[float], other: list[float]) -> float:
    """The cosine of two vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_the_tiny_model_gives_the_same_greedy_answer_on_every_engine(
    llama_engine: LlamaFactory, client: Connect
) -> None:
    texts = []
    for alias in ("one", "two"):
        answer = client(llama_engine("tiny", alias)).chat.completions.create(
            model=alias, messages=HI, max_tokens=16, temperature=0
        )
        texts.append(answer.choices[0].message.content)
    assert texts[0] == texts[1] != ""


async def test_it_closes_the_connection_after_a_stream_though_it_promised_to_keep_it(
    llama_engine: LlamaFactory,
) -> None:
    engine = llama_engine("tiny", "one")
    body = {"messages": HI, "max_tokens": 3, "stream": True}
    got = await raw.exchange(engine.port, raw.request("POST", "/v1/chat/completions", body))
    assert b"Keep-Alive: timeout=5" in got
    assert got.endswith(b"0\r\n\r\n")


def test_metrics_and_slots_are_served_when_asked_for(llama_engine: LlamaFactory) -> None:
    engine = llama_engine("tiny", "watched", metrics=True, slots=True, parallel=2, ctx_size=1024)
    assert engine.request("GET", "/metrics")[0] == 200
    assert len(engine.request("GET", "/slots")[1]) == 2
    props = engine.request("GET", "/props")[1]
    assert props["default_generation_settings"]["n_ctx"] == 512
    assert from_props(json.dumps(props).encode()) == 1024, "what the router takes for the size of its KV cache"


@pytest.mark.parametrize("source", ["flag", "file", "environment"])
def test_a_key_is_required_wherever_it_comes_from(
    own_engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "keys").write_text("secret\nother\n")
    if source == "environment":
        monkeypatch.setenv("LLAMA_API_KEY", "secret")
    ways: dict[str, dict[str, Any]] = {
        "flag": {"api_key": "secret"},
        "file": {"api_key_file": tmp_path / "keys"},
        "environment": {},
    }
    engine = own_engine("tiny", **ways[source])
    assert engine.request("GET", "/health")[0] == 200
    assert engine.request("POST", "/v1/chat/completions", {"messages": HI, "max_tokens": 1})[0] == 401
    engine.key = "secret"
    assert engine.request("POST", "/v1/chat/completions", {"messages": HI, "max_tokens": 1})[0] == 200


def test_an_idle_engine_ends_on_the_first_sigterm_even_right_after_its_first_line(own_engine: Any) -> None:
    assert [own_engine("tiny").stop() for _ in range(3)] == [0, 0, 0]


LONG = {"messages": HI, "max_tokens": 3000, "ignore_eos": True}


async def test_an_engine_with_a_long_request_ends_at_its_deadline(own_engine: Any) -> None:
    engine = own_engine("smollm2", stop_timeout=0.5)
    async with raw.line(engine.port) as line:
        await line.send(raw.request("POST", "/v1/chat/completions", LONG))
        assert await line.nothing_for(0.3)
        engine.signal(signal.SIGTERM)
        assert await asyncio.to_thread(engine.wait, 30) == -signal.SIGALRM


async def test_an_engine_with_a_long_request_ends_at_once_on_another_signal(own_engine: Any) -> None:
    engine = own_engine("smollm2", stop_timeout=60)
    async with raw.line(engine.port) as line:
        await line.send(raw.request("POST", "/v1/chat/completions", LONG))
        assert await line.nothing_for(0.3)
        while engine.alive:
            engine.signal(signal.SIGTERM)
            await asyncio.sleep(0.2)  # nothing shows when the first one has been noticed
        assert engine.wait() == -signal.SIGTERM


@pytest.mark.parametrize("flags", [["--model", "missing.gguf"], ["--model", "tiny", "--host", "203.0.113.7"]])
def test_what_cannot_be_served_ends_it_with_status_1_and_a_reason(models_cache: Path, flags: list[str]) -> None:
    command = [
        sys.executable,
        "-m",
        "enginehouse.engines.llamacpp",
        "--cache",
        str(models_cache),
        "--port",
        "0",
        *flags,
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "missing.gguf" in ended.stderr or "cannot serve tiny-1.gguf on 203.0.113.7:0" in ended.stderr


def test_a_file_that_is_no_model_ends_it_with_status_1(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"no model")
    command = [
        sys.executable,
        "-m",
        "enginehouse.engines.llamacpp",
        "--port",
        "0",
        "--model",
        str(tmp_path / "no.gguf"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "llama.cpp cannot serve no.gguf" in ended.stderr  # among lines that llama.cpp itself writes, in no order


def test_without_its_library_it_says_what_to_install(
    models_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    assert main(["--model", "tiny", "--cache", str(models_cache)]) == 3
    message = "llama.cpp's server needs a package that is not installed: pip install --no-deps xllamacpp\n"
    assert capsys.readouterr().err == message


def test_a_broken_stream_can_be_continued_from_its_partial_answer(llama_engine: LlamaFactory, client: Connect) -> None:
    smol = client(llama_engine("smollm2", "smol"))

    def ask(turns: list[Any], tokens: int) -> list[str]:
        made = smol.chat.completions.create(model="smol", messages=turns, max_tokens=tokens, temperature=0, stream=True)
        return [chunk.choices[0].delta.content or "" for chunk in made if chunk.choices]

    pieces = [piece for piece in ask(HI, 20) if piece]
    partial = "".join(pieces[:6])
    rest = ask([*HI, {"role": "assistant", "content": partial}], len(pieces) - 6)
    assert partial + "".join(rest) == "".join(pieces), json.dumps(pieces)
