"""The streaming client sees every chunk through any framing, and every fault of a proxy as what it is."""

import random
import time
from collections.abc import Iterator

import pytest

from bench.proxy.stream_figures import Figures
from bench.proxy.stream_reader import Reader
from bench.proxy.stream_wire import STREAM_END, STREAM_HEAD, framed
from tests.bench.scripted import Script, chunk, event, faultless, measure, proxy


def pieces(data: bytes, seed: int) -> Iterator[bytes]:
    """`data` cut at places nobody would choose."""
    rng = random.Random(seed)
    at = 0
    while at < len(data):
        size = rng.choice((1, 2, 3, 7, 100, 300, 1000))
        yield data[at : at + size]
        at += size


def as_sent(ident: int, chunks: int) -> Iterator[bytes]:
    yield from faultless(ident, chunks)


def paced(ident: int, chunks: int) -> Iterator[bytes]:
    for piece in faultless(ident, chunks):
        yield piece
        time.sleep(0.001)  # so that each is a read of its own


def cut_anywhere(ident: int, chunks: int) -> Iterator[bytes]:
    yield from pieces(b"".join(faultless(ident, chunks)), ident)


def all_at_once(ident: int, chunks: int) -> Iterator[bytes]:
    yield b"".join(faultless(ident, chunks))


def two_events_in_a_chunk(ident: int, chunks: int) -> Iterator[bytes]:
    yield STREAM_HEAD
    for number in range(0, chunks, 2):
        yield framed(event(ident, number) + event(ident, number + 1))
    yield STREAM_END


def half_an_event_in_a_chunk(ident: int, chunks: int) -> Iterator[bytes]:
    yield STREAM_HEAD
    for number in range(chunks):
        whole = event(ident, number)
        yield framed(whole[:90])
        yield framed(whole[90:])
    yield STREAM_END


def size_apart_from_the_chunk(ident: int, chunks: int) -> Iterator[bytes]:
    yield STREAM_HEAD
    for number in range(chunks):
        size, line_end, rest = chunk(ident, number).partition(b"\r\n")
        yield size + line_end
        yield rest
    yield STREAM_END


def other_hexadecimals_and_line_ends(ident: int, chunks: int) -> Iterator[bytes]:
    yield STREAM_HEAD
    for number in range(chunks):
        data = event(ident, number).replace(b"\n", b"\r\n")
        yield b"0%X;a=b\r\n%b\r\n" % (len(data), data)
    yield STREAM_END


def comments_between(ident: int, chunks: int) -> Iterator[bytes]:
    yield STREAM_HEAD
    for number in range(chunks):
        yield framed(b": ping\n\n")
        yield chunk(ident, number)
    yield STREAM_END


def closed_at_its_end(ident: int, chunks: int) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    for number in range(chunks):
        yield event(ident, number)
    yield b"data: [DONE]\n\n"
    yield b""


def closed_though_kept_alive(ident: int, chunks: int) -> Iterator[bytes]:
    yield from faultless(ident, chunks)
    yield b""


@pytest.mark.parametrize(
    "script",
    [
        as_sent,
        cut_anywhere,
        all_at_once,
        two_events_in_a_chunk,
        half_an_event_in_a_chunk,
        size_apart_from_the_chunk,
        other_hexadecimals_and_line_ends,
        comments_between,
        closed_at_its_end,
        closed_though_kept_alive,
    ],
)
def test_every_chunk_is_counted_once_and_in_order_through_any_framing(script: Script) -> None:
    with proxy(script) as port:
        figures = measure(port)
    assert not figures.errors
    assert figures.streams > 2
    assert figures.added.count == figures.streams * 20


def test_chunks_that_came_in_one_read_are_counted_as_coalesced() -> None:
    with proxy(all_at_once) as port:
        figures = measure(port)
    assert figures.coalesced == figures.added.count
    assert figures.reads < figures.added.count


def test_a_chunk_like_the_one_before_is_compared_and_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []
    feed = Reader.feed

    def counted(reader: Reader, data: bytes) -> list[tuple[int, int]]:
        parsed.append(len(data))
        return feed(reader, data)

    monkeypatch.setattr(Reader, "feed", counted)
    with proxy(paced) as port:
        figures = measure(port, chunks=100, connections=1)
    assert figures.added.count == figures.streams * 100
    assert len(parsed) < figures.reads / 2


def refused(ident: int, chunks: int) -> Iterator[bytes]:
    yield b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"


def refused_and_closed(ident: int, chunks: int) -> Iterator[bytes]:
    yield b"HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n{}"
    yield b""


def no_http(ident: int, chunks: int) -> Iterator[bytes]:
    yield b"SSH-2.0-nonsense\r\n"


