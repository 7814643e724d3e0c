"""What becomes of the next engine's stream (that both together read as one is in `test_resumed_streams`)."""

import json
from typing import Any

import pytest

from enginehouse.wire.resume import Kind, Partial
from enginehouse.wire.resumed import COMMENT, Splicer, closing

ENVELOPE = {"id": "x", "object": "o", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
DONE = b"data: [DONE]\n\n"


def event(delta: Any = None, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": "new"} if delta is None else delta, "finish_reason": reason}
    return b"data: %b\n\n" % json.dumps({"id": "y", "model": "z", "choices": [choice], **more}).encode()


def usage(**more: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps({"id": "y", "choices": [], "usage": {**USAGE, **more}}).encode()


def splicer(kind: Kind = Kind.CHAT, **more: Any) -> Splicer:
    made: dict[str, Any] = {"text": "old", "tokens": 2, "role_sent": True}
    return Splicer(kind, Partial(envelope=ENVELOPE, **{**made, **more}))


def told(out: bytes) -> list[dict[str, Any]]:
    """The data of the events, without the comment."""
    return [json.loads(each[6:]) for each in out.split(b"\n\n") if each.startswith(b"data: {")]


def test_the_envelope_stays_that_of_the_first_events() -> None:
    (made,) = told(splicer().feed(event(system_fingerprint="f", created=9, timings={"a": 1.5})))
    choice = {"index": 0, "delta": {"content": "new"}, "finish_reason": None}
    assert made == {**ENVELOPE, "timings": {"a": 1.5}, "choices": [choice]}


def test_the_role_is_not_said_again_but_said_once_if_it_was_not() -> None:
    parts = event({"role": "assistant", "content": ""}) + event({"role": "assistant", "content": "a"})
    assert [made["choices"][0]["delta"] for made in told(splicer().feed(parts))] == [{"content": "a"}]
    first, second = told(splicer(role_sent=False).feed(parts))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert second["choices"][0]["delta"] == {"content": "a"}


@pytest.mark.parametrize(
    ("pieces", "left"),
    [
        (["\n\n", "  - x"], ["- x"]),
        (["\n", "\n  ", "- x"], ["- x"]),
        (["\n\n  - x"], ["- x"]),
        (["\n", "", "x"], ["x"]),
        (["y", "\n\n  "], ["y", "\n\n  "]),
        (["\n\n  ", "\n\n  "], ["\n\n  "]),
    ],
)
def test_white_space_that_is_said_again_is_dropped(pieces: list[str], left: list[str]) -> None:
    spliced = splicer(text="old\n\n  ", pending="\n\n  ", tokens=4, pending_tokens=2)
    made = told(b"".join(spliced.feed(event({"content": piece})) for piece in pieces))
    assert [each["choices"][0]["delta"]["content"] for each in made] == left


def test_the_usage_is_that_of_the_whole_answer() -> None:
    (made,) = told(splicer().feed(usage(prompt_tokens_details={"cached_tokens": 11, "x": 1}, other=5)))
    details = {"cached_tokens": 10, "x": 1}
    whole = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    assert made["usage"] == {**whole, "prompt_tokens_details": details, "other": 5}


def test_the_usage_told_by_the_first_engine_says_how_long_the_prompt_was() -> None:
    before = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    (made,) = told(splicer(usage=before).feed(usage()))
    assert made["usage"] == {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


def test_an_answer_that_lacks_its_usage_only_gets_nothing_else() -> None:
    spliced = splicer(finish_reason="stop", wants_usage=True)
    parts = [event({"role": "assistant"}), event(), event({}, "length"), usage(completion_tokens=1), DONE]
    (made,) = told(out := spliced.feed(b"".join(parts)))
    assert made["usage"] == {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    assert made["choices"] == []
    assert out.endswith(DONE)
    assert spliced.finished


def test_the_mark_of_the_end_counts_where_the_engine_says_it_again() -> None:
    spliced = splicer(finish_reason="stop", wants_usage=True)
    (made,) = told(spliced.feed(event({}, "stop") + usage(completion_tokens=1) + DONE))
    assert made["usage"] == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}


def test_usage_that_comes_with_the_reason_is_told_where_it_is_owed() -> None:
    spliced = splicer(finish_reason="length", wants_usage=True)
    (made,) = told(spliced.feed(event({}, "length", usage=USAGE) + DONE))
    assert (made["choices"], made["usage"]["completion_tokens"]) == ([], 2)
    (made,) = told(splicer(finish_reason="length", wants_usage=True).feed(event(usage=USAGE) + usage() + DONE))
    assert made["choices"] == []


def test_an_answer_that_has_all_its_tokens_is_ended_for_its_length() -> None:
    partial = Partial(envelope=ENVELOPE, text="old", tokens=2, limit_reached=True)
    (made,) = told(end := closing(Kind.CHAT, partial))
    assert (made["choices"][0]["delta"], made["choices"][0]["finish_reason"], made["id"]) == ({}, "length", "x")
    assert end.endswith(DONE)
    partial.wants_usage = True
    assert closing(Kind.CHAT, partial) == b"", "nobody has told the length of the prompt"
    first, second = told(Splicer(Kind.CHAT, partial).feed(event() + usage(completion_tokens=1) + DONE))
    assert first["choices"][0]["finish_reason"] == "length"
    assert second["usage"]["completion_tokens"] == 2


def test_an_answer_that_goes_on_needs_no_closing() -> None:
    assert closing(Kind.CHAT, Partial(envelope=ENVELOPE, text="old", tokens=2)) == b""


def test_comments_pass_and_the_first_one_is_ours() -> None:
    assert splicer().feed(b": ping\n\n" + event()[:9]) == COMMENT + b": ping\n\n"


def test_a_stream_of_which_the_client_has_nothing_is_passed_on_as_it_is() -> None:
    parts = event({"tool_calls": [1]}) + b'data: {"choices":[{"index":1}], "id":"q"}\n\n' + DONE
    spliced = Splicer(Kind.CHAT, Partial())
    assert spliced.feed(parts + event()) == COMMENT + parts
    assert spliced.finished
    assert spliced.feed(event()) == b""


@pytest.mark.parametrize(
    "wrong",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b"data: 5\n\n",
        b'data: {"error":{"message":"no"}}\n\n',
        b'data: {"choices":5}\n\n',
        b'data: {"choices":[5]}\n\n',
        b'data: {"choices":[{"index":1,"delta":{"content":"a"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":5}]}\n\n',
        b'data: {"choices":[],"usage":5}\n\n',
        b'data: {"choices":[],"usage":{}}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":"a","completion_tokens":1}}\n\n',
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n',
        event({"reasoning_content": "hm"}),
        event({}, "abort"),
        DONE,
        b'data: {"error":{"message":"no"},"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    ],
)
def test_a_stream_of_another_shape_fails_and_what_came_before_stays(wrong: bytes) -> None:
    spliced = splicer()
    assert len(told(spliced.feed(event() + wrong + event()))) == 1
    assert spliced.failed
    assert not spliced.finished
    assert spliced.feed(event()) == b""


def test_an_event_that_does_not_end_fails() -> None:
    spliced = splicer()
    spliced.feed(b"data: " + b"x" * 1_000_000)
    assert not spliced.failed
    spliced.feed(b"x" * 100_000)
    assert spliced.failed


def test_where_there_is_no_text_yet_there_may_be_reasoning() -> None:
    spliced = splicer(text="", tokens=0)
    assert len(told(spliced.feed(event({"reasoning_content": "hm"})))) == 1
    assert not spliced.failed
