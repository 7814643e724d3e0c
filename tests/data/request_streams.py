"""Streams of requests, good and bad, in reads cut anywhere; and a reader's sink that notes all it is told."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.outcome import Outcome
from enginehouse.data.request import Request
from enginehouse.data.request_reader import RequestReader
from enginehouse.wire.known_heads import KnownHeads
from enginehouse.wire.request_head import RequestHead

Known = KnownHeads[RequestHead]


class Template(NamedTuple):
    """A head but for the length of its body."""

    first: bytes
    before: tuple[bytes, ...]
    length: bytes
    after: tuple[bytes, ...]

    def message(self, digits: bytes, body: bytes) -> bytes:
        lines = [self.first, *self.before]
        if self.length:
            lines.append(self.length + digits)
        return b"\r\n".join([*lines, *self.after]) + b"\r\n\r\n" + body


_FIRST = st.sampled_from([b"POST /v1/x HTTP/1.1"] * 12 + [
    b"GET /v1/models HTTP/1.1", b"GET / HTTP/1.1", b"HEAD / HTTP/1.1", b"PUT / HTTP/1.1", b"POST / HTTP/1.0",
    b"POST / HTTP/1.2", b"POST / HTTP/2.0", b"CONNECT h:1 HTTP/1.1", b"\r\nPOST / HTTP/1.1", b"\r\n\r\nPOST / HTTP/1.1",
    b"\nPOST / HTTP/1.1", b"POST / HTTP/1.1\nHost: h", b"PRI * HTTP/2.0", b"BREW / HTTP/1.1",
])  # fmt: skip
_PLAIN = [b"Accept: */*", b"Authorization: Bearer sk-1", b"Authorization: Bearer sk-2", b"X-Request-Id: mine",
          b"User-Agent: x", b"Connection: keep-alive", b"Content-Type: application/json"]  # fmt: skip
_ODD = [b"Connection: close", b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c", b"Upgrade: ",
        b"Expect: 100-continue", b"Expect: other", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity", b"Content-Length: 5", b"content-length: 5", b"CONTENT-LENGTH: 5",
        b"Content-Length : 5", b"X: y\r\n folded", b"X: y\r\n Content-Length: 5", b"X: y\nContent-Length: 5",
        b"Host: other", b"X-Forwarded-For: 1.2.3.4", b"X: " + b"y" * 900, b"X: " + b"y" * 2100, b"X: \xff", b"X: \0",
        b"X:", b": x", b"X: a\rb"]  # fmt: skip
_LINES = st.lists(st.sampled_from(_PLAIN * 6 + _ODD), max_size=3).map(tuple)
_LENGTH = st.sampled_from([b"Content-Length: "] * 6 + [b"content-length: "] * 3 + [
    b"CONTENT-LENGTH: ", b"Content-length: ", b"Content-Length:", b"Content-Length:\t", b"", b"",
])  # fmt: skip
_HOST = st.sampled_from([(b"Host: h",)] * 12 + [(), (b"Host: h", b"Host: h"), (b"Host: a b",), (b"Host:",)])
_TEMPLATES = st.builds(
    lambda first, host, before, length, after: Template(first, (*host, *before), length, after),
    _FIRST, _HOST, _LINES, _LENGTH, _LINES,
)  # fmt: skip

_BODIES = st.sampled_from([b"", b"", b"hello", b"hello", b'{"model":"m"}', b"\r\n", b"\r\n\r\n", b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n", b"5;x=y\r\nhello\r\n0\r\nHost: evil\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"Content-Length: 3\r\n\r\nabc", b"x" * 600, b"x" * 1024, b"x" * 1025]) | st.binary(max_size=12)  # fmt: skip
_SPELLINGS = st.sampled_from([b"%d"] * 14 + [
    b"+%d", b"-%d", b"0%d", b"%09d", b"%010d", b"0x%x", b" %d", b"%d ", b"%d_0", b"%d,5", b"1%d", b"%d.0", b"%d\xb2",
])  # fmt: skip
_WRONG = st.sampled_from([0] * 14 + [1, -1, 9999999999])


@st.composite
def _connections(draw: st.DrawFn) -> list[list[bytes]]:
    """Reads of some connections, one after the other; few heads, so that most of them come again."""
    templates = draw(st.lists(_TEMPLATES, min_size=1, max_size=3))
    made = []
    for _ in range(draw(st.integers(1, 4))):
        reads: list[bytes] = []
        for _ in range(draw(st.integers(1, 5))):
            body = draw(_BODIES)
            digits = draw(_SPELLINGS) % max(len(body) + draw(_WRONG), 0)
            data = draw(st.sampled_from(templates)).message(digits, body)
            how = draw(st.sampled_from(["alone"] * 6 + ["with the last"] * 2 + ["cut", "in bytes"]))
            if how == "with the last" and reads:
                reads[-1] += data
            elif how == "cut":
                places = sorted(draw(st.sets(st.integers(1, len(data) - 1), max_size=3)))
                reads += [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
            elif how == "in bytes" and len(data) < 200:
                reads += [data[i : i + 1] for i in range(len(data))]
            else:
                reads.append(data)
        made.append(reads)
    return made


connections = _connections()


class Sink:
    """Does with requests what a client's connection does, as far as the reader can tell; notes everything."""

    def __init__(self, budget: int = 1 << 20, held: int = 0) -> None:
        self.events: list[object] = []
        self.requests: list[Request] = []
        self.budget = budget
        self.held = held
        self.kept = True
        """False after a request that ends its connection."""
        self.unanswered = 0

    def request_whole(self, request: Request, surplus: bytes) -> None:
        head = request.head
        self.requests.append(request)
        self.unanswered += len(request.body)
        headers = [(name, value) for name, value in head.headers if name.lower() != b"content-length"]
        facts = (head.method, head.target, head.version, head.keep_alive, headers, head.lines, head.unauthorized_lines)
        read = (head.hosts, head.authorization, head.request_id, head.forwarded_for, head.content_type, head.upgrade)
        self.events.append(
            ("whole", request.begun, request.peer, request.websocket, request.body, surplus, facts, read)
        )
        self.kept = self.kept and request.keep_alive

    def request_refused(self, request: Request, outcome: Outcome, message: str) -> None:
        self.events.append(("refused", request.begun, outcome, message, request.head.method, request.head.target))

    def continue_wanted(self) -> None:
        self.events.append("100")

    def take_body(self, size: int) -> bool:
        if self.held + size > self.budget:
            return False
        self.held += size
        return True

    def answer(self) -> None:
        """All requests so far are answered: what their bodies held is given back."""
        self.held -= self.unanswered
        self.unanswered = 0

    def bug(self, error: BaseException) -> None:
        raise error


def reader(sink: Sink, config: RouterConfig, known: Known, peer: str = "192.0.2.1") -> RequestReader:
    made = RequestReader(sink, config, known)
    made.peer = peer
    return made


def read_all(
    reads: list[bytes], config: RouterConfig, sink: Sink, known: Known | None, answer_at_once: bool
) -> list[object]:
    """What one connection's reads come to. `known` None: no head is ever known."""
    reading = reader(sink, config, KnownHeads() if known is None else known)
    for now, data in enumerate(reads):
        if known is None:
            reading._known = KnownHeads()
        reading.feed(data, float(now))
        sink.events.append((reading.stage, reading.over, reading.body_bytes, sink.held))
        if answer_at_once:
            sink.answer()
        if not sink.kept:  # its connection reads no more
            break
    sink.held -= reading.drop_body()
    sink.answer()
    return sink.events
