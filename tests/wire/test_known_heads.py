"""A head is found again by its bytes: what is found is what was learned, and never for anything but one message."""

from __future__ import annotations

import re
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enginehouse.wire.known_heads import MAX_HEADS, MAX_SIZE, ONCE, KnownHeads

TITLE, LOWER = b"Content-Length: ", b"content-length: "
BEFORE = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
AFTER = b"\r\nAccept: */*\r\n\r\n"

Known = KnownHeads[str]


def message(digits: bytes, body: bytes, name: bytes = TITLE, before: bytes = BEFORE, after: bytes = AFTER) -> bytes:
    return before + name + digits + after + body


def whole(body: bytes, name: bytes = TITLE, before: bytes = BEFORE, after: bytes = AFTER) -> bytes:
    """A message whose length is true."""
    return message(b"%d" % len(body), body, name, before, after)


Head = TypeVar("Head")


def learn(known: KnownHeads[Head], data: bytes, size: int, head: Head) -> None:
    """A head is learned when it comes for the second time."""
    known.learn(data, size, head)
    known.learn(data, size, head)


def taught(*messages: tuple[bytes, int, str]) -> Known:
    known: Known = KnownHeads()
    for data, size, head in messages:
        learn(known, data, size, head)
    return known


def found(known: Known, data: bytes) -> tuple[str, bytes] | None:
    """(head, body), or None."""
    head, start = known.find(data)
    return None if head is None else (head, data[start:])


def tried_first() -> Known:
    """A table that has found a head, so that this head is tried first."""
    known = taught((whole(b"hello"), 5, "a"))
    assert found(known, whole(b"hello")) == ("a", b"hello")
    return known


def test_a_head_that_was_learned_is_found_with_any_length_and_any_body() -> None:
    known = taught((whole(b"hello"), 5, "a"))
    for body in (b"world", b"", b"x", b"\r\n\r\n", b"Content-Length: 3\r\n\r\nabc", b"x" * 99_999):
        assert found(known, whole(body)) == ("a", body)


def test_nothing_is_found_that_was_not_learned() -> None:
    known = taught((whole(b"hello"), 5, "a"))
    for other in (
        whole(b"hello", LOWER),
        whole(b"hello", before=BEFORE.replace(b"h", b"H")),
        whole(b"hello", after=b"\r\nAccept: *\r\n\r\n"),
        whole(b"hello", after=b"\r\n\r\n"),
        b"\r\n" + whole(b"hello"),
        b"",
        b"\r\n\r\n",
        b"\r\n\r\n" + whole(b"hello"),
    ):
        assert found(known, other) is None
    assert found(known, whole(b"hello")) == ("a", b"hello")


@pytest.mark.parametrize("size", [0, 1, 4, 6, 50])
def test_a_length_that_is_not_that_of_the_body_is_left_to_the_parser(size: int) -> None:
    known = taught((whole(b"hello"), 5, "a"))
    assert found(known, message(b"%d" % size, b"hello")) is None
    assert found(known, whole(b"hello")) is not None
    assert found(known, message(b"%d" % size, b"hello")) is None


@pytest.mark.parametrize(
    "digits", [b"+5", b"-5", b"0x5", b" 5", b"5 ", b"\t5", b"5\t", b"5_0", b"5,5", b"5.0", b"5e0", b"", b"\xb2", b"5\n"]
)
def test_a_length_in_any_other_spelling_is_left_to_the_parser(digits: bytes) -> None:
    """`int()` takes some of these for numbers."""
    for known in (taught((whole(b"hello"), 5, "a")), taught((message(digits, b"hello"), 5, "a")), tried_first()):
        for data in (message(digits, b"hello"), message(digits, b"x" * 50)):
            assert found(known, data) is None
    assert len(taught((message(digits, b"hello"), 5, "a"))) == 0


