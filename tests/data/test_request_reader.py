"""Requests read from bytes: whole bodies, held once."""

from __future__ import annotations

import tracemalloc

import pytest

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.outcome import Outcome
from enginehouse.data.request import Request
from enginehouse.data.request_reader import RequestReader, Stage
from enginehouse.wire.known_heads import KnownHeads

MB = 1024 * 1024


class Sink:
    """Takes what the reader tells."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.refusals: list[Outcome] = []

    def request_whole(self, request: Request, surplus: bytes) -> None:
        self.requests.append(request)

    def request_refused(self, request: Request, outcome: Outcome, message: str) -> None:
        self.refusals.append(outcome)

    def continue_wanted(self) -> None:
        raise AssertionError("nobody asked")

    def take_body(self, size: int) -> bool:
        return True

    def bug(self, error: BaseException) -> None:
        raise error


def read(sink: Sink) -> RequestReader:
    return RequestReader(sink, RouterConfig(), KnownHeads())


def test_a_file_that_comes_in_many_pieces_is_never_held_twice() -> None:
    sink, size, piece = Sink(), 32 * MB, bytes(64 * 1024)
    reader = read(sink)
    reader.feed(b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size, 0.0)
    tracemalloc.start()
    try:
        for _ in range(size // len(piece)):
            reader.feed(piece, 0.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sink.requests[0].body) == size
    assert peak < 1.5 * size


@pytest.mark.parametrize("pieces", [[b"whole"], [b"in ", b"two"], [b"b", b"y", b"tes"]])
def test_bodies_are_put_together_and_forgotten(pieces: list[bytes]) -> None:
    sink = Sink()
    reader = read(sink)
    body = b"".join(pieces)
    for _ in range(2):
        reader.feed(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body), 0.0)
        for piece in pieces:
            reader.feed(piece, 0.0)
    reader.feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 0.0)
    assert [request.body for request in sink.requests] == [body, body, b""]
    assert (reader.body_bytes, reader.stage) == (0, Stage.NOTHING)
