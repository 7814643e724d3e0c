"""The client that takes the time of single requests."""

import socket
import threading
from collections.abc import Iterator

import pytest

from bench.proxy import latency_client

BODY = b'{"model":"m","messages":[]}'


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield ours, theirs


def answer(theirs: socket.socket, *pieces: bytes) -> None:
    for piece in pieces:
        theirs.sendall(piece)


def test_an_answer_in_pieces_is_read_to_its_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    answer(theirs, b"HTTP/1.1 200 OK\r\nContent-", b"Length: 10\r\nx: y\r\n\r\n01234", b"56789")
    assert latency_client.exchange(ours, latency_client.request("h:1", BODY)) is True
    sent = theirs.recv(65536)
    assert sent.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h:1\r\n")
    assert sent.endswith(b"Content-Length: 27\r\n\r\n" + BODY)


def test_an_answer_that_is_not_200_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    answer(pair[1], b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
    assert latency_client.exchange(pair[0], b"x") is False


def test_an_answer_that_ends_early_is_noticed(pair: tuple[socket.socket, socket.socket]) -> None:
    answer(pair[1], b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1")
    pair[1].shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionError):
        latency_client.exchange(pair[0], b"x")


def test_a_run_counts_every_request_and_orders_their_times(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair

    def serve() -> None:
        while theirs.recv(65536):
            theirs.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    server = threading.Thread(target=serve)
    server.start()
    found = latency_client.run(ours, [b"a", b"b"], 0.2)
    ours.shutdown(socket.SHUT_WR)
    server.join(10)
    assert found["requests"] > 10
    assert found["errors"] == 0
    assert 0 < found["p50_us"] <= found["p99_us"]


def test_quantiles_are_values_that_occurred() -> None:
    assert latency_client.quantile([5], 0.99) == 5
    assert latency_client.quantile(range(100), 0.5) == 50
    assert latency_client.quantile(range(100), 0.99) == 99