@pytest.mark.parametrize("digits", [b"05", b"000000005"])
def test_zeros_before_a_length_change_nothing(digits: bytes) -> None:
    """RFC 9110 8.6: Content-Length = 1*DIGIT."""
    assert found(taught((whole(b"hello"), 5, "a")), message(digits, b"hello")) == ("a", b"hello")
    assert found(taught((message(digits, b"hello"), 5, "a")), whole(b"hello")) == ("a", b"hello")


def test_a_length_of_ten_digits_is_left_to_the_parser() -> None:
    for known in (taught((whole(b"hello"), 5, "a")), tried_first()):
        assert found(known, message(b"0000000005", b"hello")) is None
    assert len(taught((message(b"0000000005", b"hello"), 5, "a"))) == 0


def test_a_message_that_is_not_all_of_the_read_or_not_whole_is_left_to_the_parser() -> None:
    data = whole(b"hello")
    known = taught((data, 5, "a"))
    assert [cut for cut in range(len(data)) if known.find(data[:cut])[0] is not None] == []
    for more in (b"\r\n", b"!", data, b"0"):
        assert found(known, data + more) is None


def test_a_head_without_a_length_is_found_only_alone() -> None:
    data = b"GET /v1/models HTTP/1.1\r\nHost: h\r\n\r\n"
    known = taught((data, 0, "models"))
    assert found(known, data) == ("models", b"")
    assert found(known, data + b"x") is None
    assert found(known, data + data) is None
    assert found(known, data[:-4] + b"\r\nContent-Length: 0\r\n\r\n") is None


def test_a_head_with_a_length_is_not_one_without() -> None:
    """The same bytes but for the digits: a length that is missing is not a length."""
    assert found(taught((message(b"5", b"hello"), 5, "a")), message(b"", b"")) is None


def test_what_the_parser_saw_otherwise_is_not_learned() -> None:
    """It says how many bytes of body there were: not as many as the cut here leaves, then this is not how it is cut."""
    for size in (0, 4, 6):
        assert len(taught((whole(b"hello"), size, "a"))) == 0
    two = whole(b"hello")
    assert len(taught((two + two, 5, "a"))) == 0
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert len(taught((interim + two, 5, "a"))) == 0
    assert len(taught((b"HTTP/1.1 100 C\r\nContent-Length: %d\r\n\r\n" % len(two) + two, 5, "a"))) == 0


def test_heads_that_take_turns_are_told_apart() -> None:
    """The one found last is tried first: it must not answer for one that begins alike."""
    heads = {
        "a": (BEFORE, AFTER),
        "b": (BEFORE, b"\r\n\r\n"),
        "c": (BEFORE, b"\r\nAccept: */*\r\nX: y\r\n\r\n"),
        "d": (BEFORE + b"X: y\r\n", AFTER),
    }
    known = taught(*((whole(b"", before=b, after=a), 0, name) for name, (b, a) in heads.items()))
    assert len(known) == len(heads)
    for first in heads:
        for second in heads:
            for name in (first, second):
                before, after = heads[name]
                assert found(known, whole(b"body", before=before, after=after)) == (name, b"body")


def test_two_titles_of_the_length_are_one_key_each() -> None:
    known = taught((whole(b"", TITLE), 0, "title"), (whole(b"", LOWER), 0, "lower"))
    for name, head in ((TITLE, "title"), (LOWER, "lower"), (TITLE, "title")):
        assert found(known, whole(b"12", name)) == (head, b"12")


@pytest.mark.parametrize(("name", "other"), [(TITLE, LOWER), (LOWER, TITLE)])
def test_a_body_that_looks_like_a_head_is_a_body(name: bytes, other: bytes) -> None:
    known = taught((whole(b"hello", name), 5, "a"))
    for body in (b"\r\n" + other + b"9\r\n\r\n", b"\r\n" + name + b"9", AFTER + whole(b"hello", other)):
        assert found(known, whole(body, name)) == ("a", body)


def test_other_spellings_of_the_header_are_left_to_the_parser() -> None:
    for name in (b"CONTENT-LENGTH: ", b"Content-length: ", b"Content-Length:", b"content-length:\t"):
        data = whole(b"hello", name)
        known = taught((data, 5, "a"))
        assert (len(known), known.find(data)[0]) == (0, None)


