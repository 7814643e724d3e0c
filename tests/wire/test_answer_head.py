"""What of an engine's head is passed on, and what the router reads in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.wire.answer_head import AnswerHead

#: RFC 9110 7.6.1 and CONTRACTS 1.2, and what the router replaces by its own.
NEVER_PASSED_ON = [
    b"Connection", b"Keep-Alive", b"Proxy-Connection", b"Proxy-Authenticate", b"Proxy-Authorization", b"TE", b"Trailer",
    b"Trailers", b"Transfer-Encoding", b"Upgrade", b"Host", b"Content-Length", b"HTTP2-Settings", b"X-Request-Id",
    b"X-Enginehouse-Service", b"X-Enginehouse-Attempts", b"X-Enginehouse-Queue-Ms", b"X-Enginehouse-Overhead-Ms",
    b"X-Enginehouse-Reason",
]  # fmt: skip
OK = b"HTTP/1.1 200 OK\r\n"


def head(*headers: tuple[bytes, bytes], status: int = 200) -> AnswerHead:
    return AnswerHead(status, True, list(headers))


def test_what_is_passed_on_is_passed_on_byte_for_byte_and_in_order_behind_the_status_line() -> None:
    headers = [(b"Server", b"uvicorn"), (b"X-A", b"Zo\xeb"), (b"set-cookie", b"1"), (b"Set-Cookie", b"2"), (b"E", b"")]
    lines = b"Server: uvicorn\r\nX-A: Zo\xeb\r\nset-cookie: 1\r\nSet-Cookie: 2\r\nE: \r\n"
    assert head(*headers).lines == OK + lines
    assert head(*headers, status=429).lines == b"HTTP/1.1 429 Too Many Requests\r\n" + lines
    assert head(status=599).lines == b"HTTP/1.1 599 Status\r\n"


@pytest.mark.parametrize("name", NEVER_PASSED_ON)
def test_what_goes_one_hop_only_or_is_ours_is_not_passed_on_in_whatever_case(name: bytes) -> None:
    for spelled in (name, name.lower(), name.upper()):
        assert head((b"A", b"b"), (spelled, b"x"), (b"C", b"d")).lines == OK + b"A: b\r\nC: d\r\n"


@pytest.mark.parametrize("connection", [b"X-Private", b"close, x-private", b"keep-alive,X-PRIVATE , foo"])
def test_what_connection_names_is_not_passed_on(connection: bytes) -> None:
    assert head((b"x-private", b"1"), (b"Connection", connection), (b"X-Other", b"2")).lines == OK + b"X-Other: 2\r\n"


def test_several_connection_lines_are_one_list() -> None:
    """RFC 9110 5.3."""
    mine = head((b"A", b"1"), (b"Connection", b"a"), (b"B", b"2"), (b"connection", b"b"), (b"C", b"3"))
    assert mine.lines == OK + b"C: 3\r\n"


def test_what_the_router_reads() -> None:
    mine = head(
        (b"Content-Type", b"Text/Event-Stream; charset=UTF-8"), (b"SERVER", b"llama.cpp"),
        (b"Transfer-Encoding", b"Chunked"), (b"Upgrade", b"websocket"), (b"Content-Encoding", b"gzip"),
    )  # fmt: skip
    assert (mine.content_type, mine.is_event_stream) == (b"text/event-stream; charset=utf-8", True)
    assert (mine.server, mine.chunked, mine.upgrade, mine.encoded) == (b"llama.cpp", True, b"websocket", True)
    assert mine.lines == OK + (
        b"Content-Type: Text/Event-Stream; charset=UTF-8\r\nSERVER: llama.cpp\r\nContent-Encoding: gzip\r\n"
    )


def test_what_a_head_does_not_say() -> None:
    mine = AnswerHead(204, False, [])
    assert (mine.status, mine.keep_alive, mine.lines) == (204, False, b"HTTP/1.1 204 No Content\r\n")
    assert (mine.chunked, mine.encoded, mine.is_event_stream) == (False, False, False)
    assert (mine.content_type, mine.server, mine.upgrade) == (b"", b"", b"")


def test_a_body_of_ours_gets_a_head_of_its_own_and_the_engines_stays_as_it_is() -> None:
    """It may be shared by later answers."""
    theirs = head((b"A", b"1"), (b"Content-Type", b"text/plain"), (b"Connection", b"x"), (b"X", b"2"), status=400)
    before = theirs.lines
    ours = theirs.with_json()
    assert ours.lines == b"HTTP/1.1 400 Bad Request\r\nA: 1\r\ncontent-type: application/json\r\n"
    assert (ours.status, ours.keep_alive, ours.content_type) == (400, True, b"application/json")
    assert (theirs.lines, theirs.content_type) == (before, b"text/plain")


_NAMES = st.sampled_from([*NEVER_PASSED_ON, b"X-A", b"X-B", b"Server", b"Content-Type", b"Content-Encoding"])
_VALUES = st.sampled_from([b"", b"a", b"x-a", b"close", b"X-B, keep-alive", b"keep-alive, upgrade", b"server,,x-a"])


@given(st.lists(st.tuples(_NAMES, st.sampled_from([bytes.lower, bytes.upper, bytes]), _VALUES), max_size=12))
def test_the_rules_together(parts: list[tuple[bytes, object, bytes]]) -> None:
    headers = [(spell(name), value) for name, spell, value in parts]  # type: ignore[operator]
    named = {
        token.strip().lower() for name, value in headers if name.lower() == b"connection" for token in value.split(b",")
    }
    dropped = {name.lower() for name in NEVER_PASSED_ON} | named - {b"close", b"keep-alive", b"upgrade"}
    kept = [b"%b: %b\r\n" % (name, value) for name, value in headers if name.lower() not in dropped]
    assert AnswerHead(200, True, headers).lines == OK + b"".join(kept)
