"""Which requests' answers can be continued."""

import json
from typing import Any

import pytest

from enginehouse.wire.continuable import Kind, Terms, kind_of, terms

HI = {"role": "user", "content": "hi"}
HALF = {"role": "assistant", "content": "half"}
GO_ON = {"continue_final_message": True, "add_generation_prompt": False}


def chat(*messages: dict, **more: Any) -> Terms | None:
    body = {"model": "m", "messages": messages or (HI,), "stream": True, **more}
    return terms(Kind.CHAT, json.dumps(body).encode())


def completion(prompt: Any = "x", **more: Any) -> Terms | None:
    body = {"model": "m", "prompt": prompt, "stream": True, **more}
    return terms(Kind.COMPLETION, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat/completions", Kind.CHAT),
        ("/v1/chat/completions/", Kind.CHAT),
        ("/chat/completions", Kind.CHAT),
        ("/v1/completions", Kind.COMPLETION),
        ("/v1/responses", None),
        ("/v1/messages", None),
        ("/v1/embeddings", None),
    ],
)
def test_chats_and_completions_can_be_continued(path: str, kind: Kind | None) -> None:
    assert kind_of(path) is kind


ORDINARY: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7, "top_p": 0.9, "seed": 3, "user": "u", "logit_bias": {"5": 1}, "metadata": {"a": []}},
    {"n": 1, "logprobs": False, "stop": [], "presence_penalty": 0, "frequency_penalty": 0.0, "repetition_penalty": 1.0},
    {"n": None, "logprobs": None, "stop": None, "response_format": None, "tools": None, "guided_json": None},
    {"response_format": {"type": "text"}, "modalities": ["text"]},
    {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
    {"continue_final_message": False, "add_generation_prompt": True},
]


@pytest.mark.parametrize("more", ORDINARY)
def test_an_ordinary_request_can_be_continued(more: dict) -> None:
    assert chat(**more) == Terms(None, False)
    assert completion(**more, max_tokens=9) == Terms(9, False)


@pytest.mark.parametrize(
    "more",
    [
        {"stream": False},
        {"stream": None},
        {"n": 2},
        {"best_of": 2},
        {"logprobs": True},
        {"logprobs": 0},
        {"top_logprobs": 3},
        {"prompt_logprobs": 1},
        {"echo": True},
        {"suffix": "end"},
        {"stop": "x"},
        {"stop": ["x"]},
        {"presence_penalty": 0.5},
        {"frequency_penalty": -0.5},
        {"repetition_penalty": 1.1},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        {"grammar": "root ::= x"},
        {"json_schema": {"type": "object"}},
        {"guided_regex": "a+"},
        {"guided_anything_new": "a+"},
        {"structured_outputs": {"choice": ["a"]}},
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"functions": [{"name": "f"}]},
        {"audio": {"voice": "x"}},
        {"modalities": ["text", "audio"]},
        {"use_beam_search": True},
        {"return_token_ids": True},
        {"max_tokens": "5"},
        {"max_tokens": 5, "max_completion_tokens": 6},
        {"continue_final_message": True},
        {"add_generation_prompt": False},
        {"continue_final_message": "content"},
    ],
)
def test_what_depends_on_more_than_the_text_so_far_is_not_continued(more: dict) -> None:
    assert chat(**more) is None
    if "final" not in str(more) and "generation" not in str(more):
        assert completion(**{"max_tokens": 9, **more}) is None


@pytest.mark.parametrize("prompt", [None, ["x"], ["x", "y"], [1, 2], [[1]], 5])
def test_a_completion_is_continued_only_behind_one_text(prompt: Any) -> None:
    assert completion(prompt, max_tokens=9) is None


def test_a_completion_without_a_limit_is_not_continued_for_engines_differ_in_what_it_means() -> None:
    assert completion() is None
    assert completion(max_tokens=None) == Terms(None, False)


@pytest.mark.parametrize(
    ("messages", "more", "continued"),
    [
        ([HI, HALF], {}, False),
        ([HI, HALF], GO_ON, True),
        ([HI, HALF], {"continue_final_message": True}, True),
        ([HI, {"role": "assistant", "content": [{"type": "text", "text": "half"}]}], GO_ON, False),
        ([HI, {"role": "assistant", "content": None}], GO_ON, False),
        ([HI, {**HALF, "tool_calls": [{"id": "x"}]}], GO_ON, False),
        ([HI, HALF, HI], {}, True),
        ([HI], GO_ON, False),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}], {}, True),
        ([5], {}, False),
    ],
)
def test_a_last_message_of_the_assistant_is_continued_only_where_the_client_said_so(
    messages: list[Any], more: dict, continued: bool
) -> None:
    assert (chat(*messages, **more) is not None) is continued


@pytest.mark.parametrize(
    ("more", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 0}, 0),
        ({"max_tokens": 5, "max_completion_tokens": 5}, 5),
        ({"max_tokens": None, "max_completion_tokens": 7}, 7),
        ({"n_predict": 8}, 8),
        ({"max_tokens": -1}, None),
    ],
)
def test_the_limit_of_an_answer_is_read_whatever_its_name(more: dict, limit: int | None) -> None:
    assert chat(**more) == Terms(limit, False)


@pytest.mark.parametrize(
    ("options", "wants"),
    [({"include_usage": True}, True), ({"include_usage": False}, False), (None, False), ({}, False)],
)
def test_whether_the_usage_is_wanted_is_read(options: Any, wants: bool) -> None:
    assert chat(stream_options=options) == Terms(None, wants)


def test_a_body_that_gives_a_member_twice_is_not_continued() -> None:
    assert terms(Kind.CHAT, b'{"messages":[{"role":"user"}],"stream":true,"n":1,"n":1}') is None
    assert terms(Kind.CHAT, b'{"messages":[{"role":"user"}],"stream":true,"str\\u0065am":true}') is None
    assert terms(Kind.CHAT, b'{"messages":[],"stream":true}') is None
    assert terms(Kind.CHAT, b"{}") is None
