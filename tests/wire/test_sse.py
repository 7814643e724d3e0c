"""Server-sent events in passing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.wire.sse import Scanner, find_id, whole_events

CHAT = b'data: {"id":"c","choices":[{"delta":{"content":"hi"}}]}\n\n'
RESPONSES = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"hi"}\n\n'
COMPLETED = (
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1","output":"'
    + b"x" * 5000
    + b'"}}\n\n'
)
MESSAGES = b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'

WHOLE = {
    "chat": CHAT * 3 + b"data: [DONE]\n\n",
    "chat, without a space": CHAT + b"data:[DONE]\n\n",
    "chat, other line ends": CHAT.replace(b"\n", b"\r\n") + b"data: [DONE]\r\n\r\n",
    "responses": RESPONSES * 3 + COMPLETED,
    "responses, failed": RESPONSES + COMPLETED.replace(b"completed", b"failed"),
    "responses, incomplete": RESPONSES + COMPLETED.replace(b"completed", b"incomplete"),
    "responses, events without names": b'data: {"type": "response.completed", "response": {}}\n\n',
    "messages": MESSAGES * 3 + b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    "messages, spaced": MESSAGES + b'event: message_stop\ndata: {"type": "message_stop" }\n\n',
}
CUT = {
    "nothing": b"",
    "chat": CHAT * 3,
    "chat, in the last event": CHAT * 3 + b"data: [DO",
    "responses": RESPONSES * 3,
    "responses, in the last event": RESPONSES + COMPLETED[:3000],
    "messages": MESSAGES * 3,
    "a text that speaks of the end": b'data: {"delta":"event: response.completed"}\n\n',
    "a text that quotes the end": b'data: {"delta":"{\\"type\\": \\"response.completed\\"}"}\n\n',
    "a text that says done": b'data: {"delta":"data: [DONE]"}\n\n',
    "a text with the last word": b'data: {"delta":"message_stop"}\n\n',
}


def fed(*chunks: bytes) -> Scanner:
    scanner = Scanner(named=True)
    for chunk in chunks:
        scanner.feed(chunk)
    return scanner


_PIECES = st.sampled_from([
    CHAT, RESPONSES, MESSAGES, COMPLETED, b"data: [DONE]\n\n", b"data: [DO", b"NE]\n\n", b"\n", b"\r\n", b": ping\n\n",
    b"event: message_stop\n", b"data: {}\n\n", b"x" * 63, b"x" * 64, b"x" * 65,
])  # fmt: skip


@given(st.lists(st.tuples(_PIECES, st.booleans(), st.booleans()), max_size=8), st.booleans())
def test_chunks_with_their_framing_tell_what_their_data_would(
    pieces: list[tuple[bytes, bool, bool]], named: bool
) -> None:
    """Asked in between, too: a scanner that was asked knows no less."""
    framed, plain = Scanner(named), Scanner(named)
    for data, as_chunk, ask in pieces:
        line = b"%x\r\n" % len(data)
        if as_chunk:
            framed.feed_chunk(line + data + b"\r\n", len(line))
        else:
            framed.feed(data)
        plain.feed(data)
        if ask:
            assert (framed.finished, framed.at_boundary) == (plain.finished, plain.at_boundary)
    assert (framed.finished, framed.at_boundary) == (plain.finished, plain.at_boundary)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_stream_is_known_by_its_last_event_however_it_is_cut(name: str) -> None:
    stream = WHOLE[name]
    for cut in range(len(stream) + 1):
        scanner = fed(stream[:cut], stream[cut:])
        assert scanner.finished, cut
        assert scanner.at_boundary, cut
    assert fed(*[stream[n : n + 1] for n in range(len(stream))]).finished


@pytest.mark.parametrize("name", CUT)
def test_a_stream_without_its_last_event_is_not_whole(name: str) -> None:
    """Trap: EOF without [DONE] is a failure, never success."""
    assert not fed(CUT[name]).finished


@pytest.mark.parametrize("name", WHOLE)
def test_events_of_our_own_fit_between_two_events_only(name: str) -> None:
    stream = WHOLE[name].replace(b"\r\n", b"\n")
    for cut in range(len(stream)):
        assert fed(stream[:cut]).at_boundary == (cut == 0 or stream[:cut].endswith(b"\n\n")), cut


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\r\n\n"])
def test_a_boundary_is_a_blank_line_of_any_kind_even_across_chunks(end: bytes) -> None:
    for cut in range(len(end) + 1):
        assert fed(b"data: x" + end[:cut], end[cut:]).at_boundary
    assert not fed(b"data: x" + end[:1]).at_boundary


def test_a_ping_is_a_boundary() -> None:
    assert fed(b":\n\n").at_boundary


@given(st.lists(st.integers(0, 300), max_size=8), st.sampled_from(sorted(WHOLE)))
def test_the_result_does_not_depend_on_the_chunks(cuts: list[int], name: str) -> None:
    stream = WHOLE[name]
    edges = [0, *sorted(cuts), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges) if a < b]
    assert fed(*chunks).finished


def test_a_scanner_keeps_a_few_bytes_only() -> None:
    scanner = fed(*[CHAT * 1000] * 5)
    assert len(scanner._tail) <= 64


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "made"),
    [
        (b'{"id":"resp_1","object":"response","output":[{"id":"msg_1"}]}', "resp_1"),
        (b'{"output": [{"id": "msg_1"}], "id": "resp_2"}', "resp_2"),
        (b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_3"}}\n\n', "resp_3"),
        (b'{"previous_response_id":"resp_0","id":"resp_4"}', "resp_4"),
        (b'{"id": "video-5", "status": "queued"}', "video-5"),
        (b'{"id":"something else"}', "something else"),
        (b'{"instructions":"say \\"id\\": \\"resp_9\\"", "id": "resp_6"}', "resp_6"),
        (b'{"id":"resp_unfinis', None),
        (b'{"id": 5}', None),
        (b"", None),
        (b"\xff" * 100, None),
    ],
)
def test_the_id_that_an_engine_made_is_found(body: bytes, made: str | None) -> None:
    assert find_id(body) == made


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (b"", b""),
        (b"data: a\n\n", b"data: a\n\n"),
        (b"data: a\r\n\r\n", b"data: a\r\n\r\n"),
        (b"data: a\n\ndata: b", b"data: a\n\n"),
        (b"data: a\r\n\r\ndata: b\r\n", b"data: a\r\n\r\n"),
        (b"data: a\n\n:x\r\n\r\ndata: b\n", b"data: a\n\n:x\r\n\r\n"),
        (b"data: a", b""),
        (b"data: a\n\ndata: [DONE]", b"data: a\n\ndata: [DONE]"),
        (b"data: [DONE]\n", b"data: [DONE]\n"),
        (b"data: " + b"a" * 20_000, b"data: " + b"a" * 20_000),
    ],
)
def test_what_can_be_passed_on_ends_between_two_events_unless_one_is_very_long(data: bytes, whole: bytes) -> None:
    assert data[: whole_events(data)] == whole
