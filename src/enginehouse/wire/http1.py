"""HTTP/1.1 messages as bytes: status lines, what a head must be, how a body is framed, what goes one hop only.

Owns: the rules about heads that llhttp leaves to its user (RFC 9112), the hop-by-hop headers (RFC 9110 7.6.1) and the
framing decision of an answer. May not live here: parsing (llhttp does it), the further rules of each side
(`request_head`, `answer_head`).
"""

from __future__ import annotations

import enum
import http
import re
from typing import Final

Headers = list[tuple[bytes, bytes]]

STATUS_LINES: dict[int, bytes] = {
    status: b"HTTP/1.1 %d %s\r\n"
    % (status, http.HTTPStatus(status).phrase.encode() if status in http.HTTPStatus._value2member_map_ else b"Status")
    for status in range(100, 1000)
}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

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


def named_by_connection(connection: bytes) -> frozenset[bytes]:
    """Lower-case names of headers that the value of Connection declares hop-by-hop."""
    lower = connection.lower()
    if not lower or lower in (b"keep-alive", b"close", b"upgrade", b"keep-alive, upgrade"):
        return frozenset()
    return frozenset(token.strip() for token in lower.split(b","))


# RFC 9110 7.2 / RFC 3986 3.2: uri-host [":" port]; loose on purpose, but no blanks, commas, slashes or userinfo.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.%A-Za-z]+\])(?::[0-9]*)?")


def head_problem(version: str, hosts: list[bytes], transfer_encodings: list[bytes]) -> str:
    """Why a request's head must be refused with 400, or "". llhttp has checked the grammar before.

    `hosts` and `transfer_encodings` are the values of these headers, one item a line.
    """
    if version not in ("1.1", "1.0"):
        return f"HTTP/{version} is not spoken here; use HTTP/1.1."
    # RFC 9112 3.2: 400 for a 1.1 request without Host, and for any request with more than one.
    if len(hosts) != 1 and not (version == "1.0" and not hosts):
        return "The request must have exactly one Host header."
    if hosts and not _HOST.fullmatch(hosts[0]):
        return "The Host header is malformed."
    if transfer_encodings:
        # RFC 9112 6.1: HTTP/1.0 with Transfer-Encoding is faulty framing; codings other than chunked are not ours.
        if version == "1.0":
            return "HTTP/1.0 has no Transfer-Encoding; send Content-Length."
        if len(transfer_encodings) > 1 or transfer_encodings[0].strip().lower() != b"chunked":
            return "The only Transfer-Encoding accepted is 'chunked'."
    return ""


class Framing(enum.Enum):
    """How the end of an answer's body is known."""

    NONE = "no body"
    LENGTH = "content-length"
    CHUNKED = "chunked"
    EOF = "until the connection closes"


def answer_framing(method: bytes, status: int, chunked: bool, length: int | None) -> Framing:
    """RFC 9112 6.3, for an answer to `method`."""
    if method == b"HEAD" or status in (204, 304) or status < 200:
        return Framing.NONE
    if chunked:
        return Framing.CHUNKED
    if length is not None:
        return Framing.LENGTH if length else Framing.NONE
    return Framing.EOF
