"""What is read out of the bytes that a client has of a stream."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.wire import events
from enginehouse.wire.resume import Kind, Partial, read_partial
from enginehouse.wire.resumed import closing
from tests.wire.streams import STYLES, Engine

BODY = b'{"messages":[{"role":"user","content":"hi"}],"stream":true}'
SILENCE = b": ping\n\n:\n\n"


def event(delta: dict | None = None, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": "a"} if delta is None else delta, "finish_reason": reason}
    return b"data: %b\n\n" % json.dumps({"id": "x", "model": "m", "choices": [choice], **more}).encode()


def read(*parts: bytes, body: bytes = BODY) -> Partial | None:
    return read_partial(Kind.CHAT, body, b"".join(parts))


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8), st.sampled_from(STYLES), st.sampled_from(Kind))
def test_any_text_is_read_as_it_was_sent(script: list[str], style: str, kind: Kind) -> None:
    body = BODY if kind is Kind.CHAT else b'{"prompt":"Once ","max_tokens":null,"stream":true}'
    stream = b"".join(Engine(style, kind, tuple(script)).stream(body)[:-2])
    for raw in (stream, stream.replace(b"\n\n", b"\r\n\r\n"), stream.replace(b"\n\n", b"\r\r"), SILENCE + stream):
        partial = read_partial(kind, body, raw)
        if "<think>" in "".join(script) or "</think>" in "".join(script):
            assert partial is None
        else:
            assert partial
            assert (partial.text, partial.tokens) == ("".join(script), len(script))
            assert partial.known + partial.pending == partial.text
            assert partial.role_sent is (kind is Kind.CHAT)


def test_what_all_events_repeat_is_kept_of_the_first() -> None:
    partial = read(event(object="o", created=5, system_fingerprint=None), event(created=6))
    assert partial
    assert partial.envelope == {"id": "x", "model": "m", "object": "o", "created": 5, "system_fingerprint": None}


def test_white_space_at_the_end_of_a_chat_is_to_be_said_again() -> None:
    partial = read(event({"content": " a \n"}), event({"content": "\n"}), event({"content": " "}))
    assert partial
    assert (partial.known, partial.pending, partial.tokens, partial.known_tokens) == (" a", " \n\n ", 3, 1)


def test_a_stream_of_comments_can_be_begun_anew_whatever_was_asked_for() -> None:
    assert read(body=b'{"n":5,"tools":[],"stream":true}') == Partial()
    assert read(SILENCE, body=b"no JSON") == Partial()


def test_an_empty_delta_is_a_token_whose_text_is_still_to_come() -> None:
    partial = read(event({"role": "assistant", "content": ""}), event({"content": ""}), event({"content": "日"}))
    assert partial
    assert (partial.text, partial.tokens) == ("日", 2)


def test_engines_that_count_in_every_event_are_believed() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13}
    partial = read(event(usage={**usage, "completion_tokens": 3}), event(usage=usage))
    assert partial
    assert (partial.tokens, partial.usage, partial.usage_sent) == (8, usage, False)
    partial = read(event(usage=usage), event(usage=usage))
    assert partial
    assert partial.tokens == 8
    partial = read(event(usage=usage), event({"content": "\n"}, usage={**usage, "completion_tokens": 0}))
    assert partial
    assert (partial.tokens, partial.known_tokens) == (0, 0)


def test_an_event_that_tells_the_usage_only_is_the_last_but_the_end() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13}
    last = b"data: %b\n\n" % json.dumps({"choices": [], "usage": usage}).encode()
    partial = read(event(), event({}, "stop"), last)
    assert partial
    assert partial.usage_sent
    partial.wants_usage = True
    assert closing(Kind.CHAT, partial) == b"data: [DONE]\n\n"
    partial.usage_sent = False
    assert closing(Kind.CHAT, partial).count(b'"usage"') == 1


@pytest.mark.parametrize(
    ("second", "text", "reason"),
    [
        (event().replace(b'"a"', b'"b", "role": "assistant"'), "ab", ""),
        (event().replace(b'"a"', b'"b", "tool_calls": [], "refusal": null'), "ab", ""),
        (event().replace(b'"finish_reason": null', b'"finish_reason": "xy"'), "aa", "xy"),
        (event().replace(b'"content": "a"', b'"content" : "b"'), "ab", ""),
        (event().replace(b"data: ", b"data: \ndata:"), "aa", ""),
        (b": hm\n" + event(), "aa", ""),
        (event(timings={"text": "z"}), "aa", ""),
        (event().replace(b'{"id"', b'{"timings": {"content": "z"}, "id"'), "aa", ""),
    ],
)
def test_an_event_that_differs_from_the_one_before_it_is_read_for_itself(second: bytes, text: str, reason: str) -> None:
    partial = read(event(), second)
    assert partial
    assert (partial.text, partial.finish_reason) == (text, reason)
    if not reason:
        again = read(event(), second, second, second.replace(b'"a"', b'"c"'), event())
        assert again
        assert again.text == text + text[1] + (text[1] if b'"a"' not in second else "c") + "a"


@pytest.mark.parametrize(
    "second",
    [
        event({"tool_calls": [{"index": 0}]}),
        event({"function_call": {"name": "f"}}),
        event({"reasoning_content": "hm"}),
        event({"reasoning": "hm"}),
        event({"refusal": "no"}),
        event({"audio": {"id": "x"}}),
        event({"anything_new": 5}),
        event({"content": 5}),
        event({"content": ["a"]}),
        event({"content": "so <think>"}),
        event({"content": "so </think>"}),
        event(reason="abort"),
        event({}, reason="error"),
        event(error={"message": "broken"}),
        event(usage=5),
        event(usage=[]),
        b'data: {"error":{"message":"broken"}}\n\n',
        b'data: {"id":"x","choices":[{"index":1,"delta":{"content":"a"}}]}\n\n',
        b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"a"}},{"index":0,"delta":{}}]}\n\n',
        b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[]}}]}\n\n',
        b'data: {"id":"x","choices":[{"index":0,"text":"a"}]}\n\n',
        b'data: {"id":"x","choices":{}}\n\n',
        b'data: {"id":"x"}\n\n',
        b"data: []\n\n",
        b"data: {\n\n",
        b"data: [DONE]\n\n",
        event()[:-2].replace(b'"a"', b'"\xff"') + b"\n\n",
        event()[:-2].replace(b'"a"', b'"\\q"') + b"\n\n",
        event()[:-2].replace(b'"a"', b'"a"b"') + b"\n\n",
        event()[:-2].replace(b'"a"', b'"\x01"') + b"\n\n",
    ],
)
def test_what_is_not_plain_text_is_not_gone_on_with(second: bytes) -> None:
    assert read(event())
    assert read(event(), second) is None
    assert read(event(), event(), second, event()) is None


def test_a_text_that_ends_within_a_character_is_not_gone_on_with() -> None:
    assert read(event({"content": "a\ufffd"})) is None
    assert read(event({"content": "a\ufffd"}), event({"content": "b"}))


def test_text_behind_a_finish_reason_is_not_understood() -> None:
    assert read(event(reason="stop"), event()) is None
    assert read(event(reason="stop"), event(reason="stop")) is None


def test_an_event_that_looks_like_the_one_before_it_is_read_like_any_other() -> None:
    tricky = ['","x":"', '"},"y":{"', 'a"content": "b', "\\", '\\"', "\u2028", "\x7f", '{"content": "z"}', "\n", ""]
    parts = [event({"content": piece}) for piece in tricky]
    for count in range(1, len(parts) + 1):
        partial = read(*parts[:count])
        assert partial
        assert partial.text == "".join(tricky[:count])


@given(st.lists(st.sampled_from([b"a", b": c", b"data: x", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n"]), max_size=8))
def test_events_are_split_as_line_ends_of_any_kind_say(parts: list[bytes]) -> None:
    stream = b"".join(parts)
    whole, rest = events.split(stream)
    assert (b"".join(whole) + rest).translate(None, b"\r\n") == stream.translate(None, b"\r\n")
    for one in whole:
        assert not one.splitlines()[-1]
    assert not rest or rest.strip()


def test_data_of_several_lines_is_joined_and_comments_have_none() -> None:
    assert events.data_of(b"event: x\ndata: {\r\ndata:1}\n\n") == b"{\n1}"
    assert events.data_of(b": hello\n\n") is None
    assert events.data_of(b"data:\n\n") == b""
