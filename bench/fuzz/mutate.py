"""What the fuzzer does to bytes that were right: one change at a time, each a function of the bytes and of chance.

Owns the changes and how many are made. May not live here: what is changed (`corpus`), what becomes of it (`case`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Final

from bench.fuzz.corpus import WORDS

Change = Callable[[bytes, random.Random], bytes]
#: Nothing grows beyond this. Bytes.
MAX_SIZE: Final = 400_000
_NUMBER = re.compile(rb"(?<![0-9A-Fa-f])(?=[A-Fa-f]{0,16}[0-9])[0-9A-Fa-f]{1,20}")
_NUMBERS = (
    b"0",
    b"1",
    b"-1",
    b"00",
    b"4294967296",
    b"18446744073709551615",
    b"999999999999999999999",
    b"7fffffff",
    b"",
)


def _at(data: bytes, rng: random.Random) -> int:
    """A place in the data: one time in two near a boundary, where most mistakes are made."""
    if rng.random() < 0.5:
        near = data.find(rng.choice((b"\r\n", b"\n", b":", b"\r\n\r\n", b" ", b'"')), rng.randrange(len(data) + 1))
        if near >= 0:
            return near + rng.randrange(3)
    return rng.randrange(len(data) + 1)


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    start = _at(data, rng)
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 100, 4000)))


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Some bits are others."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def any_byte(data: bytes, rng: random.Random) -> bytes:
    """One byte is any other."""
    at = _at(data, rng)
    return data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :]


def insert_word(data: bytes, rng: random.Random) -> bytes:
    """A word that hurts stands somewhere."""
    at = _at(data, rng)
    return data[:at] + rng.choice(WORDS) + data[at:]


def insert_line(data: bytes, rng: random.Random) -> bytes:
    """A word that hurts begins a line of the head."""
    ends = [found.end() for found in re.finditer(rb"\r\n", data[:4000])]
    at = rng.choice(ends) if ends else 0
    return data[:at] + rng.choice(WORDS) + data[at:]


def replace_word(data: bytes, rng: random.Random) -> bytes:
    """A word that hurts stands in the place of something."""
    start, end = _span(data, rng)
    return data[:start] + rng.choice(WORDS) + data[end:]


def delete(data: bytes, rng: random.Random) -> bytes:
    """A part is missing."""
    start, end = _span(data, rng)
    return data[:start] + data[end:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    """A part comes several times."""
    start, end = _span(data, rng)
    return data[:start] + data[start:end] * rng.choice((2, 3, 50)) + data[end:]


def cut_off(data: bytes, rng: random.Random) -> bytes:
    """It ends early."""
    return data[: _at(data, rng)]


def swap_lines(data: bytes, rng: random.Random) -> bytes:
    """Two lines of it stand in each other's place, or one stands twice."""
    lines = data.split(b"\r\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    if rng.random() < 0.5:
        lines[first], lines[second] = lines[second], lines[first]
    else:
        lines.insert(second, lines[first])
    return b"\r\n".join(lines)


def other_number(data: bytes, rng: random.Random) -> bytes:
    """A number, mostly a length, is another one."""
    numbers = list(_NUMBER.finditer(data[:20_000]))
    if not numbers:
        return data
    one = rng.choice(numbers)
    old = int(one[0], 16) if len(one[0]) < 9 else 0
    new = rng.choice(
        (*_NUMBERS, b"%d" % max(0, old + rng.choice((-2, -1, 1, 2))), b"%x" % (old + 1), b"%d" % (old * 10))
    )
    return data[: one.start()] + new + data[one.end() :]


def other_line_ends(data: bytes, rng: random.Random) -> bytes:
    """Lines end otherwise: one of them, or all."""
    end = rng.choice((b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\r\n ", b""))
    if rng.random() < 0.3:
        return data.replace(b"\r\n", end)
    ends = [found.start() for found in re.finditer(rb"\r\n", data[:20_000])]
    at = rng.choice(ends) if ends else 0
    return data[:at] + end + data[at + 2 :]


def other_case(data: bytes, rng: random.Random) -> bytes:
    """A part is in capitals, or in small letters."""
    start, end = _span(data, rng)
    part = data[start:end]
    return data[:start] + (part.upper() if rng.random() < 0.5 else part.lower()) + data[end:]


def swell(data: bytes, rng: random.Random) -> bytes:
    """One place of it is huge: around the limits of a head and of a read."""
    at = _at(data, rng)
    return (
        data[:at]
        + rng.choice((b"a", b"X-A: b\r\n", b"\r\n", b"\0", b"%41", b"[")) * rng.choice((300, 300, 300, 9000, 70_000))
        + data[at:]
    )


CHANGES: Final[tuple[Change, ...]] = (
    flip_bits,
    any_byte,
    insert_word,
    insert_line,
    replace_word,
    delete,
    repeat,
    cut_off,
    swap_lines,
    other_number,
    other_line_ends,
    other_case,
    swell,
)


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> tuple[bytes, tuple[str, ...]]:
    """`data` after one to six changes, and their names; one time in ten another whole message is spliced in before."""
    names = []
    if rng.random() < 0.1:
        other = rng.choice(others)
        data = data[: _at(data, rng)] + other[_at(other, rng) :]
        names.append("splice")
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 6))):
        change = rng.choice(CHANGES)
        data = change(data, rng)[:MAX_SIZE]
        names.append(change.__name__)
    return data, tuple(names)
