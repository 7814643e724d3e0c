"""A fake engine that streams chunks at the least cost, for measuring proxies: `python -m bench.proxy.stream_backend`.

Owns connections, HTTP/1.1 with keep-alive, and the few paths that routers ask of an engine. May not live here: the pace
of streams (`stream_wheel`) and the bytes of chunks (`stream_wire`).

One loop over epoll and plain sockets, no asyncio: a chunk costs one `send` and about a microsecond of Python. A prompt
holding `@00000012 every 0.05 s` orders stream 12 with that interval; without, `--interval` holds, and 0 means that all
such streams share `--rate` chunks a second. `max_tokens` is the number of chunks. Prints `{"port": n}` once it listens;
ends at SIGTERM, or when its parent is gone.
"""

import argparse
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Final

import httptools

from bench.proxy import stream_wire as wire
from bench.proxy.stream_stats import cpu_seconds, raise_file_limit
from bench.proxy.stream_wheel import MOST_INTERVAL, TICK_NS, Stream, Wheel

READ: Final = 65536
MOST_BODY: Final = 4 << 20
IDLE: Final = 1.0
"""Seconds between two looks whether the parent is still there."""


class Conn:
    """A connection: collects a request, has it answered, is ready for the next. httptools calls the `on_` methods."""

    def __init__(self, sock: socket.socket, backend: "Backend") -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.backend = backend
        self.parser = httptools.HttpRequestParser(self)
        self.stream: Stream | None = None
        self.unsent = b""
        self.url = b""
        self.body = bytearray()

    def on_message_begin(self) -> None:
        self.url = b""
        self.body.clear()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body += body
        if len(self.body) > MOST_BODY:
            raise ValueError("a body larger than this backend reads")

    def on_message_complete(self) -> None:
        self.backend.answer(self)

    def send(self, data: bytes) -> None:
        """Sends `data`, what the system does not take now as soon as it does."""
        if self.unsent:
            self.unsent += data
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.hold(data[sent:])

    def hold(self, rest: bytes) -> None:
        self.unsent += rest
        self.backend.poll.modify(self.fd, select.EPOLLIN | select.EPOLLOUT)


