"""Requests whose heads are known mean exactly what llhttp would have read in them."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.outcome import Outcome
from enginehouse.data.request_reader import Stage
from enginehouse.wire.known_heads import MAX_HEADS, MAX_SIZE, KnownHeads
from tests.data.request_streams import Known, Sink, connections, read_all, reader

CONFIG = RouterConfig()
SMALL = RouterConfig(max_body=1024, max_head=1024)


def request(
    body: bytes = b"hello", extra: bytes = b"", digits: bytes | None = None, name: str = "Content-Length"
) -> bytes:
    length = b"%d" % len(body) if digits is None else digits
    return b"POST /v1/x HTTP/1.1\r\nHost: h\r\n%b%b: %b\r\n\r\n%b" % (extra, name.encode(), length, body)


def warm(*reads: bytes, config: RouterConfig = CONFIG) -> Known:
    """A table that has seen these reads, each on a connection of its own."""
    known: Known = KnownHeads()
    for data in reads * 2:  # heads are learned when they come for the second time
        reader(Sink(), config, known).feed(data, 0.0)
    return known


@settings(max_examples=600)
@given(connections, st.booleans(), st.sampled_from([CONFIG, SMALL]), st.sampled_from([1 << 20, 1500]))
@example([[request(b"hello")], [request(b"", digits=b"5") + b"later"], [request(b"hello!")]], True, CONFIG, 1 << 20)
@example(
    [[request(digits=d)] for d in (b"5", b"+5", b"0x5", b" 5 ", b"1_0", b"005", b"0000000005")], True, CONFIG, 9999
)
@example([[request(b"x" * 600)], [request(b"x" * 600)] * 3], False, SMALL, 1500)
@example([[request(b"", digits=digits, extra=b"X: %b\r\n" % (b"y" * size))] for size in range(900, 1010) for digits in (b"0", b"00")], False, SMALL, 1 << 20)  # fmt: skip  # noqa: E501
def test_a_reader_with_known_heads_tells_what_one_without_any_does(
    streams: list[list[bytes]], answer_at_once: bool, config: RouterConfig, budget: int
) -> None:
    known: Known = KnownHeads()
    for reads in streams * 3:
        quick, slow = Sink(budget), Sink(budget)
        told = read_all(reads, config, quick, known, answer_at_once)
        assert told == read_all(reads, config, slow, None, answer_at_once)
        assert (quick.held, slow.held) == (0, 0)


def requests_in(reads: list[bytes], known: Known | None) -> list[object]:
    """The story without times, up to the request that ends its connection."""
    story: list[object] = []
    for event in read_all(reads, CONFIG, Sink(), known, True):
        if event == "100":
            story.append(event)
        elif isinstance(event, tuple) and event[0] == "refused":
            story.append(event[2:])
        elif isinstance(event, tuple) and event[0] == "whole":
            _, _, peer, websocket, body, _, facts, read = event
            story.append((peer, websocket, body, facts, read))
            if not facts[3] or websocket:
                break
    return story


@settings(max_examples=600)
@given(connections)
@example([[request(b"x" * 600)[:100], request(b"x" * 600)[100:] + request(b"behind")]])
@example([[request(b"hello")[:-2], b"lo" + request(b"hello")[:-2], b"lo"]])
@example([[request(extra=b"Upgrade: h2c\r\nConnection: Upgrade\r\n")[:-2], b"lo" + request()]])
@example([[request(extra=b"Transfer-Encoding: chunked\r\n", digits=b"5")[:-2], b"lo" + request()]])
def test_however_reads_are_cut_the_requests_in_them_are_those_that_llhttp_finds_in_one(
    streams: list[list[bytes]],
) -> None:
    """Bodies whose length is known need no parser either, and what is behind them begins a new one."""
    known: Known = KnownHeads()
    for reads in streams * 3:
        assert requests_in(reads, known) == requests_in([b"".join(reads)], None)


@pytest.mark.parametrize("cut", range(1, len(request()) + 3))
def test_wherever_a_known_request_is_cut(cut: int) -> None:
    known = warm(request())
    two = request(b"world") + request(b"!")
    reads = [two[:cut], two[cut:]]
    told = read_all(reads, CONFIG, Sink(), known, True)
    assert told == read_all(reads, CONFIG, Sink(), None, True)


def test_a_known_head_needs_no_parser() -> None:
    """Else all these tests would compare the parser with itself."""
    sink = Sink()
    quick = reader(sink, CONFIG, warm(request()))
    for body in (b"world", b"", b"x" * 5000):
        quick.feed(request(body), 0.0)
    assert [found.body for found in sink.requests] == [b"world", b"", b"x" * 5000]
    assert quick._parser is None


@pytest.mark.parametrize(
    "data",
    [
        request(extra=b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        request(extra=b"Upgrade: h2c\r\n"),
        request(extra=b"Expect: 100-continue\r\n"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/realtime HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        request() + request(),
        request(digits=b"0000000005"),
        request(name="CONTENT-LENGTH"),
        request(extra=b"X: %b\r\n" % (b"y" * MAX_SIZE)),
        request(extra=b"Host: other\r\n"),
        request(extra=b"Content-Length: 5\r\n"),
    ],
)
def test_heads_that_negotiate_are_refused_large_or_spelled_otherwise_are_not_learned(data: bytes) -> None:
    known = warm(data)
    assert len(known) == 0
    assert read_all([data, request()], CONFIG, Sink(), known, True) == read_all(
        [data, request()], CONFIG, Sink(), None, True
    )


def test_the_table_is_bounded_however_many_heads_come() -> None:
    known: Known = KnownHeads()
    reading = reader(Sink(), CONFIG, known)
    for number in range(2 * MAX_HEADS + 3):
        for _ in range(2):
            reading.feed(request(extra=b"X-Request-Id: %d\r\n" % number), 0.0)
        assert 1 <= len(known) <= MAX_HEADS


def test_trailers_are_no_headers() -> None:
    """RFC 9110 6.5.1; they could say anything."""
    sink = Sink()
    data = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Evil: 1\r\n\r\n"
    reader(sink, CONFIG, KnownHeads()).feed(data, 0.0)
    head = sink.requests[0].head
    assert (len(head.headers), head.lines, head.unauthorized_lines) == (2, b"", b"")


# one head never serves another request


def test_keys_of_clients_whose_heads_differ_in_nothing_else_are_never_mixed_up() -> None:
    known: Known = KnownHeads()
    sink = Sink()
    clients = [(reader(sink, CONFIG, known), b"Bearer sk-%d" % number) for number in range(3)]
    for _ in range(3):
        for reading, key in clients:
            reading.feed(request(extra=b"Authorization: %b\r\n" % key), 0.0)
            head = sink.requests[-1].head
            assert (head.authorization, key in head.lines, b"sk" in head.unauthorized_lines) == (key, True, False)
    assert len(known) == 3


def test_the_same_head_from_another_client_keeps_that_clients_address() -> None:
    known: Known = KnownHeads()
    sink = Sink()
    peers = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"]
    for peer in peers:
        reader(sink, CONFIG, known, peer).feed(request(), 0.0)
    assert [found.peer for found in sink.requests] == peers
    assert sink.requests[1].head is sink.requests[3].head


def test_requests_with_one_head_have_bodies_and_times_of_their_own() -> None:
    known = warm(request(b"hello"))
    sink = Sink()
    reading = reader(sink, CONFIG, known)
    for now, body in enumerate([b"12345", b"123456", b"", b"1"]):
        reading.feed(request(body), float(now))
    assert [(found.body, found.begun) for found in sink.requests] == [
        (b"12345", 0.0), (b"123456", 1.0), (b"", 2.0), (b"1", 3.0),
    ]  # fmt: skip


# limits


@pytest.mark.parametrize("table", ["cold", "warm"])
def test_a_body_too_large_is_refused_and_nothing_is_held_for_it(table: str) -> None:
    known = warm(request(), config=SMALL) if table == "warm" else KnownHeads()
    for size, outcomes in ((1024, []), (1025, [Outcome.BODY_TOO_LARGE])):
        sink = Sink()
        reader(sink, SMALL, known).feed(request(b"x" * size), 0.0)
        refused = [event[2] for event in sink.events if isinstance(event, tuple) and event[0] == "refused"]
        assert (len(sink.requests), refused) == (1 - len(outcomes), outcomes)
        assert sink.held == (0 if outcomes else size)


@pytest.mark.parametrize("table", ["cold", "warm"])
def test_bodies_beyond_the_budget_are_refused_and_those_within_are_not(table: str) -> None:
    known = warm(request(), config=SMALL) if table == "warm" else KnownHeads()
    sink = Sink(budget=1000)
    readers = [reader(sink, CONFIG, known) for _ in range(3)]
    readers[0].feed(request(b"x" * 600), 0.0)
    readers[1].feed(request(b"x" * 401), 0.0)
    readers[2].feed(request(b"x" * 400), 0.0)
    assert [len(found.body) for found in sink.requests] == [600, 400]
    assert [event[2] for event in sink.events if event[0] == "refused"] == [Outcome.BODIES_FULL]  # type: ignore[index]
    assert sink.held == 1000
    readers[2].feed(request(b""), 0.0)
    assert sink.requests[-1].body == b""


@pytest.mark.parametrize("config", [CONFIG, SMALL])
def test_a_body_whose_last_bytes_are_too_many_is_refused_in_however_many_reads_it_comes(config: RouterConfig) -> None:
    for chunked in (False, True):
        data = request(b"x" * 1100)
        if chunked:
            data = request(b"44c\r\n%b\r\n0\r\n\r\n" % (b"x" * 1100)).replace(
                b"Content-Length: 1111", b"Transfer-Encoding: chunked"
            )
        for cut in (len(data) // 2, len(data) - 50):
            sink = Sink(budget=1050)
            reading = reader(sink, config, KnownHeads())
            for piece in (data[:cut], data[cut:], request(b"")):
                reading.feed(piece, 0.0)
            (refused,) = sink.events
            assert refused[2] is (Outcome.BODY_TOO_LARGE if config is SMALL else Outcome.BODIES_FULL)  # type: ignore[index]
            assert sink.held == reading.drop_body()


def test_heads_that_come_in_pieces_count_each_by_itself() -> None:
    sink = Sink()
    reading = reader(sink, SMALL, KnownHeads())
    for number in range(3):
        data = request(b"", extra=b"X-%d: %b\r\n" % (number, b"y" * 700))
        for piece in (data[:300], data[300:600], data[600:]):
            reading.feed(piece, 0.0)
    assert len(sink.requests) == 3


@pytest.mark.parametrize("cuts", [1, 2, 3, 7])
def test_a_head_is_refused_for_its_size_and_not_for_how_it_came(cuts: int) -> None:
    """`max_head` bytes are bytes of the head; each counts once, in however many reads they come."""
    for size, refused in ((SMALL.max_head * 9 // 10, False), (SMALL.max_head * 11 // 10, True)):
        lines = b"".join(b"X-%02d: %b\r\n" % (number, b"y" * 42) for number in range(size // 50 - 2))
        data = request(b"", extra=lines)
        assert abs(len(data) - size) < 80
        step = -(-len(data) // cuts)
        sink = Sink()
        reading = reader(sink, SMALL, KnownHeads())
        for start in range(0, len(data), step):
            reading.feed(data[start : start + step], 0.0)
        outcomes = [event[2] for event in sink.events if event[0] == "refused"]  # type: ignore[index]
        assert outcomes == ([Outcome.HEAD_TOO_LARGE] if refused else [])


def test_a_head_that_begins_behind_a_large_body_is_not_charged_for_it() -> None:
    sink = Sink()
    reading = reader(sink, SMALL, KnownHeads())
    data = request(b"x" * 1000) + request(b"y" * 1000)
    reading.feed(data[: len(data) // 2 + 30], 0.0)
    reading.feed(data[len(data) // 2 + 30 :], 0.0)
    assert [found.body[:1] for found in sink.requests] == [b"x", b"y"]


# the end


@pytest.mark.parametrize("table", ["cold", "warm"])
def test_nothing_is_handed_over_once_reading_is_over(table: str) -> None:
    """A sink may end it between two requests: too many that wait, a connection too many."""
    known = warm(request()) if table == "warm" else KnownHeads()
    sink = Sink()
    reading = reader(sink, CONFIG, known)
    reading.feed(request(), 0.0)
    reading.over = True
    reading.feed(request(b"late"), 0.0)
    assert [found.body for found in sink.requests] == [b"hello"]


@pytest.mark.parametrize("table", ["cold", "warm"])
def test_a_refused_request_is_followed_by_nothing(table: str) -> None:
    known = warm(request()) if table == "warm" else KnownHeads()
    for bad in (request(digits=b"x"), request(extra=b"Host: h\r\n"), request(extra=b"Expect: x\r\n"), b"\0"):
        sink = Sink()
        reading = reader(sink, CONFIG, known)
        for data in (request(), bad, request(), request() + request()):
            reading.feed(data, 0.0)
        assert [event[0] for event in sink.events] == ["whole", "refused"]  # type: ignore[index]
        assert reading.over


def test_after_a_known_request_the_reader_is_where_it_was_before() -> None:
    known = warm(request())
    sink = Sink()
    reading = reader(sink, CONFIG, known)
    reading.feed(request(b"known"), 0.0)
    assert (reading.stage, reading.body_bytes, reading.over) == (Stage.NOTHING, 0, False)
    for piece in (request(b"in pieces")[:30], request(b"in pieces")[30:]):
        reading.feed(piece, 0.0)
    reading.feed(request(b"known again"), 0.0)
    assert [found.body for found in sink.requests] == [b"known", b"in pieces", b"known again"]
