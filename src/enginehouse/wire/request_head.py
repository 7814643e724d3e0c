"""The head of a request, read once: what the router must know of it, and what of it is passed on.

Owns `RequestHead`. Everything that is passed on goes byte for byte. May not live here: which headers are read and which
are passed on (`headers`), where the values that we add come from (`data.intake`), parsing (llhttp).
"""

from __future__ import annotations

import re
from typing import Final

from enginehouse.wire.headers import KEPT_FROM_ENGINES, READ
from enginehouse.wire.http1 import Headers, named_by_connection
from enginehouse.wire.paths import Route

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class RequestHead:
    """Shared by all requests that begin with the same bytes, but for `length`: never changed once it is read."""

    __slots__ = (
        "_lines",
        "_unauthorized",
        "api_key",
        "authorization",
        "connection",
        "content_encoding",
        "content_type",
        "expects",
        "forwarded_for",
        "headers",
        "hosts",
        "keep_alive",
        "length",
        "method",
        "policy",
        "protocols",
        "request_id",
        "route",
        "session",
        "target",
        "transfer_encodings",
        "upgrade",
        "user_agent",
        "version",
        "websocket_key",
    )

    def __init__(self, method: bytes, target: bytes, version: str, keep_alive: bool, headers: Headers) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.keep_alive = keep_alive
        self.headers = headers
        self.hosts: list[bytes] = []
        self.transfer_encodings: list[bytes] = []
        self.expects: list[bytes] = []
        self.forwarded_for: list[bytes] = []
        self.protocols: list[bytes] = []
        self.connection = b""
        self.upgrade = b""
        self.authorization = b""
        self.api_key = b""
        """As Anthropic's and Azure's clients send it (x-api-key, api-key)."""
        self.content_encoding = b""
        self.content_type = b""
        self.length: bytes | None = None
        """Content-Length of the request it was read from; not of others that share the head."""
        self.request_id = b""
        """The client's own id, where it is fit to be passed on."""
        self.user_agent = b""
        self.session = b""
        """Requests that name the same are one conversation (x-session-id)."""
        self.policy = b""
        """By which the client wants its service to be chosen (x-enginehouse-policy)."""
        self.websocket_key = b""
        self.route: Route | None = None
        """What the request line means; noted by whoever asks first."""
        self._unauthorized: bytes | None = None
        self._lines = self._read(headers)

    def _read(self, headers: Headers) -> bytes:
        """Pick what the router reads; returns the lines that are passed on."""
        pieces: list[bytes] = []
        for name, value in headers:
            lower = name.lower()
            if lower in READ:
                self._note(lower, value)
            if lower not in KEPT_FROM_ENGINES:
                pieces += (name, b": ", value, b"\r\n")
        if self.request_id and _REQUEST_ID.fullmatch(self.request_id) is None:
            self.request_id = b""
        named = named_by_connection(self.connection)
        return self._without(named) if named else b"".join(pieces)

    def _note(self, name: bytes, value: bytes) -> None:  # noqa: C901 (a table would set attributes by name: dearer)
        if name == b"host":
            self.hosts.append(value)
        elif name == b"connection":
            self.connection = self.connection + b"," + value if self.connection else value
        elif name == b"content-length":
            self.length = value
        elif name == b"content-type":
            self.content_type = value
        elif name == b"authorization":
            self.authorization = value
        elif name in (b"x-api-key", b"api-key"):
            self.api_key = value
        elif name == b"user-agent":
            self.user_agent = value
        elif name == b"x-request-id":
            self.request_id = value
        elif name == b"x-forwarded-for":
            self.forwarded_for.append(value)
        elif name == b"content-encoding":
            self.content_encoding = value
        elif name == b"transfer-encoding":
            self.transfer_encodings.append(value)
        elif name == b"expect":
            self.expects.append(value)
        elif name == b"upgrade":
            self.upgrade = value
        elif name == b"sec-websocket-key":
            self.websocket_key = value
        elif name == b"x-session-id":
            self.session = value
        elif name == b"x-enginehouse-policy":
            self.policy = value
        else:
            self.protocols.append(value)

    def _without(self, names: frozenset[bytes]) -> bytes:
        dropped = KEPT_FROM_ENGINES | names
        return b"".join([b"%b: %b\r\n" % header for header in self.headers if header[0].lower() not in dropped])

    @property
    def lines(self) -> bytes:
        """The header lines that are passed on, byte for byte, in order."""
        return self._lines

    @property
    def unauthorized_lines(self) -> bytes:
        """The same without Authorization, for services that have a key of their own."""
        if self._unauthorized is None:
            self._unauthorized = self._without(named_by_connection(self.connection) | {b"authorization"})
        return self._unauthorized

    def without(self, name: bytes) -> RequestHead:
        """The same head less one header (lower case)."""
        headers = [header for header in self.headers if header[0].lower() != name]
        return RequestHead(self.method, self.target, self.version, self.keep_alive, headers)

    @property
    def repeats(self) -> bool:
        """True where another message with the same bytes is the same: nothing was negotiated by this head."""
        return not (self.upgrade or self.expects or self.transfer_encodings) and self.version == "1.1"


#: Stands for a head that was never read whole.
NO_HEAD: Final = RequestHead(b"", b"", "1.1", True, [])