def broken_framing(ident: int, chunks: int) -> Iterator[bytes]:
    yield STREAM_HEAD
    yield chunk(ident, 0)
    yield b"zz\r\n"


def cut_off(ident: int, chunks: int) -> Iterator[bytes]:
    yield STREAM_HEAD
    yield chunk(ident, 0)
    yield b""


def ended_without_done(ident: int, chunks: int) -> Iterator[bytes]:
    yield STREAM_HEAD
    for number in range(chunks):
        yield chunk(ident, number)
    yield b"0\r\n\r\n"


def one_chunk_short(ident: int, chunks: int) -> Iterator[bytes]:
    yield from faultless(ident, chunks - 1)


def two_chunks_swapped(ident: int, chunks: int) -> Iterator[bytes]:
    sent = list(faultless(ident, chunks))
    sent[4], sent[5] = sent[5], sent[4]
    yield from sent


def one_chunk_twice(ident: int, chunks: int) -> Iterator[bytes]:
    sent = list(faultless(ident, chunks))
    yield from [*sent[:6], sent[5], *sent[6:]]


def somebody_elses_chunk(ident: int, chunks: int) -> Iterator[bytes]:
    sent = list(faultless(ident, chunks))
    sent[5] = chunk(ident + 1, 4)
    yield from sent


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (refused, "status"),
        (refused_and_closed, "status"),
        (no_http, "framing"),
        (broken_framing, "framing"),
        (cut_off, "truncated"),
        (ended_without_done, "truncated"),
        (one_chunk_short, "count"),
        (two_chunks_swapped, "order"),
        (one_chunk_twice, "order"),
        (somebody_elses_chunk, "mixed"),
    ],
)
def test_a_faulty_stream_is_an_error_of_its_kind(script: Script, kind: str) -> None:
    with proxy(script) as port:
        figures = measure(port)
    assert set(figures.errors) == {kind}
    assert figures.line(0, long=False)[f"errors_{kind}"] == figures.line(0, long=False)["errors"] > 0


def test_where_nobody_listens_each_try_is_an_error_and_tries_are_spaced() -> None:
    with proxy(faultless) as port:
        pass
    figures = measure(port)
    assert set(figures.errors) == {"connect"}
    assert figures.errors["connect"] <= 2 * 6


class Heard:
    """As much of a reader as the figures look at."""

    number = 0
    stamp = 0
    arrived = 1 << 62
    started = 0


MS = 1_000_000


@pytest.fixture
def figures() -> Iterator[Figures]:
    figures = Figures(interval=0.05)
    figures.pulse.late_ns = 1 << 62  # whatever this machine is doing, it is not late
    yield figures
    figures.close()


def hear(figures: Figures, reader: Heard, number: int, *, sent: int, arrived: int) -> None:
    figures.chunk(reader, number, sent, arrived)  # type: ignore[arg-type]


def test_a_gap_above_three_intervals_is_a_stall(figures: Figures) -> None:
    reader = Heard()
    hear(figures, reader, 0, sent=0, arrived=1 * MS)
    hear(figures, reader, 1, sent=50 * MS, arrived=151 * MS)
    assert figures.stalls == 0
    hear(figures, reader, 2, sent=100 * MS, arrived=302 * MS)
    assert (figures.stalls, figures.own_stalls, figures.backend_stalls) == (1, 0, 0)
    assert figures.gap_most == 151 * MS
    assert figures.added.most == 202 * MS


def test_a_stall_of_chunks_sent_that_far_apart_is_the_backends(figures: Figures) -> None:
    reader = Heard()
    hear(figures, reader, 0, sent=0, arrived=1 * MS)
    hear(figures, reader, 1, sent=200 * MS, arrived=201 * MS)
    assert (figures.stalls, figures.own_stalls, figures.backend_stalls) == (1, 0, 1)


def test_a_stall_within_which_the_client_was_late_is_its_own(figures: Figures) -> None:
    reader = Heard()
    hear(figures, reader, 0, sent=0, arrived=1 * MS)
    figures.pulse.late_ns = 50 * MS
    figures.pulse.turn(2 * MS, 160 * MS)
    figures.pulse.late_ns = 1 << 62
    hear(figures, reader, 1, sent=50 * MS, arrived=161 * MS)
    assert (figures.stalls, figures.own_stalls, figures.backend_stalls) == (1, 1, 0)


def test_what_came_before_the_restart_is_told_apart() -> None:
    figures = Figures(interval=0.05)
    figures.errors["status"] += 3
    hear(figures, Heard(), 0, sent=0, arrived=time.monotonic_ns())
    assert figures.restart() == {"errors_status": 3}
    line = figures.line(0, long=True)
    assert line["errors"] == line["chunks"] == 0
    figures.close()
