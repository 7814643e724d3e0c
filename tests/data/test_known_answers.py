"""Answers whose heads are known, and reads that are one chunk, mean exactly what llhttp would have read in them."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enginehouse.core.outcome import Outcome
from enginehouse.wire.known_heads import MAX_HEADS, MAX_SIZE, KnownHeads
from tests.data.answer_streams import Holder, Known, Sent, chunked, connection, cut, exchanges, play, reads_of

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def answer(body: bytes = b"hello", status: bytes = b"200 OK", extra: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"HTTP/1.1 %b\r\nServer: e\r\n%bContent-Length: %d\r\n\r\n%b" % (status, extra, size, body)


def one(*reads: bytes, method: bytes = b"POST", end: str = "") -> Sent:
    return Sent(method, list(reads), end)


def warm(*reads: bytes) -> Known:
    """A table that has seen these answers."""
    known: Known = KnownHeads()
    for data in reads * 2:  # heads are learned when they come for the second time
        play([one(data)], known)
    return known


@settings(max_examples=800)
@given(exchanges, st.sampled_from([65536, 1024]))
@example([[one(answer()), one(answer(b"hello!")), one(answer(b""))]], 65536)
@example([[one(answer()), one(answer(), method=b"HEAD"), one(answer())]], 65536)
@example([[one(answer()), one(answer(length=4)), one(answer(length=6), end="eof")]], 65536)
@example([[one(answer()), one(answer() + answer()), one(answer() + b"\r\n")]], 65536)
@example([[one(b"HTTP/1.1 100 Continue\r\n\r\n" + answer()), one(b"HTTP/1.1 100 Continue\r\n\r\n", answer())]], 65536)
def test_a_connection_with_known_heads_tells_what_one_without_any_does(
    connections: list[list[Sent]], max_head: int
) -> None:
    known: Known = KnownHeads()
    for sent in connections * 3:
        assert play(sent, known, max_head) == play(sent, None, max_head)


def test_a_known_head_needs_no_parser() -> None:
    """Else all these tests would compare the parser with itself."""
    conn = connection(warm(answer()))
    for body in (b"world", b"x" * 5000, b"!"):
        holder = Holder(conn, b"POST")
        conn.send(holder, b"POST", b"", b"")
        conn.data_received(answer(body))
        assert (holder.whole, holder.end, conn.reusable) == (body, "whole", True)
    assert conn._parser is None


def test_a_chunk_a_read_needs_no_parser_until_the_last_one() -> None:
    conn = connection(KnownHeads())
    holder = Holder(conn, b"POST")
    conn.send(holder, b"POST", b"", b"")
    conn.data_received(STREAM)
    for chunk in (b"5\r\nhello\r\n", b"7\r\n world!\r\n"):
        conn.data_received(chunk)
        assert holder.client.written[-1] is chunk
    conn.data_received(b"0\r\n\r\n")
    assert (holder.body, holder.end, conn.reusable) == (b"hello world!", "whole", True)


@pytest.mark.parametrize(
    "data",
    [
        answer(b""),
        answer(status=b"204 No Content"),
        answer(status=b"304 Not Modified"),
        answer() + answer(),
        answer() + b"!",
        answer(length=6),
        STREAM + b"0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(),
        answer(extra=b"Content-Length: 5\r\n"),
        answer(extra=b"X: %b\r\n" % (b"y" * MAX_SIZE)),
        answer().replace(b"Content-Length", b"CONTENT-LENGTH"),
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ],
)
def test_answers_that_are_not_one_body_of_a_length_in_one_read_are_not_learned(data: bytes) -> None:
    known = warm(data)
    assert len(known) == 0
    assert play([one(data), one(answer())], known) == play([one(data), one(answer())], None)


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize("body", [b"", b"hello"])
def test_answers_that_have_no_body_whatever_their_length_says(status: bytes, body: bytes) -> None:
    """RFC 9112 6.3: what comes behind such a head belongs to nothing, and the connection is not used again."""
    sent = [one(answer(body, status, length=5)), one(answer(body, status, length=5))]
    known = warm(answer())
    for story in play(sent, known):
        assert (story.status, story.body, story.end) == (int(status[:3]), b"", "whole")
        assert story.reusable is (not body)


def test_an_answer_to_head_never_has_a_body_however_well_its_head_is_known() -> None:
    known = warm(answer())
    (story,) = play([one(answer(), method=b"HEAD")], known)
    assert (story.status, story.body, story.end, story.reusable) == (200, b"", "whole", False)


ANOTHER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("surplus", [b"!", ANOTHER, answer(), b"0\r\n\r\n"])
@pytest.mark.parametrize("data", [answer(), answer(b""), STREAM + b"0\r\n\r\n"])
def test_a_connection_with_bytes_behind_its_answer_is_not_used_again(data: bytes, surplus: bytes) -> None:
    """They would answer the next request."""
    announced_less = data == answer() and not surplus.startswith(b"HTTP/")
    for known in (KnownHeads(), warm(answer())):
        for reads in ((data, surplus),) if announced_less else ((data + surplus,), (data, surplus)):
            (story,) = play([one(*reads)], known)
            assert (story.end, story.lost) == ("whole", True)
            assert story.body == (b"hello" if data == answer() else b"")
        assert play([one(data)], known)[0].reusable


@pytest.mark.parametrize("surplus", [b"!", b"0\r\n\r\n", b'": 1}'])
def test_an_answer_longer_than_it_announced_is_not_passed_on_cut_short(surplus: bytes) -> None:
    for reads in ((answer() + surplus,), (answer()[:-2], answer()[-2:] + surplus)):
        (story,) = play([one(*reads)], warm(answer()))
        assert story.end == (Outcome.BAD_RESPONSE, "it sent more than its Content-Length announced")
        assert not story.reusable


def test_trailers_are_no_headers() -> None:
    """RFC 9110 6.5.1; they could say anything."""
    (story,) = play([one(STREAM + b"0\r\nX-Trailer: 1\r\nServer: other\r\n\r\n")], KnownHeads())
    (plain,) = play([one(STREAM + b"0\r\n\r\n")], KnownHeads())
    assert story == plain


def test_interim_heads_count_for_the_size_of_a_head_each_by_itself() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: %b\r\n\r\n" % (b"x" * 600)
    (story,) = play([one(interim, interim, interim, answer())], KnownHeads(), max_head=1024)
    assert (story.body, story.end) == (b"hello", "whole")


def test_every_head_that_comes_twice_on_a_connection_is_learned() -> None:
    known = warm(answer())
    play([one(answer(extra=b"X: %d\r\n" % number)) for number in (1, 2, 3, 2, 1)], known)
    assert len(known) == 3


def test_the_table_is_bounded_however_many_heads_come() -> None:
    known: Known = KnownHeads()
    play([one(answer(extra=b"Date: %d\r\n" % (number // 2))) for number in range(4 * MAX_HEADS + 6)], known)
    assert 1 <= len(known) <= MAX_HEADS


@pytest.mark.parametrize("at", range(1, len(answer()) + 1))
def test_wherever_a_known_answer_is_cut(at: int) -> None:
    data = answer(b"world")
    sent = [one(data[:at], data[at:]), one(data)]
    assert play(sent, warm(answer())) == play(sent, None)


# chunks

TAIL = b"5\r\nhello\r\n6\r\nworld!\r\nA\r\n0123456789\r\n1;x=y\r\n!\r\n0\r\nX: y\r\n5: z\r\n\r\n"


@pytest.mark.parametrize("first", range(len(TAIL)))
def test_wherever_a_chunked_body_is_cut_in_three(first: int) -> None:
    """Also in a size line: what follows may look like one chunk and be the rest of another."""
    for second in range(first, len(TAIL) + 1):
        reads = [data for data in (STREAM + TAIL[:first], TAIL[first:second], TAIL[second:]) if data]
        (story,) = play([one(*reads)], KnownHeads())
        assert (story.body, story.end, story.reusable) == (b"helloworld!0123456789!", "whole", True)


@pytest.mark.parametrize(
    "reads",
    [
        (STREAM, b"5\r\nhello\r\n5", b"\r\nworld\r\n", b"0\r\n\r\n"),
        (STREAM, b"5\r\nhello\r\n1", b"5\r\n0123456789abcdefghijk\r\n", b"0\r\n\r\n"),
        (STREAM, b"5\r\nhello\r\n1", b"5\r\nworld\r\n", b"0123456789abcd\r\n", b"0\r\n\r\n"),
        (STREAM, b"5\r\nhello\r\n1", b"5\r\nworld\r\n", b"0\r\n\r\n"),
        (STREAM + b"1", b"5\r\nworld\r\n", b"0123456789abcd\r\n", b"0\r\n\r\n"),
        (STREAM + b"1", b"5\r\n0123456789abcdefghijk\r\n", b"0\r\n\r\n"),
        (STREAM, b"5\r\nhello\r\n0", b"5\r\nworld\r\n", b"0\r\n\r\n"),
        (STREAM, b"5\r\nhello\r\n5;a=b\r", b"\nworld\r\n", b"0\r\n\r\n"),
        (STREAM, b"c\r\n", b"5\r\nhello\r\n\r\n", b"\r\n", b"0\r\n\r\n"),
        (STREAM, b"a\r\n5\r\n", b"5\r\nhel\r\n", b"0\r\n\r\n"),
        (STREAM, b"5\r\nhello\r", b"\n", b"5\r\nworld\r\n", b"0\r\n\r\n"),
        (STREAM, b"0\r\n", b"5\r\nhello\r\n", b"\r\n"),
        (STREAM, b"0\r\n", b"5: a\r\n", b"5\r\nhello\r\n", b"\r\n"),
        (STREAM, b"5\r\nhello\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n"),
        (STREAM, b"5\r\nhello\r\n", b"0\r\n\r\n5\r\nhello\r\n"),
        (STREAM, b"5\r\nhello\r\n", b"5\r\nhello\n\n"),
        (STREAM, b"5\r\nhello\r\n", b"g\r\nhello\r\n"),
    ],
)
def test_reads_that_look_like_one_chunk_and_those_that_do_not(reads: tuple[bytes, ...]) -> None:
    """Against the same bytes one by one, which no read of is a chunk."""
    alone = [data[i : i + 1] for data in reads for i in range(len(data))]
    quick, slow = play([one(*reads)], KnownHeads()), play([one(*alone)], KnownHeads())
    assert (quick[0].head, quick[0].body) == (slow[0].head, slow[0].body)
    assert (quick[0].end == "whole") == (slow[0].end == "whole")


@settings(max_examples=500)
@given(st.data())
def test_a_chunked_body_comes_through_however_it_is_cut(data: st.DataObject) -> None:
    chunks, pieces = data.draw(chunked())
    reads = data.draw(reads_of(STREAM, chunks) | cut(STREAM + b"".join(chunks), ("anywhere", "at CRLF")))
    sent = [one(*reads), one(answer())]
    story, after = play(sent, KnownHeads())
    assert (story.body, story.end, story.reusable) == (b"".join(pieces), "whole", True)
    assert after.body == b"hello"


def test_a_stream_that_was_cut_once_needs_no_parser_again_from_the_next_chunk_on() -> None:
    conn = connection(KnownHeads())
    holder = Holder(conn, b"POST")
    conn.send(holder, b"POST", b"", b"")
    for data in (STREAM, b"5\r\nhel", b"lo\r\n", b"2\r\n, \r\n1\r\n \r\n"):
        conn.data_received(data)
    chunk = b"6\r\nworld!\r\n"
    conn.data_received(chunk)
    assert holder.client.written[-1] is chunk
    conn.data_received(b"0\r\n\r\n")
    assert holder.body == b"hello,  world!"


def test_a_connection_whose_stream_has_ended_is_at_no_chunk() -> None:
    """The next answer may begin like one."""
    stream = one(STREAM, b"5\r\nhello\r\n", b"0\r\n\r\n")
    for reads in (STREAM, b"5\r\nhello\r\n"), (b"5\r\nhello\r\n",):
        first, second = play([stream, one(*reads)], KnownHeads())
        assert first == play([stream], KnownHeads())[0]
        assert second.status == (200 if reads[0] == STREAM else 0)


def test_after_a_stream_a_known_head_needs_no_parser_again() -> None:
    conn = connection(warm(answer()))
    for _ in range(2):
        for reads, whole in (((STREAM, b"5\r\nhello\r\n", b"0\r\n\r\n"), None), ((answer(b"world"),), b"world")):
            holder = Holder(conn, b"POST")
            conn.send(holder, b"POST", b"", b"")
            for data in reads:
                conn.data_received(data)
            assert (holder.whole, holder.end) == (whole, "whole")


def test_a_stream_that_was_given_up_leaves_nothing_for_the_next_request() -> None:
    conn = connection(KnownHeads())
    holder = Holder(conn, b"POST")
    conn.send(holder, b"POST", b"", b"")
    conn.data_received(STREAM + b"5\r\nhello\r\n")
    conn.release()
    conn.data_received(b"5\r\nworld\r\n")
    assert (holder.body, conn.lost) == (b"hello", True)