class Backend:
    """Listens on `host` and `port` until `run` is ended by an exception."""

    def __init__(self, host: str, port: int, models: list[str], interval: float, rate: float) -> None:
        self.parent = os.getppid()  # before anybody can know the port, and leave
        self.models, self.interval = models, interval
        self.held = 0
        self.wheel = Wheel(rate, self._hold, self._close_stream, self._ended)
        self.conns: dict[int, Conn] = {}
        self.streaming: dict[Stream, Conn] = {}
        self.poll = select.epoll()
        self.listener = socket.create_server((host, port), backlog=4096)
        self.listener.setblocking(False)
        self.poll.register(self.listener, select.EPOLLIN)
        self.gets: dict[str, Callable[[], object]] = {
            "/health": dict,
            "/v1/models": self._models,
            "/get_model_info": self._model_info,
            "/model_info": self._model_info,
            "/get_server_info": self._model_info,
            "/server_info": self._model_info,
            "/stats": self._stats,
        }

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def run(self) -> None:
        listening, wheel = self.listener.fileno(), self.wheel
        while os.getppid() == self.parent:
            wait = wheel.seconds_to_next() if wheel.streams else IDLE
            for fd, event in self.poll.poll(wait):
                if fd == listening:
                    self._accept()
                elif event & select.EPOLLOUT:
                    self._drain(self.conns[fd])
                else:
                    self._read(self.conns[fd])
            wheel.turn()

    def close(self) -> None:
        for conn in list(self.conns.values()):
            self._close(conn)
        self.listener.close()
        self.poll.close()

    def answer(self, conn: Conn) -> None:
        """Answers the request that `conn` has just read whole."""
        path = httptools.parse_url(conn.url).path.decode()
        method = conn.parser.get_method()
        if method == b"GET" and path in self.gets:
            self._json(conn, 200, json.dumps(self.gets[path]()).encode())
        elif method == b"POST" and path in ("/v1/chat/completions", "/v1/completions"):
            self._complete(conn)
        else:
            self._json(conn, 404, b'{"detail":"Not Found"}')

    def _complete(self, conn: Conn) -> None:
        try:
            body = json.loads(conn.body)
            model = str(body.get("model", self.models[0]))
            chunks = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
        except (ValueError, AttributeError, TypeError):
            self._json(conn, 400, b'{"error":{"message":"not a request","type":"BadRequestError","code":400}}')
            return
        if not body.get("stream"):
            self._json(conn, 200, wire.completion(model))
            return
        order = wire.ORDER.search(conn.body)
        ident = int(order[1]) if order else 0
        interval = float(order[2]) if order and order[2] else self.interval
        ticks = max(1, round(min(interval, MOST_INTERVAL) * 1e9 / TICK_NS)) if interval else 0
        stream = Stream(conn.sock.send, model, ident, min(chunks, wire.MOST_CHUNKS), ticks)
        conn.stream = stream
        self.streaming[stream] = conn
        conn.send(wire.STREAM_HEAD)
        if not conn.unsent:
            self.wheel.begin(stream)

    def _json(self, conn: Conn, status: int, body: bytes) -> None:
        reason = {200: b"OK", 400: b"Bad Request", 404: b"Not Found"}[status]
        conn.send(
            b"HTTP/1.1 %d %b\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (status, reason, len(body), body)
        )

    def _models(self) -> object:
        entry = {"object": "model", "created": 1793613600, "owned_by": "vllm", "max_model_len": 131072}
        return {"object": "list", "data": [{"id": name, "root": name} | entry for name in self.models]}

    def _model_info(self) -> object:
        return {"model_path": self.models[0], "served_model_name": self.models[0], "is_generation": True}

    def _stats(self) -> object:
        user, system = cpu_seconds()
        late = self.wheel.late
        return {
            "streams": self.wheel.streams,
            "chunks": self.wheel.chunks,
            "held": self.held,
            "late_ms_p99": late.quantile_ms(0.99),
            "late_ms_max": late.most_ms,
            "user_s": user,
            "sys_s": system,
        }

    def _accept(self) -> None:
        for _ in range(256):
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn = Conn(sock, self)
            self.conns[conn.fd] = conn
            self.poll.register(conn.fd, select.EPOLLIN)

    def _read(self, conn: Conn) -> None:
        try:
            data = conn.sock.recv(READ)
            if data and not conn.stream:
                conn.parser.feed_data(data)
                return
        except BlockingIOError:
            return
        except (OSError, ValueError, httptools.HttpParserError):
            pass
        # The client has left, sent what is no request, or a second one while the first is answered.
        self._close(conn)

    def _drain(self, conn: Conn) -> None:
        try:
            conn.unsent = conn.unsent[conn.sock.send(conn.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._close(conn)
            return
        if not conn.unsent:
            self.poll.modify(conn.fd, select.EPOLLIN)
            if stream := conn.stream:
                if stream.number > stream.last:
                    self._ended(stream)
                elif stream.number:
                    self.wheel.resume(stream)
                else:
                    self.wheel.begin(stream)

    def _hold(self, stream: Stream, rest: bytes) -> None:
        self.held += 1
        self.streaming[stream].hold(rest)

    def _ended(self, stream: Stream) -> None:
        self.wheel.end(stream)
        self.streaming.pop(stream).stream = None

    def _close_stream(self, stream: Stream) -> None:
        self._close(self.streaming[stream])

    def _close(self, conn: Conn) -> None:
        if stream := conn.stream:
            self._ended(stream)
        del self.conns[conn.fd]
        self.poll.unregister(conn.fd)
        conn.sock.close()
        del conn.parser  # which refers to `conn`


def main() -> None:
    parser = argparse.ArgumentParser(prog="stream_backend", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: the system chooses")
    parser.add_argument("--models", default="m", help="names, parted by commas")
    parser.add_argument(
        "--interval", type=float, default=0.0, help="seconds between the chunks of a stream; 0: by --rate"
    )
    parser.add_argument(
        "--rate", type=float, default=16_000.0, help="chunks a second of all streams without an interval"
    )
    args = parser.parse_args()
    raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    backend = Backend(args.host, args.port, args.models.split(","), args.interval, args.rate)
    print(json.dumps({"port": backend.port}), flush=True)
    gc.freeze()
    gc.disable()  # nothing here refers to itself for longer than a connection
    try:
        backend.run()
    except KeyboardInterrupt:
        pass
    finally:
        backend.close()


if __name__ == "__main__":
    main()
