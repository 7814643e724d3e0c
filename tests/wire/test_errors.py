"""Error answers in the shapes that SDKs expect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.outcome import Outcome
from enginehouse.wire.errors import (
    MAX_LISTED,
    Dialect,
    error_response,
    failure_message,
    normalise,
    refusal_message,
    stream_break,
)

REFUSED = [outcome for outcome in Outcome if outcome.row.status]


@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.RESPONSES])
@pytest.mark.parametrize("outcome", REFUSED)
def test_every_error_has_openais_shape(outcome: Outcome, dialect: Dialect) -> None:
    """Defect: Errors are not in OpenAI's shape."""
    response = error_response(outcome, dialect=dialect)
    assert response.status == outcome.row.status
    error = json.loads(response.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert " " in error["message"], "a sentence, not a name"
    assert error["type"] == outcome.row.type
    assert error["code"] is None or isinstance(error["code"], str)


@pytest.mark.parametrize("outcome", REFUSED)
def test_every_error_has_anthropics_shape_where_that_is_spoken(outcome: Outcome) -> None:
    body = json.loads(error_response(outcome, dialect=Dialect.ANTHROPIC).body)
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}
    assert body["error"]["type"].endswith("_error") or body["error"]["type"] == "request_too_large"


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.BAD_JSON, "invalid_request_error"),
        (Outcome.PATH_DENIED, "permission_error"),
        (Outcome.MODEL_UNKNOWN, "not_found_error"),
        (Outcome.BODY_TOO_LARGE, "request_too_large"),
        (Outcome.NO_SERVICE, "overloaded_error"),
        (Outcome.BUG, "api_error"),
        (Outcome.CONNECT_FAILED, "api_error"),
        (Outcome.FIRST_BYTE_TIMEOUT, "timeout_error"),
    ],
)
def test_anthropics_types_follow_the_status(outcome: Outcome, expected: str) -> None:
    assert json.loads(error_response(outcome, dialect=Dialect.ANTHROPIC).body)["error"]["type"] == expected


def test_clients_are_told_whether_and_when_to_try_again() -> None:
    unknown = dict(error_response(Outcome.MODEL_UNKNOWN, "x").headers)
    assert unknown[b"x-should-retry"] == b"false"
    assert b"retry-after" not in unknown
    busy = dict(error_response(Outcome.NO_SERVICE_FOR_MODEL, "x", extra_headers=[(b"a", b"b")]).headers)
    assert int(busy[b"retry-after"]) > 0
    assert b"x-should-retry" not in busy
    assert busy[b"content-type"] == b"application/json"
    assert busy[b"a"] == b"b"


def test_the_parameter_at_fault_is_named() -> None:
    assert json.loads(error_response(Outcome.BAD_MODEL, "no", "model").body)["error"]["param"] == "model"


# -- what a model's refusal says ---------------------------------------------------------------------------------------


def test_an_unknown_model_is_refused_in_the_inherited_words_and_the_models_that_exist_are_named() -> None:
    text = refusal_message(Outcome.MODEL_UNKNOWN, "gpt-x", ["a", "b"])
    assert text.startswith("No healthy services available for model 'gpt-x'")
    assert "a, b" in text
    assert refusal_message(Outcome.MODEL_UNKNOWN_404, "gpt-x", ["a", "b"]) == text


def test_of_many_models_only_some_are_named() -> None:
    text = refusal_message(Outcome.MODEL_UNKNOWN, "x", [f"m{n:03}" for n in range(500)])
    assert f"m{MAX_LISTED - 1:03}" in text
    assert f"m{MAX_LISTED:03}" not in text
    assert f"{500 - MAX_LISTED} more" in text


def test_a_known_model_is_refused_in_the_inherited_words_too() -> None:
    text = refusal_message(Outcome.NO_SERVICE_FOR_MODEL, "m", [])
    assert text.startswith("No healthy services available for model 'm'")
    assert "try again" in text


@given(st.text(max_size=2000), st.lists(st.text(max_size=600), max_size=30))
def test_names_from_outside_are_shown_printable_and_short(model: str, served: list[str]) -> None:
    for outcome in (Outcome.MODEL_UNKNOWN, Outcome.NO_SERVICE_FOR_MODEL):
        text = refusal_message(outcome, model, served)
        assert text.isprintable()
        assert len(text) < 250 * (MAX_LISTED + 2)
    assert failure_message(Outcome.CONNECT_FAILED, model, model).isprintable()


def test_a_failure_names_the_service_and_the_reason() -> None:
    text = failure_message(Outcome.CONNECT_FAILED, "engine-1", "connection refused")
    assert "engine-1" in text
    assert "connection refused" in text


# -- breaks in a stream ------------------------------------------------------------------------------------------------

BROKEN = [Outcome.BROKE_MIDWAY, Outcome.IDLE_TIMEOUT, Outcome.CUT_AT_STOP]


