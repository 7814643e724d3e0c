"""A read that brought exactly one chunk of a chunked body (RFC 9112 7.1), told from its first and last bytes alone.

An engine writes each event of a stream as one chunk, and mostly one read brings one. A read of a given size can be one
whole chunk in one way only: its size line follows from its length. So comparing that line and the CRLF at the end
proves it, if the read began at the boundary of a chunk; nothing is guessed. All else is llhttp's.

Owns `data_start`. May not live here: knowing that a read begins at a boundary (`data.engine_conn`).
"""

from __future__ import annotations

from typing import Final

#: Longer reads go the ordinary way: they are rare in streams of tokens, and cost little per byte.
MAX_READ: Final = 4096


def _size_lines() -> list[bytes]:
    """By length of the read: what it begins with if it is one chunk, in small letters; never of size 0."""
    lines = [b""] * (MAX_READ + 1)
    for size in range(1, MAX_READ):
        line = b"%x\r\n" % size
        length = len(line) + size + 2
        if length <= MAX_READ:
            lines[length] = line
    return lines


_SIZE_LINES: Final = _size_lines()


def data_start(read: bytes) -> int:
    """Where the data of the one chunk in `read` begin (they end two bytes before its end); 0 if it is not one chunk."""
    size = len(read)
    if size > MAX_READ:
        return 0
    line = _SIZE_LINES[size]
    start = len(line)
    # Slices: `startswith` and `endswith` cost three times as much.
    if start and read[-2:] == b"\r\n" and (read[:start] == line or read[:start].lower() == line):
        return start
    return 0
