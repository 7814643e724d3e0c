"""A read that is one chunk is told from its ends; llhttp agrees on every one of them, and on every one that is not."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enginehouse.wire.one_chunk import MAX_READ, data_start


class Chunks:
    """What llhttp makes of a read that begins at a chunk's boundary."""

    def __init__(self, read: bytes) -> None:
        self.data: list[bytes] = []
        self.headers = 0
        self.ends = 0
        self.inside = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.valid = True
        try:
            parser.feed_data(read)
            self.over = self.ends
            # One more chunk: it is taken as one only where the read ended at a boundary.
            parser.feed_data(b"1\r\n!\r\n")
        except httptools.HttpParserError:
            self.valid = False

    def on_chunk_header(self) -> None:
        self.headers += 1

    def on_chunk_complete(self) -> None:
        self.ends += 1

    def on_body(self, data: bytes) -> None:
        self.data.append(data)

    @property
    def is_one(self) -> bool:
        return self.valid and self.headers == self.ends == 2 and self.over == 1 and self.data[-1] == b"!"


def chunk(size: int, line: bytes | None = None) -> bytes:
    return (b"%x" % size if line is None else line) + b"\r\n" + b"d" * size + b"\r\n"


def test_every_chunk_that_fits_is_one_however_its_digits_are_spelled() -> None:
    for size in range(1, MAX_READ):
        for line in (b"%x" % size, b"%X" % size, (b"%x" % size).title()):
            read = chunk(size, line)
            start = data_start(read)
            assert start == (len(line) + 2 if len(read) <= MAX_READ else 0)
            assert start == 0 or read[start:-2] == b"d" * size


@pytest.mark.parametrize(
    "read",
    [
        b"",
        b"\r\n",
        b"0\r\n\r\n",
        b"5\r\nhello",
        b"5\r\nhello\r",
        b"5\r\nhello\n\n",
        b"5\r\nhell\r\n",
        b"5\r\nhello!\r\n",
        b"5\nhello\r\n",
        b"05\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5;x=y\r\nhello\r\n",
        b"6\r\nhello\r\n",
        b"4\r\nhello\r\n",
        b"5\r\nhello\r\n\r\n",
        b"5\r\nhello\r\n5\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"2\r\nab\r\n2\r\ncd\r\n",
        b"hello\r\n",
    ],
)
def test_anything_else_is_left_to_the_parser(read: bytes) -> None:
    assert data_start(read) == 0


def test_a_read_that_begins_with_its_own_size_twice_is_taken_once() -> None:
    inner = chunk(5)
    outer = b"%x\r\n%b\r\n" % (len(inner), inner)
    start = data_start(outer)
    assert outer[start:-2] == inner


_PIECES = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"0", b"1", b"5", b"a", b"A", b"10", b"3", b";x", b"hello", b"d" * 16, b"abc", b"X: y", b""]
)


@given(
    st.lists(_PIECES, max_size=8).map(b"".join)
    | st.binary(max_size=40).map(lambda data: b"%x\r\n%b\r\n" % (len(data), data))
)
@example(b"a\r\n" + chunk(5) + b"\r\n")
def test_what_is_taken_for_one_chunk_is_one_to_llhttp_with_the_same_data(read: bytes) -> None:
    start = data_start(read)
    seen = Chunks(read)
    if start:
        assert seen.is_one
        assert b"".join(seen.data) == read[start:-2] + b"!"
    elif seen.is_one:
        # Right, too, but not as engines write it: a size with zeros before it or with an extension.
        line = read.split(b"\r\n")[0]
        assert line[:1] == b"0" or b";" in line