def data_of(event: bytes) -> dict[str, Any]:
    assert event.endswith(b"\n\n")
    lines = event[:-2].split(b"\n")
    found: dict[str, Any] = json.loads(lines[-1].removeprefix(b"data: "))
    return found


@pytest.mark.parametrize("outcome", BROKEN)
def test_a_chat_stream_that_breaks_ends_in_an_error_and_a_finish_reason_that_is_no_success(outcome: Outcome) -> None:
    data = data_of(stream_break(outcome, Dialect.OPENAI))
    assert data["choices"] == [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]
    assert data["error"]["code"] == outcome.row.code
    assert "incomplete" in data["error"]["message"]


@pytest.mark.parametrize("outcome", BROKEN)
@pytest.mark.parametrize("dialect", [Dialect.RESPONSES, Dialect.ANTHROPIC])
def test_other_streams_that_break_end_in_an_error_event(dialect: Dialect, outcome: Outcome) -> None:
    event = stream_break(outcome, dialect)
    assert event.startswith(b"event: error\n")
    data = data_of(event)
    assert data["type"] == "error"
    assert data["error"]["message"]


# -- errors of engines -------------------------------------------------------------------------------------------------


def openai(status: int, body: object) -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    better = normalise(status, raw, Dialect.OPENAI)
    assert better is not None
    assert normalise(status, better, Dialect.OPENAI) is None
    found: dict[str, Any] = json.loads(better)["error"]
    return found


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "m", "type": "t", "param": None, "code": None}},
        {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}, "extra": 1},
    ],
)
def test_an_error_that_is_right_already_is_not_touched(body: dict[str, Any]) -> None:
    assert normalise(400, json.dumps(body).encode(), Dialect.OPENAI) is None


def test_vllms_integer_code_becomes_a_string() -> None:
    body = {
        "error": {"message": "The model `x` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}
    }
    assert openai(404, body) == {**body["error"], "code": "404"}


def test_sglangs_flat_error_gets_its_envelope() -> None:
    body = {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400}
    assert openai(400, body) == {"message": "too long", "type": "BadRequestError", "param": None, "code": "400"}


def test_sglangs_bad_key_gets_its_envelope() -> None:
    error = openai(401, {"error": "Unauthorized"})
    assert (error["message"], error["type"], error["code"]) == ("Unauthorized", "invalid_request_error", None)


def test_llama_cpps_error_gets_its_param_and_keeps_what_else_it_says() -> None:
    body = {"error": {"code": 400, "message": "m", "type": "exceed_context_size_error", "n_prompt_tokens": 9}}
    error = openai(400, body)
    assert error == {
        "message": "m", "type": "exceed_context_size_error", "param": None, "code": "400", "n_prompt_tokens": 9
    }  # fmt: skip


def test_fastapis_details_become_a_message() -> None:
    assert openai(404, {"detail": "Not Found"})["message"] == "Not Found"
    error = openai(422, {"detail": [{"loc": ["body", "model"], "msg": "field required", "type": "missing"}]})
    assert error["message"] == "body.model: field required"
    assert openai(422, {"detail": [{"loc": None, "msg": "m"}, {"msg": 5}]})["message"] == "m; 5"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"Internal Server Error", "Internal Server Error"),
        (b"", "The engine answered 500 and said no more."),
        (b'{"message": "oops"}', "oops"),
        (b"{}", "The engine answered 500 and said no more."),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'["a"]', '["a"]'),
        (b"5", "5"),
    ],
)
def test_anything_else_an_engine_may_say_becomes_a_message(body: bytes, message: str) -> None:
    error = openai(500, body)
    assert (error["message"], error["type"]) == (message, "server_error")


def test_an_engines_text_is_bounded() -> None:
    assert len(openai(500, b"x" * 60000)["message"]) <= 4000


def test_an_engines_error_on_messages_becomes_anthropics() -> None:
    body = json.dumps({"error": {"message": "m", "type": "x", "code": 400}}).encode()
    better = normalise(400, body, Dialect.ANTHROPIC)
    assert better is not None
    assert json.loads(better) == {"type": "error", "error": {"type": "invalid_request_error", "message": "m"}}
    assert normalise(400, better, Dialect.ANTHROPIC) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "type", "code", "param", "detail", "msg", "loc", "object", "x"]), inner
        )
    ),
    max_leaves=10,
)


@given(JSON, st.integers(400, 599), st.sampled_from(Dialect))
def test_whatever_an_engine_sends_the_result_is_right(body: object, status: int, dialect: Dialect) -> None:
    raw = json.dumps(body).encode()
    result = normalise(status, raw, dialect) or raw
    error = json.loads(result)["error"]
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    if dialect is not Dialect.ANTHROPIC:
        assert error["param"] is None or isinstance(error["param"], str)
        assert error["code"] is None or isinstance(error["code"], str)


@pytest.mark.parametrize("depth", [100_000])
def test_a_deeply_nested_error_does_no_harm(depth: int) -> None:
    assert openai(500, b"[" * depth)["message"]