def test_the_table_is_bounded_and_large_heads_are_not_learned() -> None:
    for most in (1, 64, MAX_HEADS):
        known: Known = KnownHeads(most)
        for number in range(3 * MAX_HEADS):
            learn(known, whole(b"", before=BEFORE + b"x-request-id: %d\r\n" % number), 0, str(number))
            assert len(known) <= most
            assert len(known._once) <= ONCE * most
    known = KnownHeads()
    for size in (MAX_SIZE, MAX_SIZE + 1):
        data = whole(b"", before=BEFORE + b"x: " + b"y" * size + b"\r\n")
        padded = data.replace(b"y" * (len(data) - size), b"", 1)
        assert len(padded) == size
        learn(known, padded, 0, "large")
        assert len(known) == 1
        assert (known.find(padded)[0] is not None) == (size == MAX_SIZE)


def test_a_head_that_comes_once_only_takes_no_place() -> None:
    """Where each head holds an id of its own, the table would be full of what never comes again."""
    known: Known = KnownHeads()
    for number in range(2 * ONCE * MAX_HEADS):
        known.learn(whole(b"", before=BEFORE + b"x-request-id: %d\r\n" % number), 0, str(number))
        assert len(known._once) <= ONCE * MAX_HEADS
    assert len(known) == 0
    for _ in range(2):
        known.learn(whole(b"hello"), 5, "a")
    assert found(known, whole(b"hello")) == ("a", b"hello")


def test_a_table_that_starts_anew_still_finds_only_what_was_learned() -> None:
    known = taught((whole(b"hello"), 5, "a"))
    assert found(known, whole(b"hello")) == ("a", b"hello")
    for number in range(MAX_HEADS):
        learn(known, whole(b"", before=b"POST /%d HTTP/1.1\r\n" % number), 0, "other")
    assert found(known, whole(b"bye")) in (None, ("a", b"bye"))


_PIECES = st.sampled_from(
    [b"POST / HTTP/1.1\r\n", b"A: b\r\n", b"Content-Length: ", b"content-length: ", b"Content-length: ", b"\r\n", b"\r",
     b"\n", b"5", b"0", b"4", b"12", b" ", b"x", b"hello", b"X: Content-Length: 5\r\n", b"\r\n\r\n"]
)  # fmt: skip
_RAW = st.lists(_PIECES, max_size=12).map(b"".join)
_LENGTH_LINE = re.compile(rb"(?:Content-Length|content-length): [0-9]{1,9}")


@given(st.lists(st.tuples(_RAW, st.integers(0, 8)), max_size=6), st.lists(_RAW, max_size=12))
@example([(b"A: b\r\nContent-Length: 0\r\n\r\n", 0)], [b"A: b\r\nContent-Length: 1\r\n\r\n5"] * 2)
def test_whatever_is_found_has_the_lines_that_were_learned_and_a_body_as_long_as_its_length_says(
    lessons: list[tuple[bytes, int]], reads: list[bytes]
) -> None:
    known: KnownHeads[bytes] = KnownHeads()
    for data, size in lessons:
        learn(known, data, size, data[: len(data) - size])
    for data in reads + [data for data, _ in lessons] * 2:
        learned, start = known.find(data)
        if learned is None:
            continue
        head, body = data[:start], data[start:]
        assert head.index(b"\r\n\r\n") == len(head) - 4
        lines, learned_lines = head.split(b"\r\n"), learned.split(b"\r\n")
        assert len(lines) == len(learned_lines)
        other = [pair for pair in zip(lines, learned_lines, strict=True) if pair[0] != pair[1]]
        assert len(other) <= 1
        assert all(_LENGTH_LINE.fullmatch(line) for pair in other for line in pair)
        said = [int(line[16:]) for line in lines[1:] if _LENGTH_LINE.fullmatch(line)]
        assert len(body) in (said or [0])
