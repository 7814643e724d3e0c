"""Bytes to a port and the answer that comes back: a client that no library keeps from being rude.

Owns the exchange and the reading of an answer. May not live here: what is rude (`bad_heads`), what is expected.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, NamedTuple

DEADLINE = 20.0


class Reply(NamedTuple):
    """The first answer to what was sent, and whatever came behind it. `status` 0: the connection ended without one."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool
    """The connection ended after it, rather than staying open for another request."""
    rest: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error in it, which is JSON in OpenAI's shape."""
        assert self.headers["content-type"] == "application/json", self
        told = json.loads(self.body)
        assert told.keys() == {"error"}, told
        assert told["error"].keys() == {"message", "type", "param", "code"}, told
        assert len(told["error"]["message"]) > 10, told
        return dict(told["error"])


def exchange(port: int, data: bytes) -> Reply:
    """Send `data` on a connection of its own and read what comes, in any case until the answer is complete.

    Whether the connection ends is known by then: an answer that ends one says so.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as sock:
        try:
            sock.sendall(data)
        except ConnectionError:
            pass  # refused while it was still coming; the answer is there all the same
        answer = http.client.HTTPResponse(sock, method="HEAD" if data.startswith(b"HEAD ") else "GET")
        try:
            answer.begin()
        except (http.client.HTTPException, ConnectionError):
            return Reply(0, {}, b"", True, b"")
        headers = {name.lower(): value for name, value in answer.getheaders()}
        body = answer.read()
        closed = headers.get("connection") == "close" or answer.version == 10
        return Reply(answer.status, headers, body, closed, _rest(sock) if closed else b"")


def _rest(sock: socket.socket) -> bytes:
    """What comes until the end of the connection."""
    found = b""
    try:
        while piece := sock.recv(65536):
            found += piece
    except ConnectionError:
        pass  # what was sent and never read resets it
    return found
