"""Which headers are passed on, in both directions. Framing is recomputed, everything else goes byte for byte.

Owns: the hop-by-hop rules (RFC 9110 7.6.1, CONTRACTS 1.2) and the building of both heads.
May not live here: where the values we add come from.
"""

from __future__ import annotations

import re
from typing import Final

from enginehouse.wire.http1 import Headers

#: Never passed on, in either direction.
HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"trailers",
        b"transfer-encoding",
        b"upgrade",
        b"host",
        b"content-length",
        b"http2-settings",
    )
)
#: Of a request also: answered by the router itself, or replaced by its own.
_REQUEST_DROPPED: Final = HOP_BY_HOP | {b"expect", b"x-request-id", b"x-forwarded-for"}
#: Of an answer also: replaced by the router's own.
_ANSWER_DROPPED: Final = HOP_BY_HOP | {
    b"x-request-id",
    b"x-enginehouse-service",
    b"x-enginehouse-attempts",
    b"x-enginehouse-queue-ms",
    b"x-enginehouse-overhead-ms",
    b"x-enginehouse-reason",
}

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Facts:
    """Headers of a request that the router itself reads, by lower-case name, first value wins unless listed."""

    __slots__ = (
        "authorization",
        "connection",
        "content_encoding",
        "content_type",
        "expects",
        "forwarded_for",
        "hosts",
        "length",
        "protocols",
        "request_id",
        "transfer_encodings",
        "upgrade",
        "user_agent",
        "websocket_key",
    )

    def __init__(self) -> None:
        self.hosts: list[bytes] = []
        self.transfer_encodings: list[bytes] = []
        self.expects: list[bytes] = []
        self.forwarded_for: list[bytes] = []
        self.protocols: list[bytes] = []
        self.connection = b""
        self.upgrade = b""
        self.authorization = b""
        self.content_encoding = b""
        self.content_type = b""
        self.length: bytes | None = None
        self.request_id = b""
        self.user_agent = b""
        self.websocket_key = b""


_SINGLE: Final = {
    b"upgrade": "upgrade",
    b"authorization": "authorization",
    b"content-encoding": "content_encoding",
    b"content-type": "content_type",
    b"content-length": "length",
    b"x-request-id": "request_id",
    b"user-agent": "user_agent",
    b"sec-websocket-key": "websocket_key",
}
_LISTED: Final = {
    b"host": "hosts",
    b"transfer-encoding": "transfer_encodings",
    b"expect": "expects",
    b"x-forwarded-for": "forwarded_for",
    b"sec-websocket-protocol": "protocols",
}


def read_facts(headers: Headers) -> Facts:
    """Pick what the router reads out of a request's headers."""
    facts = Facts()
    for name, value in headers:
        lower = name.lower()
        if lower in _SINGLE:
            setattr(facts, _SINGLE[lower], value)
        elif lower in _LISTED:
            getattr(facts, _LISTED[lower]).append(value)
        elif lower == b"connection":
            facts.connection = facts.connection + b"," + value if facts.connection else value
    return facts


def request_id(sent: bytes) -> bytes:
    """The client's own id where it is fit to be passed on (at most 128 printable ASCII characters), else b""."""
    return sent if _REQUEST_ID.fullmatch(sent) else b""


def _named_by_connection(connection: bytes) -> frozenset[bytes]:
    """Lower-case names of headers that Connection declares hop-by-hop."""
    lower = connection.lower()
    if not lower or lower in (b"keep-alive", b"close", b"upgrade", b"keep-alive, upgrade"):
        return frozenset()
    return frozenset(token.strip() for token in lower.split(b","))


def request_lines(headers: Headers, connection: bytes, drop_authorization: bool) -> bytes:
    """The header lines of a request that are passed on, byte for byte, in order."""
    named = _named_by_connection(connection)
    lines = []
    for name, value in headers:
        lower = name.lower()
        if lower in _REQUEST_DROPPED or lower in named or (drop_authorization and lower == b"authorization"):
            continue
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


class AnswerHead:
    """An engine's head, read once: the lines to pass on, and what the router itself must know."""

    __slots__ = ("_kept", "_named", "chunked", "content_type", "encoded", "length", "server", "upgrade")

    def __init__(self, headers: Headers) -> None:
        self.length: bytes | None = None
        self.chunked = False
        self.content_type = b""
        self.server = b""
        self.upgrade = b""
        self.encoded = False
        connection = b""
        kept = []
        for name, value in headers:
            lower = name.lower()
            if lower in _ANSWER_DROPPED:
                if lower == b"content-length":
                    self.length = value
                elif lower == b"transfer-encoding":
                    self.chunked = value.strip().lower().endswith(b"chunked")
                elif lower == b"connection":
                    connection = value
                elif lower == b"upgrade":
                    self.upgrade = value
                continue
            if lower == b"content-type":
                self.content_type = value.lower()
            elif lower == b"server":
                self.server = value
            elif lower == b"content-encoding":
                self.encoded = True
            kept.append((lower, b"%b: %b\r\n" % (name, value)))
        self._kept = kept
        self._named = _named_by_connection(connection)

    @property
    def lines(self) -> list[bytes]:
        """The header lines to pass on, byte for byte, in order."""
        if self._named:
            return [line for lower, line in self._kept if lower not in self._named]
        return [line for _, line in self._kept]

    def set_content_type(self, value: bytes) -> None:
        """Another body is sent than the engine's."""
        self._kept = [kept for kept in self._kept if kept[0] != b"content-type"]
        self._kept.append((b"content-type", b"content-type: %b\r\n" % value))

    @property
    def is_event_stream(self) -> bool:
        """True for `text/event-stream`, with or without parameters."""
        return self.content_type.startswith(b"text/event-stream")
