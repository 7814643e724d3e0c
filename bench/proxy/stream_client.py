"""The streaming load of the proxy bench: `python -m bench.proxy.stream_client --url http://127.0.0.1:8000`.

Owns the loop over all connections and the command line. May not live here: reading one stream (`stream_reader`) and the
figures (`stream_figures`).

Closed loop: every connection asks for the next stream of `--chunks` when one ends. `--long`: every connection has one
endless stream. Either way the connections are opened a few at a time; once all of them are up (and, in the closed loop,
have run for `--warmup`), a first line `{"ready": true, …}` is printed and the figures begin; `--seconds` later they end
and are printed as the second line, at once. The connections live on for `--linger`, so that whoever reads the lines can
look at the proxy under the same load. Nothing is sent to any host but the one of `--url`.
"""

import argparse
import gc
import json
import random
import select
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from bench.proxy.stream_figures import Figures
from bench.proxy.stream_reader import Broken, Reader
from bench.proxy.stream_stats import raise_file_limit
from bench.proxy.stream_wire import MOST_CHUNKS, NUMBER_AT, NUMBER_END, STAMP_AT, STAMP_END, request

READ: Final = 16384
MOST_EVENTS: Final = 256
"""Of one turn: all of them count as arrived when it began."""
READABLE: Final = select.EPOLLIN
READING: Final = READABLE | select.EPOLLRDHUP | select.EPOLLET
"""Edges only: epoll need not look again at each connection that was read. A closing one has an event of its own."""
OPENING: Final = 64
"""Connections that may wait for their first bytes at once while the load is built up: no backlog overflows."""
AGAIN_NS: Final = 100_000_000
"""After an error a connection is opened anew this much later."""
PLACE: Final = NUMBER_END - NUMBER_AT
STAMP: Final = STAMP_AT - NUMBER_AT
MARK_END: Final = STAMP_END - NUMBER_AT


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of whom. Seconds."""

    host: str
    port: int
    connections: int
    chunks: int
    interval: float
    models: tuple[str, ...]
    seed: int
    long: bool = False


class Client:
    """All connections of a `Load`, in one loop."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.poll = select.epoll()
        self.readers: dict[int, Reader] = {}
        self.figures = Figures(load.interval)
        self.to_open = load.connections
        self.opening: set[Reader] = set()
        self.again: deque[int] = deque()
        """When a connection that failed is replaced, ascending."""
        self.closing = False
        self._asked = 0
        self._rng = random.Random(load.seed)

    @property
    def streaming(self) -> int:
        return len(self.readers) - len(self.opening)

    def open_all(self, deadline: int) -> None:
        """Until every connection streams, or `deadline` (monotonic nanoseconds)."""
        while (self.to_open or self.opening) and time.monotonic_ns() < deadline:
            self._fill()
            self._turn(0.1)

    def run(self, deadline: int) -> None:
        while (now := time.monotonic_ns()) < deadline:
            if self.again and self.again[0] <= now:
                self.again.popleft()
                self.to_open += 1
                self._fill()
            self._turn(min(0.1, (deadline - now) / 1e9))

    def end(self, linger: float) -> None:
        """Asks for nothing more, lets what runs end for `linger` seconds, then closes everything."""
        self.closing = True
        deadline = time.monotonic_ns() + int(linger * 1e9)
        while self.readers and (now := time.monotonic_ns()) < deadline:
            self._turn((deadline - now) / 1e9)
        for reader in list(self.readers.values()):
            self._close(reader)
        self.poll.close()
        self.figures.close()

    def _turn(self, wait: float) -> None:
        """Waits for chunks and books them. All that came in one turn arrived, at the latest, when the wait ended."""
        events = self.poll.poll(wait, MOST_EVENTS)
        readers, chunk = self.readers, self.figures.chunk
        reads = size = 0
        now = time.monotonic_ns()
        for fd, event in events:
            reader = readers[fd]
            if event != READABLE:
                self._odd(reader, event, now)
                continue
            try:
                data = reader.recv(READ)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            length = len(data)
            size += length
            reads += 1
            if length == reader.fast_length and data.startswith(reader.fast_start):
                at = reader.fast_at
                chunk(reader, int(data[at : at + PLACE]), int(data[at + STAMP : at + MARK_END]), now)
            else:
                self._parse(reader, data, now)
        self.figures.turn(now, time.monotonic_ns(), reads, size)

    def _odd(self, reader: Reader, event: int, now: int) -> None:
        """The socket can be written to, or the proxy has closed it: then what is left is read to its end."""
        if event & select.EPOLLOUT:
            self._send(reader)
            return
        data = b"."
        while data and not reader.closed:
            try:
                data = reader.recv(READ)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self.figures.reads += 1
            self.figures.bytes += len(data)
            self._parse(reader, data, now)

    def _parse(self, reader: Reader, data: bytes, now: int) -> None:
        """A read in any shape."""
        if not data and reader.idle:
            self._reopen(reader)
            return
        try:
            marks = reader.feed(data) if data else []
            self.figures.parsed(reader, marks, now)
            if reader.status == 200:
                self.opening.discard(reader)
            if reader.whole or not data:
                reader.check_end()
                self._next(reader, open_still=bool(data) and reader.keeps)
            elif len(data) == READ:  # there may be more, of which epoll would not speak again
                self.poll.modify(reader.sock, READING)
        except Broken as broken:
            self._failed(reader, str(broken))

    def _next(self, reader: Reader, *, open_still: bool) -> None:
        """The stream is complete: the next one, on the same connection where that stays open."""
        self.figures.complete(reader)
        if open_still and not self.closing:
            self._ask(reader)
            self._send(reader)
            return
        self._reopen(reader)

    def _reopen(self, reader: Reader) -> None:
        """The proxy ends a connection after its answer, as it may."""
        self._close(reader)
        if not self.closing:
            self.figures.reopened += 1
            self.to_open += 1
            self._fill()

    def _failed(self, reader: Reader, kind: str) -> None:
        self._close(reader)
        if self.closing:
            return
        self.figures.errors[kind] += 1
        if not self.load.long:
            self.again.append(time.monotonic_ns() + AGAIN_NS)

    def _fill(self) -> None:
        while self.to_open and len(self.opening) < OPENING:
            self.to_open -= 1
            self._open()

    def _open(self) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex((self.load.host, self.load.port))  # its result is seen when the socket is writable
        reader = Reader(sock)
        self._ask(reader)
        self.readers[sock.fileno()] = reader
        self.opening.add(reader)
        self.poll.register(sock, select.EPOLLOUT)

    def _ask(self, reader: Reader) -> None:
        load = self.load
        ident = self._asked = self._asked % 99_999_999 + 1
        model = load.models[ident % len(load.models)]
        data = request(f"{load.host}:{load.port}", model, ident, load.chunks, load.interval, self._rng)
        reader.ask(ident, load.chunks, data, time.monotonic_ns())

    def _send(self, reader: Reader) -> None:
        """Sends what is left of the request."""
        try:
            sent = reader.sock.send(reader.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._failed(reader, "connect")
            return
        reader.unsent = reader.unsent[sent:]
        self.poll.modify(reader.sock, select.EPOLLOUT if reader.unsent else READING)

    def _close(self, reader: Reader) -> None:
        del self.readers[reader.sock.fileno()]
        self.opening.discard(reader)
        self.poll.unregister(reader.sock)
        reader.sock.close()
        reader.closed = True
        del reader.parser  # which refers to `reader`


def main() -> None:
    parser = argparse.ArgumentParser(prog="stream_client", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--chunks", type=int, default=100, help="of a stream in the closed loop")
    parser.add_argument(
        "--interval", type=float, default=0.05, help="seconds between the chunks; 0: the backend's --rate"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="how long is measured")
    parser.add_argument("--models", default="m", help="names, parted by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--long", action="store_true", help="one endless stream for each connection")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds between the last connection and the figures")
    parser.add_argument("--ramp", type=float, default=60.0, help="seconds that all connections may take to be up")
    parser.add_argument("--linger", type=float, default=0.5, help="seconds the connections live after the figures")
    args = parser.parse_args()
    url = urlsplit(args.url)
    chunks = MOST_CHUNKS if args.long else args.chunks
    models = tuple(args.models.split(","))
    load = Load(
        url.hostname or "", url.port or 80, args.connections, chunks, args.interval, models, args.seed, args.long
    )
    raise_file_limit()
    gc.freeze()
    gc.disable()  # nothing here refers to itself for longer than a connection
    client = Client(load)
    began = time.monotonic_ns()
    client.open_all(began + int(args.ramp * 1e9))
    client.run(time.monotonic_ns() + int(args.warmup * 1e9))
    ramp = {"ready": True, "streams": client.streaming, "ramp_s": (time.monotonic_ns() - began) / 1e9}
    print(json.dumps(ramp | client.figures.restart()), flush=True)
    client.run(time.monotonic_ns() + int(args.seconds * 1e9))
    print(json.dumps(client.figures.line(client.streaming, long=args.long)), flush=True)
    client.end(args.linger)


if __name__ == "__main__":
    main()
