"""How many tokens a request took, told at the end of its answer in the words of each API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.wire.tail import TAIL, Tail
from enginehouse.wire.usage import Usage, usage


def event(value: Any, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: %b\n\n" % json.dumps(value).encode()


DONE = b"data: [DONE]\n\n"
CHAT = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
TOKEN = event({**CHAT, "choices": [{"index": 0, "delta": {"content": "x" * 99}}], "usage": None})
COUNTS = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
TIMINGS = {"cache_n": 60, "prompt_n": 40, "prompt_ms": 3.25, "predicted_n": 7, "predicted_per_second": 41.5}


def chat(counts: Any, **more: Any) -> bytes:
    """A whole answer."""
    return json.dumps({**CHAT, "choices": [{"message": {"content": "x" * 5000}}], "usage": counts, **more}).encode()


def test_a_whole_chat_completion_tells_them() -> None:
    assert usage(chat(COUNTS)[-TAIL:]) == Usage(100, 7, None)


def test_cached_tokens_that_are_none_are_another_thing_than_cached_tokens_that_are_not_told() -> None:
    assert usage(chat({**COUNTS, "prompt_tokens_details": {"cached_tokens": 0}})) == Usage(100, 7, 0)
    assert usage(chat({**COUNTS, "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0}})) == (100, 7, 64)
    assert usage(chat({**COUNTS, "prompt_tokens_details": {"cached_tokens": None}})) == Usage(100, 7, None)
    assert usage(chat({**COUNTS, "prompt_tokens_details": None})) == Usage(100, 7, None)


def test_a_stream_tells_them_before_its_end() -> None:
    assert usage(TOKEN + event({**CHAT, "choices": [], "usage": COUNTS}) + DONE) == Usage(100, 7, None)


def test_a_stream_may_tell_null_afterwards() -> None:
    last = event({**CHAT, "choices": [], "usage": None, "prompt_logprobs": None})
    assert usage(event({**CHAT, "choices": [], "usage": COUNTS}) + last + DONE) == Usage(100, 7, None)


def test_the_responses_api_tells_them_in_its_last_event() -> None:
    counts = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 96},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 107,
    }
    response = {"id": "resp_1", "output": ["x" * 5000], "usage": counts, "user": None, "metadata": {}}
    last = event({"type": "response.completed", "response": response}, "response.completed")
    assert usage(last[-TAIL:]) == Usage(100, 7, 96)


STOP = event({"type": "message_stop"}, "message_stop")


def start(counts: dict[str, int]) -> bytes:
    message = {"id": "msg_1", "role": "assistant", "content": [], "usage": counts}
    return event({"type": "message_start", "message": message}, "message_start")


def delta(counts: dict[str, int]) -> bytes:
    return event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": counts}, "message_delta")


def test_messages_tell_the_tokens_of_the_prompt_without_those_that_were_cached() -> None:
    counts = {"input_tokens": 30, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 60, "output_tokens": 7}
    assert usage(json.dumps({"content": [], "usage": counts}).encode()) == Usage(100, 7, 60)
    assert usage(delta(counts) + STOP) == Usage(100, 7, 60)
    assert usage(delta({"input_tokens": 100, "output_tokens": 7}) + STOP) == Usage(100, 7, None)


def test_a_stream_of_messages_may_tell_the_prompt_at_its_beginning_only() -> None:
    first = start({"input_tokens": 40, "cache_read_input_tokens": 60, "output_tokens": 0})
    assert usage(delta({"output_tokens": 7}) + STOP, first) == Usage(100, 7, 60)
    assert usage(delta({"output_tokens": 7}) + STOP, b"") is None
    assert usage(delta({"output_tokens": 7}) + STOP, b": ping\n\n") is None


def test_sglang_tells_them_as_meta_info() -> None:
    meta = {
        "id": "1",
        "finish_reason": {"type": "length", "length": 7},
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "cached_tokens": 5,
        "e2e_latency": 0.5,
    }
    assert usage(json.dumps({"text": "x", "meta_info": meta}).encode()) == Usage(100, 7, 5)


def test_llama_cpp_tells_them_as_timings() -> None:
    native = {"content": "", "stop": True, "tokens_evaluated": 100, "timings": TIMINGS}
    assert usage(event(native)) == Usage(100, 7, 60)
    assert usage(event({**native, "timings": {"prompt_n": 100, "predicted_n": 7}})) == Usage(100, 7, None)


def test_llama_cpp_tells_beside_usage_what_was_cached() -> None:
    assert usage(event({**CHAT, "choices": [], "usage": COUNTS, "timings": TIMINGS}) + DONE) == Usage(100, 7, 60)
    more = {**COUNTS, "prompt_tokens_details": {"cached_tokens": 64}}
    assert usage(chat(more, timings=TIMINGS)) == Usage(100, 7, 64)


@pytest.mark.parametrize(
    "last",
    [
        b"",
        DONE,
        TOKEN + DONE,
        b'{"usage": {"prompt_tokens": 1',
        b'{"usage": []}',
        b'{"usage": {}}',
        b'{"usage": {"prompt_tokens": "many"}}',
        b'{"usage": {"prompt_tokens": -1}}',
        b'{"usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}}}',
        b'{"usage": {"prompt_tokens": 99999999999999999999999}}',
        b'{"usage": {"prompt_tokens": 1\r\n1f\r\n2}}',
        b'{"timings": {"prompt_n": 1}}',
        b'{"timings": {"prompt_n": 1, "predicted_n": 2, "cache_n": -3}}',
        chat(None),
    ],
)
def test_what_is_missing_cut_or_cannot_be_is_not_guessed(last: bytes) -> None:
    assert usage(last) is None


def test_a_model_cannot_make_them_up() -> None:
    said = event({**CHAT, "choices": [{"delta": {"content": '"usage": {"prompt_tokens": 1}, "timings": {}'}}]})
    assert usage(said + DONE) is None
    assert usage(event({**CHAT, "choices": [], "usage": COUNTS}) + said + DONE) == Usage(100, 7, None)


_NUMBERS = st.none() | st.integers(-1, 1000)
_DETAILS = st.none() | st.fixed_dictionaries({}, optional={"cached_tokens": _NUMBERS, "audio_tokens": _NUMBERS})
_NAMES = ("prompt_tokens", "completion_tokens", "cached_tokens", "input_tokens", "output_tokens")


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(_NAMES, _NUMBERS) | {"prompt_tokens_details": _DETAILS}),
    st.sampled_from([{}, {"timings": TIMINGS}, {"timings": None}, {"service_tier": None}, {"kv": {"a": {"b": 1}}}]),
)
def test_blanks_make_no_difference(counts: dict[str, Any], more: dict[str, Any]) -> None:
    told = {**CHAT, "usage": counts, **more}
    assert usage(json.dumps(told, separators=(",", ":")).encode()) == usage(json.dumps(told).encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_looked_at_without_harm(garbage: bytes) -> None:
    for mark in (b'"usage"', b'"usage":{', b'"timings": ', b'"meta_info":{', b'"usage":{"prompt_tokens_details":{'):
        usage(mark + garbage)
        usage(garbage + mark, mark + garbage)


# -- the tail ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=200), max_size=12))
def test_a_tail_is_the_end_of_what_passed(pieces: list[bytes]) -> None:
    tail = Tail(True)
    for piece in pieces:
        tail.add(piece)
    assert b"".join(pieces).endswith(tail.last())
    assert len(tail.last()) >= len(b"".join(pieces[-2:]))
    assert tail.first == b"".join(pieces[:1])


@given(st.lists(st.integers(0, 5 * TAIL), max_size=300))
def test_a_tail_stays_small_whatever_passes(sizes: list[int]) -> None:
    tail = Tail(True)
    for size in sizes:
        tail.add(b"x" * size)
    assert len(tail.last()) <= 2 * (TAIL + 64)
    assert len(tail.first) <= TAIL


def test_of_a_large_piece_the_end_is_kept() -> None:
    tail = Tail(False)
    tail.add(b"x" * 100_000 + b"end")
    assert tail.last().endswith(b"end")
    assert len(tail.last()) == TAIL


@pytest.mark.parametrize("size", [1, 5, 63, 64, 100, 300, 5000, 100_000])
def test_the_usage_of_a_stream_is_found_however_it_is_cut(size: int) -> None:
    stream = TOKEN * 20 + event({**CHAT, "choices": [], "usage": COUNTS}) + DONE
    tail = Tail(False)
    for at in range(0, len(stream), size):
        tail.add(stream[at : at + size])
    found = usage(tail.last())
    assert found == Usage(100, 7, None) or (found is None and 64 <= size < 200)
