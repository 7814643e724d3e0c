"""The head of an engine's answer, read once: what the router must know of it, and what of it is passed on.

Owns `AnswerHead`. May not live here: which headers are passed on (`headers`), the lines that we add (`data.replies`),
parsing (llhttp).
"""

from __future__ import annotations

from enginehouse.wire.headers import KEPT_FROM_CLIENTS
from enginehouse.wire.http1 import STATUS_LINES, Headers, named_by_connection


class AnswerHead:
    """Shared by all answers that begin with the same bytes: never changed, and the length is not part of it."""

    __slots__ = (
        "chunked",
        "coded",
        "content_type",
        "encoded",
        "headers",
        "is_event_stream",
        "keep_alive",
        "lines",
        "server",
        "status",
        "upgrade",
    )

    def __init__(self, status: int, keep_alive: bool, headers: Headers) -> None:
        self.status = status
        self.keep_alive = keep_alive
        self.headers = headers
        self.chunked = False
        self.coded = False
        """Its body has a transfer coding besides chunked: we asked for none (no TE), and could not pass it on."""
        self.content_type = b""
        self.server = b""
        self.upgrade = b""
        self.encoded = False
        connection = b""
        kept = []
        for name, value in headers:
            lower = name.lower()
            if lower in KEPT_FROM_CLIENTS:
                if lower == b"transfer-encoding":
                    coding = value.strip().lower()
                    self.chunked = coding == b"chunked"
                    self.coded = self.coded or coding not in (b"chunked", b"identity")
                elif lower == b"connection":
                    connection = connection + b"," + value if connection else value
                elif lower == b"upgrade":
                    self.upgrade = value
                continue
            if lower == b"content-type":
                self.content_type = value.lower()
            elif lower == b"server":
                self.server = value
            elif lower == b"content-encoding":
                self.encoded = True
            kept.append((name, value))
        named = named_by_connection(connection)
        if named:
            kept = [header for header in kept if header[0].lower() not in named]
        self.lines = STATUS_LINES[status] + b"".join([b"%b: %b\r\n" % header for header in kept])
        """Status line and header lines to pass on, byte for byte, in order."""
        self.is_event_stream = self.content_type.startswith(b"text/event-stream")
        """With or without parameters."""

    def with_json(self) -> AnswerHead:
        """The head for a JSON body of ours in the place of the engine's."""
        kept = [header for header in self.headers if header[0].lower() != b"content-type"]
        return AnswerHead(self.status, self.keep_alive, [*kept, (b"content-type", b"application/json")])


def retry_after(head: AnswerHead) -> float:
    """Seconds that an engine asks to be left alone; -1.0 where it names none, or a date (RFC 9110 10.2.3)."""
    for name, value in head.headers:
        if name.lower() == b"retry-after":
            return float(value) if value.isdigit() and len(value) < 10 else -1.0
    return -1.0
