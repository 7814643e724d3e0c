"""The W3C trace context: what is believed of a `traceparent`, and what the engine gets in its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.wire.request_head import RequestHead
from enginehouse.wire.trace_context import Context, carrying, context_of

TRACE, PARENT, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7", b"b7ad6b7169203331"
SENT = b"00-%b-%b-01" % (TRACE, PARENT)


def head(*headers: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"POST", b"/v1/chat/completions", "1.1", True, [(b"host", b"house"), *headers])


def test_a_valid_one_is_believed_whatever_the_case_of_its_name() -> None:
    assert context_of(head((b"TraceParent", SENT))) == Context(TRACE, PARENT, 1)


@pytest.mark.parametrize(("flags", "sampled"), [(b"00", False), (b"01", True), (b"02", False), (b"03", True)])
def test_the_lowest_flag_says_whether_the_client_records_it(flags: bytes, sampled: bool) -> None:
    context = context_of(head((b"traceparent", SENT[:-2] + flags)))
    assert context is not None
    assert context.sampled is sampled


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"nonsense",
        SENT[:-1],
        SENT + b"0",
        SENT + b"-more",
        SENT.upper(),
        SENT.replace(TRACE, b"0" * 32),
        SENT.replace(PARENT, b"0" * 16),
        SENT.replace(b"00-", b"ff-", 1),
        SENT.replace(b"00-", b"0x-", 1),
        SENT.replace(b"-", b"_"),
        b" " + SENT,
    ],
)
def test_one_that_is_not_valid_counts_as_none(value: bytes) -> None:
    assert context_of(head((b"traceparent", value))) is None


def test_two_of_them_count_as_none() -> None:
    assert context_of(head((b"traceparent", SENT), (b"traceparent", SENT))) is None
    assert context_of(head()) is None


def test_of_a_version_to_come_the_part_that_is_known_is_believed() -> None:
    assert context_of(head((b"traceparent", b"cc" + SENT[2:] + b"-what-the-future-brings"))) == Context(
        TRACE, PARENT, 1
    )
    assert context_of(head((b"traceparent", b"cc" + SENT[2:] + b"without-a-dash"))) is None


def test_the_engine_gets_our_span_as_its_parent_in_the_same_place_and_the_rest_byte_for_byte() -> None:
    before = head((b"X-First", b"1"), (b"Traceparent", SENT), (b"Tracestate", b"a=1, b=2"), (b"X-Last", b"\xe9"))
    after = carrying(before, TRACE, SPAN, 1, True)
    assert after.lines == before.lines.replace(PARENT, SPAN)
    assert len(after.lines) == len(before.lines)


def test_a_trace_that_begins_here_does_not_go_on_with_the_state_of_another() -> None:
    before = head((b"traceparent", b"broken"), (b"tracestate", b"a=1"), (b"traceparent", b"twice"))
    assert carrying(before, TRACE, SPAN, 0, False).lines == b"traceparent: 00-%b-%b-00\r\n" % (TRACE, SPAN)
    assert carrying(head(), TRACE, SPAN, 1, False).lines == b"traceparent: 00-%b-%b-01\r\n" % (TRACE, SPAN)


def test_flags_that_are_not_defined_are_set_to_zero() -> None:
    assert b"-03\r\n" in carrying(head(), TRACE, SPAN, 0xFF, False).lines


def test_the_head_that_others_share_is_not_changed() -> None:
    before = head((b"traceparent", SENT), (b"content-length", b"7"))
    lines, headers = before.lines, list(before.headers)
    after = carrying(before, TRACE, SPAN, 1, True)
    assert (before.lines, before.headers) == (lines, headers)
    assert (after.method, after.target, after.length) == (before.method, before.target, b"7")


@given(st.binary(max_size=80))
def test_whatever_a_client_sends_is_believed_or_not_but_never_an_error(value: bytes) -> None:
    context_of(head((b"traceparent", value)))
