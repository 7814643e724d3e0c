"""Server-sent events one by one, for the rare stream that has to be understood and not only passed on.

Owns cutting a stream into whole events and reading an event's data. May not live here: the look in passing (`sse`),
what the data says (`resume`, `resumed`).
"""

from __future__ import annotations

import re

#: What ends an event. The group is atomic: `\r\n` is one end of a line, never two.
_END = re.compile(rb"(?>\r\n|\n|\r){2,}")


def split(stream: bytes) -> tuple[list[bytes], bytes]:
    """The whole events in `stream`, each with the blank line that ends it, and the bytes behind the last of them."""
    if b"\r" not in stream:
        *pieces, rest = stream.split(b"\n\n")
        return [piece + b"\n\n" for piece in pieces], rest.lstrip(b"\n")
    events = []
    start = 0
    for end in _END.finditer(stream):
        events.append(stream[start : end.end()])
        start = end.end()
    return events, stream[start:].lstrip(b"\r\n")


def data_of(event: bytes) -> bytes | None:
    """The data of an event, its lines joined; None for comments and for events without data."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
