"""One connection of the streaming client: reads a stream through whatever framing a proxy gives it.

Owns HTTP/1.1 framing, events, and what is wrong with a stream. May not live here: figures, clocks, the loop.

A proxy sends most chunks of a stream in the same shape, so once a read held exactly one event in one HTTP chunk, the
next ones are compared with it (length, and all bytes up to the chunk's number) and only then parsed.
"""

import socket
from typing import Final

import httptools

from bench.proxy.stream_wire import BLANK_LINES, DONE, MARK, NUMBER_AT

NO_LENGTH: Final = -1
"""No read has this length: the next one is parsed."""


class Broken(Exception):
    """The stream is over and not as it should be; the argument is the kind of error."""


class Reader:
    """A connection that has asked for stream `ident` of `chunks` chunks. httptools calls the `on_` methods.

    A read of `fast_length` bytes that begins with `fast_start` is one whole chunk of this stream; its number stands at
    `fast_at`, where `fast_start` ends.
    """

    __slots__ = (
        "answers",
        "arrived",
        "chunks",
        "closed",
        "done",
        "fast_at",
        "fast_length",
        "fast_start",
        "ident",
        "keeps",
        "known_length",
        "number",
        "open",
        "parser",
        "pieces",
        "recv",
        "sock",
        "stamp",
        "started",
        "status",
        "tail",
        "unsent",
        "whole",
    )

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.recv = sock.recv
        self.parser = httptools.HttpResponseParser(self)
        self.pieces: list[bytes] = []
        self.unsent = b""
        self.answers = 0
        """How many this connection has brought."""
        self.closed = False

    def ask(self, ident: int, chunks: int, request: bytes, now: int) -> None:
        """Prepares for the answer to `request`, which is to be sent."""
        self.ident, self.chunks, self.unsent, self.started = b"%08d" % ident, chunks, request, now
        self.number = 0
        """Of the next chunk."""
        self.stamp = 0
        self.arrived = 1 << 62
        """When the last chunk came; before the first: never, so that there is no gap before it."""
        self.status = 0
        self.done = self.whole = self.open = self.keeps = False
        self.tail = b""
        self.fast_length = self.known_length = NO_LENGTH
        self.fast_start, self.fast_at = b"", 0

    @property
    def idle(self) -> bool:
        """Nothing of this answer has come yet, and it is not the first on this connection."""
        return self.answers > 0 and not self.status

    def feed(self, data: bytes) -> list[tuple[int, int]]:
        """The (number, stamp) of every chunk that ends in `data`. Raises `Broken`."""
        self.pieces.clear()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise Broken("framing") from error
        if self.status != 200:
            if self.whole:
                raise Broken("status")
            return []
        text = self.tail + b"".join(self.pieces)
        end = max((text.rfind(blank) + len(blank) for blank in BLANK_LINES if blank in text), default=0)
        self.tail = text[end:]
        if DONE in text:
            self.done = True
        found = MARK.findall(text, 0, end)
        for ident, _, _ in found:
            if ident != self.ident:
                raise Broken("mixed")
        self._learn(data, len(found))
        return [(int(number), int(stamp)) for _, number, stamp in found]

    def check_end(self) -> None:
        """Raises `Broken` unless the answer, which ended, was complete."""
        if self.status not in (0, 200):
            raise Broken("status")
        if not self.done:
            raise Broken("truncated")
        if self.number != self.chunks:
            raise Broken("count")

    def _learn(self, data: bytes, found: int) -> None:
        """Sees whether `data`, in which `found` events ended, was one chunk and no more, or ended where one does."""
        if self.tail or self.open:
            self.fast_length = NO_LENGTH
            return
        if found == len(self.pieces) == 1 and data.endswith(b"\n\r\n") and (mark := MARK.search(data)):
            self.known_length = len(data)
            self.fast_at = mark.start() + NUMBER_AT
            self.fast_start = data[: self.fast_at]
        self.fast_length = self.known_length

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_chunk_header(self) -> None:
        self.open = True

    def on_chunk_complete(self) -> None:
        self.open = False

    def on_message_complete(self) -> None:
        self.whole = True
        self.answers += 1
        self.keeps = self.parser.should_keep_alive()
