"""What of a request's head is passed on, and what the router reads in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.wire.request_head import NO_HEAD, RequestHead

Headers = list[tuple[bytes, bytes]]

#: RFC 9110 7.6.1 and CONTRACTS 1.2, and what the router answers itself or replaces.
NEVER_PASSED_ON = [
    b"Connection", b"Keep-Alive", b"Proxy-Connection", b"Proxy-Authenticate", b"Proxy-Authorization", b"TE", b"Trailer",
    b"Trailers", b"Transfer-Encoding", b"Upgrade", b"Host", b"Content-Length", b"HTTP2-Settings", b"Expect",
    b"X-Request-Id", b"X-Forwarded-For",
]  # fmt: skip


def head(*headers: tuple[bytes, bytes], version: str = "1.1", keep_alive: bool = True) -> RequestHead:
    return RequestHead(b"POST", b"/v1/x", version, keep_alive, list(headers))


def test_what_is_passed_on_is_passed_on_byte_for_byte_and_in_order() -> None:
    headers = [(b"X-A", b"1"), (b"accept", b"*/*"), (b"X-a", b"Zo\xeb"), (b"Content-Type", b"a/b"), (b"X-Empty", b"")]
    assert head(*headers).lines == b"X-A: 1\r\naccept: */*\r\nX-a: Zo\xeb\r\nContent-Type: a/b\r\nX-Empty: \r\n"


@pytest.mark.parametrize("name", NEVER_PASSED_ON)
def test_what_goes_one_hop_only_is_not_passed_on_in_whatever_case(name: bytes) -> None:
    for spelled in (name, name.lower(), name.upper()):
        assert head((b"A", b"b"), (spelled, b"x"), (b"C", b"d")).lines == b"A: b\r\nC: d\r\n"


@pytest.mark.parametrize("connection", [b"X-Private", b"close, x-private", b"keep-alive,X-PRIVATE , foo"])
def test_what_connection_names_is_not_passed_on(connection: bytes) -> None:
    assert head((b"x-private", b"1"), (b"Connection", connection), (b"X-Other", b"2")).lines == b"X-Other: 2\r\n"


def test_several_connection_lines_are_one_list() -> None:
    """RFC 9110 5.3."""
    mine = head((b"A", b"1"), (b"Connection", b"a"), (b"B", b"2"), (b"connection", b"b"), (b"C", b"3"))
    assert mine.lines == b"C: 3\r\n"
    assert mine.connection == b"a,b"


def test_a_key_is_left_out_for_services_that_have_one_of_their_own() -> None:
    mine = head((b"A", b"1"), (b"AUTHORIZATION", b"Bearer sk-client"), (b"Connection", b"x"), (b"X", b"2"))
    assert mine.lines == b"A: 1\r\nAUTHORIZATION: Bearer sk-client\r\n"
    assert mine.unauthorized_lines == b"A: 1\r\n"
    assert mine.unauthorized_lines == b"A: 1\r\n"
    assert mine.lines == b"A: 1\r\nAUTHORIZATION: Bearer sk-client\r\n"


def test_what_the_router_reads() -> None:
    mine = head(
        (b"Host", b"h"), (b"HOST", b"h2"), (b"Content-Length", b"5"), (b"Content-Type", b"application/json"),
        (b"Authorization", b"Bearer a"), (b"User-Agent", b"ua"), (b"X-Request-ID", b"id"), (b"Expect", b"100-continue"),
        (b"X-Forwarded-For", b"1.1.1.1"), (b"x-forwarded-for", b"2.2.2.2"), (b"Content-Encoding", b"gzip"),
        (b"Transfer-Encoding", b"chunked"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Key", b"key"),
        (b"Sec-WebSocket-Protocol", b"a"), (b"sec-websocket-protocol", b"b"),
    )  # fmt: skip
    assert (mine.method, mine.target, mine.version, mine.keep_alive) == (b"POST", b"/v1/x", "1.1", True)
    assert mine.hosts == [b"h", b"h2"]
    assert (mine.length, mine.content_type, mine.content_encoding) == (b"5", b"application/json", b"gzip")
    assert (mine.authorization, mine.user_agent, mine.request_id) == (b"Bearer a", b"ua", b"id")
    assert mine.forwarded_for == [b"1.1.1.1", b"2.2.2.2"]
    assert (mine.transfer_encodings, mine.expects) == ([b"chunked"], [b"100-continue"])
    assert (mine.upgrade, mine.websocket_key, mine.protocols) == (b"websocket", b"key", [b"a", b"b"])


def test_what_a_head_does_not_say() -> None:
    mine = head()
    assert mine.length is None
    assert (mine.hosts, mine.expects, mine.forwarded_for, mine.transfer_encodings, mine.protocols) == ([],) * 5
    assert (mine.upgrade, mine.authorization, mine.content_encoding, mine.content_type, mine.user_agent) == (b"",) * 5
    assert (mine.request_id, mine.websocket_key, mine.connection, mine.lines, mine.route) == (b"", b"", b"", b"", None)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"a" * 128, True),
        (b"!~", True),
        (b"", False),
        (b"a" * 129, False),
        (b"a b", False),
        (b"a\tb", False),
        (b"\xe9", False),
        (b"a\x7f", False),
    ],
)
def test_a_clients_request_id_is_kept_if_it_is_at_most_128_printable_ascii_characters(sent: bytes, kept: bool) -> None:
    assert head((b"x-request-id", sent)).request_id == (sent if kept else b"")


def test_one_header_can_be_taken_out() -> None:
    mine = head((b"A", b"1"), (b"Sec-WebSocket-Extensions", b"x"), (b"Upgrade", b"websocket"), version="1.1")
    other = mine.without(b"sec-websocket-extensions")
    assert (other.lines, other.upgrade, other.method, other.target) == (b"A: 1\r\n", b"websocket", b"POST", b"/v1/x")
    assert mine.lines == b"A: 1\r\nSec-WebSocket-Extensions: x\r\n"


@pytest.mark.parametrize(
    ("header", "version", "repeats"),
    [
        ((b"Accept", b"*/*"), "1.1", True),
        ((b"Connection", b"close"), "1.1", True),
        ((b"Content-Length", b"5"), "1.1", True),
        ((b"Accept", b"*/*"), "1.0", False),
        ((b"Upgrade", b"h2c"), "1.1", False),
        ((b"Expect", b"100-continue"), "1.1", False),
        ((b"Expect", b""), "1.1", False),
        ((b"Transfer-Encoding", b"chunked"), "1.1", False),
    ],
)
def test_heads_that_negotiate_something_do_not_repeat(header: tuple[bytes, bytes], version: str, repeats: bool) -> None:
    assert head(header, version=version).repeats is repeats


def test_the_head_that_was_never_read_is_the_same_for_all() -> None:
    assert (NO_HEAD.headers, NO_HEAD.lines, NO_HEAD.method) == ([], b"", b"")


_NAMES = st.sampled_from([*NEVER_PASSED_ON, b"X-A", b"X-B", b"Authorization", b"Accept", b"Content-Type", b"Cookie"])
_VALUES = st.sampled_from([b"", b"a", b"x-a", b"close", b"X-B, keep-alive", b"keep-alive, upgrade", b"cookie,,x-a"])


@given(st.lists(st.tuples(_NAMES, st.sampled_from([bytes.lower, bytes.upper, bytes]), _VALUES), max_size=12))
def test_the_rules_together(parts: list[tuple[bytes, object, bytes]]) -> None:
    headers: Headers = [(spell(name), value) for name, spell, value in parts]  # type: ignore[operator]
    named = {
        token.strip().lower() for name, value in headers if name.lower() == b"connection" for token in value.split(b",")
    }
    dropped = {name.lower() for name in NEVER_PASSED_ON} | named - {b"close", b"keep-alive", b"upgrade"}
    kept = [(name, value) for name, value in headers if name.lower() not in dropped]
    mine = RequestHead(b"GET", b"/", "1.1", True, headers)
    assert mine.lines == b"".join(b"%b: %b\r\n" % header for header in kept)
    without_key = [header for header in kept if header[0].lower() != b"authorization"]
    assert mine.unauthorized_lines == b"".join(b"%b: %b\r\n" % header for header in without_key)
