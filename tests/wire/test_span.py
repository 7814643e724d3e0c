"""What the span of a request says, and what it never says."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginehouse.core.outcome import Outcome
from enginehouse.wire.access_line import Record
from enginehouse.wire.span import (
    Batch,
    attributes_of,
    attributes_of_try,
    decode_batch,
    encode_batch,
    error_type,
    name_of,
)
from enginehouse.wire.trace_context import Trace, Try
from enginehouse.wire.usage import Usage

SECRET = "sk-never-in-a-span"
STREAMED = Record(
    begun=1000.0,
    ended=1002.5,
    first_byte=1000.25,
    queued=0.125,
    id=b"req-1",
    client="192.0.2.7",
    method=b"POST",
    target=b"/v1/chat/completions?key=" + SECRET.encode(),
    model="Qwen/Qwen3-8B",
    service="engine-1",
    status=200,
    outcome=Outcome.ANSWERED,
    attempts=2,
    bytes_in=1204,
    bytes_out=35210,
    stream=True,
    usage=Usage(2500, 320, 2400),
    warm=0.75,
    reason="warm",
    key=b"Bearer " + SECRET.encode(),
    overhead=0.0005,
    own=False,
    prompt=0,
    trace=Trace(
        b"4bf92f3577b34da6a3ce929d0e0e4736",
        b"b7ad6b7169203331",
        b"00f067aa0ba902b7",
        [
            Try("engine-2", Outcome.CONNECT_FAILED, 0.0, 1000.05),
            Try("engine-1", Outcome.ANSWERED, 1000.125, 1002.5),
        ],
    ),
)


def test_a_streamed_chat_has_the_genai_attributes_under_their_new_and_their_old_names() -> None:
    assert name_of(STREAMED) == "chat Qwen/Qwen3-8B"
    assert attributes_of(STREAMED, ("10.0.0.5", 8000)) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "Qwen/Qwen3-8B",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 2500,
        "gen_ai.usage.output_tokens": 320,
        "gen_ai.usage.prompt_tokens": 2500,
        "gen_ai.usage.completion_tokens": 320,
        "gen_ai.usage.cache_read.input_tokens": 2400,
        "server.address": "10.0.0.5",
        "server.port": 8000,
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "enginehouse.request_id": "req-1",
        "enginehouse.service": "engine-1",
        "enginehouse.reason": "warm",
        "enginehouse.outcome": "answered",
        "enginehouse.termination": "--",
        "enginehouse.attempts": 2,
        "enginehouse.queue_seconds": 0.125,
        "enginehouse.overhead_seconds": 0.0005,
        "enginehouse.warm": 0.75,
    }


def test_what_is_not_known_is_left_out() -> None:
    bare = STREAMED._replace(
        first_byte=0.0, model="", service="", status=0, stream=False, usage=None, warm=-1.0, reason="", overhead=-1.0
    )._replace(outcome=Outcome.CLIENT_LEFT)
    assert name_of(bare) == "chat"
    assert attributes_of(bare, None) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.system": "openai",
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "error.type": "client_left",
        "enginehouse.request_id": "req-1",
        "enginehouse.outcome": "client_left",
        "enginehouse.termination": "CH",
        "enginehouse.attempts": 2,
        "enginehouse.queue_seconds": 0.125,
    }


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (b"/v1/chat/completions", "chat m"),
        (b"/v1/chat/completions/", "chat m"),
        (b"http://house/v1/responses", "chat m"),
        (b"/v1/messages", "chat m"),
        (b"/v1/completions", "text_completion m"),
        (b"/api/generate", "text_completion m"),
        (b"/v1/embeddings", "embeddings m"),
        (b"/v2/rerank", "rerank m"),
        (b"/v1/audio/transcriptions", "transcriptions m"),
        (b"/v1/realtime", "realtime m"),
        (b"/something/else", "POST"),
    ],
)
def test_the_name_is_the_operation_and_the_model_never_a_path_that_clients_make_up(target: bytes, name: str) -> None:
    assert name_of(STREAMED._replace(target=target, model="m")) == name


def test_a_question_whether_one_may_ask_is_no_operation_of_a_model() -> None:
    asked = STREAMED._replace(method=b"OPTIONS", model="", usage=None, stream=False)
    assert name_of(asked) == "OPTIONS"
    assert not [name for name in attributes_of(asked, None) if name.startswith("gen_ai.")]
    assert name_of(STREAMED._replace(method=b"GET", target=b"/v1/realtime?model=m", model="m")) == "realtime m"


def test_the_provider_is_whose_api_is_spoken() -> None:
    said = attributes_of(STREAMED._replace(target=b"/v1/messages"), None)
    assert (said["gen_ai.provider.name"], said["gen_ai.system"]) == ("anthropic", "anthropic")


@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        (Outcome.ANSWERED, 200, ""),
        (Outcome.ANSWERED, 404, "404"),
        (Outcome.ANSWERED, 500, "500"),
        (Outcome.BROKE_MIDWAY, 200, "broke_midway"),
        (Outcome.QUEUE_FULL, 503, "queue_full"),
    ],
)
def test_an_error_is_named_by_the_outcome_or_by_the_status_of_an_engine(
    outcome: Outcome, status: int, error: str
) -> None:
    record = STREAMED._replace(outcome=outcome, status=status)
    assert error_type(record) == error
    assert attributes_of(record, None).get("error.type", "") == error


def test_an_attempt_says_who_how_it_ended_and_how_long_it_took_if_it_came_to_be_sent() -> None:
    assert STREAMED.trace is not None
    first, second = [attributes_of_try(each) for each in STREAMED.trace.tries]
    assert first == {
        "enginehouse.service": "engine-2",
        "enginehouse.outcome": "connect_failed",
    }
    assert second["enginehouse.seconds"] == 2.375


def test_no_query_no_key_and_no_address_of_a_client_is_in_a_span() -> None:
    said = repr(attributes_of(STREAMED, ("10.0.0.5", 8000)))
    assert SECRET not in said
    assert "192.0.2.7" not in said


def test_every_attribute_is_explained_to_people() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "traces.md").read_text()
    assert STREAMED.trace is not None
    events = [name for each in STREAMED.trace.tries for name in attributes_of_try(each)]
    failed = STREAMED._replace(status=500)
    unexplained = {name for name in [*attributes_of(failed, ("h", 1)), *events] if f"`{name}`" not in page}
    assert unexplained == set()


def test_a_model_is_cut_where_its_name_is_endless() -> None:
    record = STREAMED._replace(model="m" * 5000)
    assert len(name_of(record)) < 150
    assert len(str(attributes_of(record, None)["gen_ai.request.model"])) == 128


def test_a_batch_comes_to_control_as_the_worker_made_it() -> None:
    assert decode_batch(encode_batch(Batch(3, [STREAMED]))) == (3, [STREAMED])
    assert decode_batch(encode_batch(Batch(0, [STREAMED, STREAMED]))) == (0, [STREAMED, STREAMED])
