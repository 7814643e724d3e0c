"""What must hold of every byte that a client gets, whatever it sent and whatever the engines said.

Owns a reader of answers that is stricter than any client's. May not live here: which answer was due (`client`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

#: On every final answer, once.
OURS: Final = (
    b"x-request-id",
    b"x-enginehouse-service",
    b"x-enginehouse-attempts",
    b"x-enginehouse-queue-ms",
    b"x-enginehouse-overhead-ms",
    b"x-enginehouse-reason",
)
#: Belong to one hop (RFC 9110 7.6.1): never those of an engine.
_HOPS: Final = frozenset((b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"te", b"trailer", b"trailers"))
_STATUS = re.compile(rb"HTTP/1\.1 ([1-9][0-9][0-9]) [\x20-\x7e]*")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([\t\x20-\x7e\x80-\xff]*)")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?")


class WrongError(Exception):
    """Something that must never come; the message says what."""


@dataclass(frozen=True)
class Reply:
    """One answer. `whole`: nothing of it is missing. `end`: where it ends in what was received."""

    status: int
    fields: dict[bytes, list[bytes]]
    body: bytes
    whole: bool
    close: bool
    end: int

    def one(self, name: bytes) -> bytes:
        """The value of a field that is there once; b"" where it is not."""
        return self.fields.get(name, [b""])[0]


def read(data: bytes, start: int, method: bytes) -> Reply | None:
    """The final answer to `method` that begins at `start`, as far as it has come; None where its head is not whole.

    Raises `WrongError`.
    """
    while True:
        end = data.find(b"\r\n\r\n", start)
        if end < 0:
            if len(data) - start > 200_000:
                raise WrongError(f"a head that does not end: {data[start : start + 80]!r}")
            return None
        status, fields = _head(data[start:end])
        start = end + 4
        if status >= 200 or status == 101:
            return _final(data, start, method, status, fields)


def _head(head: bytes) -> tuple[int, dict[bytes, list[bytes]]]:
    first, *lines = head.split(b"\r\n")
    matched = _STATUS.fullmatch(first)
    if matched is None:
        raise WrongError(f"a status line that is none: {first[:120]!r}")
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise WrongError(f"a header line that is none: {line[:120]!r}")
        fields.setdefault(field[1].lower(), []).append(field[2])
    return int(matched[1]), fields


def _final(data: bytes, start: int, method: bytes, status: int, fields: dict[bytes, list[bytes]]) -> Reply:
    lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
    close = b"close" in fields.get(b"connection", [])
    switched = status == 101
    _check_fields(fields, switched)
    if len(lengths) > 1 or (lengths and codings) or codings not in ([], [b"chunked"]):
        raise WrongError(f"framing that can be read in two ways: {lengths} {codings}")
    if lengths and not lengths[0].isdigit():
        raise WrongError(f"a length that is none: {lengths[0]!r}")
    if switched:
        return Reply(status, fields, data[start:], True, False, len(data))
    if method == b"HEAD" or status in (204, 304):
        if codings and status == 204:
            raise WrongError("a coding where there can be no body")
        return Reply(status, fields, b"", True, close, start)
    if codings:
        body, end, whole = _chunks(data, start)
    elif lengths:
        body = data[start : start + int(lengths[0])]
        end, whole = start + len(body), len(body) == int(lengths[0])
    else:
        if not close:
            raise WrongError(f"an answer without an end: status {status}, {sorted(fields)}")
        body, end, whole = data[start:], len(data), False
    reply = Reply(status, fields, body, whole, close, end)
    if whole and not reply.one(b"content-encoding") and reply.one(b"x-enginehouse-service") == b"-":
        _check_error(reply)
    return reply


def _check_fields(fields: dict[bytes, list[bytes]], switched: bool) -> None:
    for name in OURS:
        count = len(fields.get(name, []))
        if count != 1 and not (switched and not count):
            raise WrongError(f"{name.decode()} comes {count} times")
    for name in _HOPS & fields.keys():
        raise WrongError(f"{name.decode()} was passed on")
    if fields[b"x-request-id"][0] == b"evil" or fields.get(b"x-enginehouse-service") == [b"evil"]:
        raise WrongError("a header line of ours is an engine's")


def _check_error(reply: Reply) -> None:
    """What the router answers itself is JSON in the shape that SDKs read, or a short text of `/livez` and `/readyz`."""
    if reply.one(b"content-type").startswith(b"text/plain") and reply.status in (200, 503):
        return
    try:
        told = json.loads(reply.body)["error"]
        shaped = isinstance(told["message"], str) and bool(told["type"])
    except (ValueError, KeyError, TypeError):
        shaped = False
    if reply.status < 400 or not shaped:
        raise WrongError(
            f"an answer of the router's own that is no error in shape: {reply.status} {reply.body[:120]!r}"
        )


def _chunks(data: bytes, at: int) -> tuple[bytes, int, bool]:
    """(what they hold, where they end, whether the last one has come)."""
    held: list[bytes] = []
    while (end := data.find(b"\r\n", at)) >= 0:
        size = _SIZE.fullmatch(data[at:end])
        if size is None:
            raise WrongError(f"a chunk size that is none: {data[at:end][:80]!r}")
        length, at = int(size[1], 16), end + 2
        if not length:
            return b"".join(held), *_trailer(data, at)
        held.append(data[at : at + length])
        if data[at + length : at + length + 2] not in (b"\r\n", b"\r", b""):
            raise WrongError(f"a chunk that does not end where it says: {data[at + length - 8 : at + length + 8]!r}")
        if at + length + 2 > len(data):
            return b"".join(held), len(data), False
        at += length + 2
    if len(data) - at > 100:
        raise WrongError(f"a chunk size that does not end: {data[at : at + 80]!r}")
    return b"".join(held), len(data), False


def _trailer(data: bytes, at: int) -> tuple[int, bool]:
    """Trailers are never passed on, so that the last chunk is followed by an empty line."""
    rest = data[at : at + 2]
    if rest == b"\r\n":
        return at + 2, True
    if rest not in (b"", b"\r"):
        raise WrongError(f"something behind the last chunk: {data[at : at + 80]!r}")
    return len(data), False
