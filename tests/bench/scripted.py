"""A proxy that answers as a test tells it to, byte for byte, and the streaming client run against it.

Owns one listening socket with a thread for each connection. May not live here: what is expected.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from bench.proxy.stream_client import Client, Load
from bench.proxy.stream_figures import Figures
from bench.proxy.stream_wire import ORDER, STREAM_END, STREAM_HEAD, template

Script = Callable[[int, int], Iterable[bytes]]
"""From the stream's number and its count of chunks to the pieces to send, each with a `send` of its own. After a piece
that is empty the connection is closed."""


def chunk(ident: int, number: int) -> bytes:
    """A chunk as the backend sends it, stamped now."""
    before, after = template("m", ident)
    return b"%b%06d.%019d%b" % (before, number, time.monotonic_ns(), after)


def event(ident: int, number: int) -> bytes:
    """What a chunk holds."""
    return chunk(ident, number).partition(b"\r\n")[2].removesuffix(b"\r\n")


def faultless(ident: int, chunks: int) -> Iterator[bytes]:
    yield STREAM_HEAD
    for number in range(chunks):
        yield chunk(ident, number)
    yield STREAM_END


def answer(conn: socket.socket, script: Script) -> None:
    """Answers the requests of a connection until one of both sides ends it."""
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = b""
    while data := conn.recv(65536):
        request += data
        head, blank, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if not blank or not length or len(body) < int(length[1]):
            continue
        order, chunks = ORDER.search(body), re.search(rb'"max_tokens":(\d+)', body)
        assert order
        assert chunks
        request = b""
        for piece in script(int(order[1]), int(chunks[1])):
            if not piece:
                return
            conn.sendall(piece)


class Proxy(threading.Thread):
    """Accepts, and answers every connection in a thread of its own."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self.script = script
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.conns: list[socket.socket] = []
        self.answering: list[threading.Thread] = []

    def run(self) -> None:
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            self.conns.append(conn)
            self.answering.append(threading.Thread(target=self._answer, args=(conn,)))
            self.answering[-1].start()

    def end(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self.listener.close()
        for conn in self.conns:
            shut(conn)
        for thread in self.answering:
            thread.join(10)
        for conn in self.conns:
            conn.close()

    def _answer(self, conn: socket.socket) -> None:
        try:
            answer(conn, self.script)
        except OSError:
            pass  # the client has left
        finally:
            shut(conn)


def shut(conn: socket.socket) -> None:
    try:
        conn.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@contextmanager
def proxy(script: Script) -> Iterator[int]:
    """The port on which `script` answers every request."""
    running = Proxy(script)
    running.start()
    try:
        yield running.listener.getsockname()[1]
    finally:
        running.end()


def measure(
    port: int, *, chunks: int = 20, connections: int = 2, interval: float = 0.0, seconds: float = 0.3
) -> Figures:
    """The client's figures after all of its streams have ended."""
    client = Client(Load("127.0.0.1", port, connections, chunks, 0.0, ("m",), seed=1))
    client.open_all(time.monotonic_ns() + 10_000_000_000)
    client.run(time.monotonic_ns() + int(seconds * 1e9))
    client.end(10)
    return client.figures
