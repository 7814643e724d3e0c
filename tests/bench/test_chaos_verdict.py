"""What counts as right, honest, lost or wrong in the failure lab."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from bench.chaos.asks import Expected, events, expected
from bench.chaos.client import End, Got
from bench.chaos.verdict import Kind, Verdict, judge

WORDS = ["the", " house", " stands"]
DONE = b"data: [DONE]\n\n"


def event(delta: dict[str, Any], reason: str | None = None, **fields: Any) -> bytes:
    """One chunk of a chat, by an engine."""
    own = {"id": "chatcmpl-1", "created": 7, "system_fingerprint": "a"} | fields
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: %b\n\n" % json.dumps({**own, "model": "m", "choices": [choice]}, separators=(",", ":")).encode()


def stream(words: list[str] = WORDS, **fields: Any) -> list[bytes]:
    """The events of a whole answer."""
    return [
        event({"role": "assistant", "content": ""}, **fields),
        *(event({"content": word}, **fields) for word in words),
        event({}, "stop", **fields),
        DONE,
    ]


def whole(text: str = "the house stands", **fields: Any) -> bytes:
    """The same, not streamed."""
    own = {"id": "chatcmpl-1", "created": 7, "system_fingerprint": "a"} | fields
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    return json.dumps({**own, "choices": [choice], "usage": usage}, separators=(",", ":")).encode()


RIGHT_STREAM: Expected = expected(b"".join(stream()), stream=True)
RIGHT: Expected = expected(whole(), stream=False)
SSE, JSON = "text/event-stream; charset=utf-8", "application/json"
ERROR = b'data: {"error":{"message":"broke","type":"server_error","param":null,"code":"bad_gateway"},"choices":[]}\n\n'


def got(body: bytes, end: End = End.WHOLE, *, status: int = 200, kind: str = SSE, **headers: str) -> Got:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Got(0.0, status=status, headers={"content-type": kind, "x-request-id": "r"} | named, body=body, end=end)


def judged(body: bytes, end: End = End.WHOLE, **given: Any) -> Verdict:
    return judge(got(body, end, **given), given.get("kind", SSE) == SSE, RIGHT_STREAM, "r")


def refusal(status: int, code: str | None, **headers: str) -> Verdict:
    body = json.dumps({"error": {"message": "no", "type": "server_error", "param": None, "code": code}}).encode()
    return judge(got(body, End.WHOLE, status=status, kind=JSON, **headers), False, RIGHT, "r")


def test_an_answer_is_right_whatever_its_id_its_time_and_the_engine_that_gave_it() -> None:
    other = b"".join(stream(id="chatcmpl-2", created=8, system_fingerprint="b"))
    assert judged(other) == Verdict(Kind.RIGHT, identical=True)
    assert judge(got(whole(id="chatcmpl-9", created=9), kind=JSON), False, RIGHT, "r").identical


def test_a_resumed_stream_is_right_and_said_to_be_resumed_its_comment_is_no_difference() -> None:
    pieces = stream()
    body = b"".join([*pieces[:2], b": enginehouse: continued by another service\n\n", *pieces[2:]])
    assert judged(body) == Verdict(Kind.RIGHT, identical=True, resumed=True)


def test_the_same_text_cut_into_other_events_is_right_but_not_identical() -> None:
    assert judged(b"".join(stream(["the house", " stands"]))) == Verdict(Kind.RIGHT, identical=False)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"".join(stream(["the", " house"])), id="text is missing"),
        pytest.param(b"".join(stream(["the", " house", " stands", " stands"])), id="text is repeated"),
        pytest.param(b"".join(stream()[:-1]), id="no [DONE]"),
        pytest.param(b"".join([*stream()[:-2], DONE]), id="no end"),
        pytest.param(b"".join([*stream()[:-1], event({}, "stop"), DONE]), id="ends twice"),
        pytest.param(b"".join([*stream()[:3], stream(id="another")[3], *stream()[4:]]), id="another id midway"),
        pytest.param(b"".join([*stream()[:3], stream()[0], *stream()[3:]]), id="the role again"),
        pytest.param(b"".join([*stream()[:3], DONE, *stream()[3:]]), id="goes on behind [DONE]"),
        pytest.param(b"".join([*stream()[:3], ERROR, *stream()[3:]]), id="goes on behind an error"),
        pytest.param(b"".join([stream()[0], event({"content": "a"}), ERROR]), id="another text before an error"),
        pytest.param(b"", id="empty"),
        pytest.param(b"data: {nonsense\n\n" + DONE, id="no JSON"),
    ],
)
def test_a_stream_that_is_not_the_right_answer_and_does_not_say_so_is_wrong(body: bytes) -> None:
    assert judged(body).kind is Kind.WRONG


def test_a_stream_that_breaks_is_honest_with_an_error_event_or_a_cut_connection() -> None:
    begun = b"".join(stream()[:3])
    assert judged(begun + ERROR) == Verdict(Kind.BROKEN_OFF, "error event bad_gateway")
    assert judged(begun, End.CUT).kind is Kind.BROKEN_OFF
    assert judged(begun + b'data: {"id":"chat', End.CUT).kind is Kind.BROKEN_OFF
    assert judge(got(whole()[:20], End.CUT, kind=JSON), False, RIGHT, "r").kind is Kind.BROKEN_OFF


def test_a_cut_stream_that_said_something_else_before_is_wrong() -> None:
    assert judged(b"".join(stream(["a", "b"])[:3]), End.CUT).kind is Kind.WRONG


@pytest.mark.parametrize("end", [End.CLOSED, End.UNREACHABLE, End.SILENT])
def test_no_answer_is_a_lost_request(end: End) -> None:
    assert judge(Got(0.0, end=end), True, RIGHT_STREAM, "r").kind is Kind.LOST


def test_an_answer_that_never_ends_is_lost_however_much_of_it_came() -> None:
    assert judged(b"".join(stream()[:3]), End.SILENT).kind is Kind.LOST


def test_half_a_head_is_a_lost_request() -> None:
    assert judge(Got(0.0, end=End.CUT), True, RIGHT_STREAM, "r").kind is Kind.LOST


def test_broken_framing_is_wrong() -> None:
    assert judged(b"".join(stream()), End.MALFORMED).kind is Kind.WRONG


def test_somebody_elses_answer_is_wrong_though_it_is_whole() -> None:
    assert judged(b"".join(stream()), x_request_id="another").kind is Kind.WRONG


def test_who_is_turned_away_at_the_door_gets_an_id_of_the_routers_own_but_on_a_new_connection_only() -> None:
    body = b'{"error":{"message":"no","type":"t","param":null,"code":"server_is_overloaded"}}'
    turned_away = got(body, status=503, kind=JSON, x_request_id="req-1", retry_after="1")
    assert judge(turned_away, True, RIGHT_STREAM, "r").kind is Kind.REFUSED
    turned_away.reused = True
    assert judge(turned_away, True, RIGHT_STREAM, "r").kind is Kind.WRONG


def test_an_answer_in_another_type_is_wrong() -> None:
    assert judge(got(b"<html>", kind="text/html"), True, RIGHT_STREAM, "r").kind is Kind.WRONG
    assert judge(got(b"<html>", kind="text/html"), False, RIGHT, "r").kind is Kind.WRONG
    assert judge(got(whole("the house"), kind=JSON), False, RIGHT, "r").kind is Kind.WRONG


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_error_in_openais_shape_is_honest(status: int) -> None:
    assert refusal(status, "bad_gateway").kind is Kind.REFUSED


def test_overload_has_to_say_when_to_come_again() -> None:
    assert refusal(503, "server_is_overloaded").kind is Kind.WRONG
    assert refusal(503, "server_is_overloaded", retry_after="1").kind is Kind.REFUSED


@pytest.mark.parametrize(
    ("status", "code"), [(400, None), (404, None), (503, "model_not_found"), (500, "internal_error")]
)
def test_an_error_that_blames_a_good_request_or_is_a_bug_is_wrong(status: int, code: str | None) -> None:
    assert refusal(status, code).kind is Kind.WRONG


@pytest.mark.parametrize(
    "body", [b"", b"Bad Gateway", b"{}", b'{"error":"no"}', b'{"error":{"message":"no","code":500}}']
)
def test_an_error_in_another_shape_is_wrong(body: bytes) -> None:
    assert judge(got(body, status=502, kind=JSON), False, RIGHT, "r").kind is Kind.WRONG


def test_where_texts_may_differ_in_a_detail_a_whole_answer_is_right_and_identity_is_told() -> None:
    other = b"".join(stream(["the", " home", " stands"]))
    assert judge(got(other), True, RIGHT_STREAM, "r", plain) == Verdict(Kind.RIGHT, identical=False)
    assert judge(got(b"".join(stream())), True, RIGHT_STREAM, "r", plain).identical
    assert judge(got(b"".join(stream()[:-1])), True, RIGHT_STREAM, "r", plain).kind is Kind.WRONG


def test_where_texts_may_differ_an_answer_of_another_shape_is_wrong() -> None:
    def refuse(told: Sequence[dict[str, Any]]) -> None:
        raise ValueError(f"{len(told)} events that nobody understands")

    verdict = judge(got(b"".join(stream())), True, RIGHT_STREAM, "r", refuse)
    assert verdict.kind is Kind.WRONG
    assert "5 events that nobody understands" in verdict.why


def plain(told: Sequence[dict[str, Any]]) -> None:
    """A shape that everything has."""


def test_events_are_read_whatever_the_line_ends_and_without_comments() -> None:
    assert events(b': hello\n\ndata: {"a":1}\r\n\r\ndata:[DONE]\n\ndata: {"cut"') == [{"a": 1}, None]
