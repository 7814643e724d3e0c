"""The pace of the streaming backend, played on a clock of the test's own."""

import itertools
import re

from bench.proxy.stream_wheel import SLOTS, TICK_NS, Stream, Wheel
from bench.proxy.stream_wire import MARK


class Played:
    """A wheel whose streams write down what they sent and at which tick."""

    def __init__(self, rate: float = 16_000) -> None:
        self.now = 5_000 * TICK_NS
        self.sent: list[tuple[int, int, int]] = []
        """Tick, stream, number."""
        self.ended: list[int] = []
        self.wheel = Wheel(rate, lambda *_: None, lambda _: None, self._ended, lambda: self.now)

    def begin(self, ident: int, chunks: int, ticks: int) -> Stream:
        stream = Stream(self._send, "m", ident, chunks, ticks)
        self.wheel.begin(stream)
        return stream

    def turn(self, *, ticks: int = 1) -> None:
        self.now += ticks * TICK_NS
        self.wheel.turn()

    def _send(self, data: bytes) -> int:
        for ident, number, _ in MARK.findall(data):
            self.sent.append((self.now // TICK_NS, int(ident), int(number)))
        return len(data)

    def _ended(self, stream: Stream) -> None:
        self.ended.append(stream.ident)
        self.wheel.end(stream)


def test_streams_begun_together_are_spread_over_their_interval() -> None:
    played = Played()
    for ident in range(500):
        played.begin(ident, chunks=1, ticks=50)
    for _ in range(50):
        played.turn()
    ticks = [tick for tick, _, _ in played.sent]
    assert len(ticks) == 500
    assert max(ticks.count(tick) for tick in set(ticks)) <= 12


def test_a_stream_keeps_its_interval_and_its_phase() -> None:
    played = Played()
    played.begin(1, chunks=5, ticks=7)
    for _ in range(60):
        played.turn()
    ticks = [tick for tick, _, _ in played.sent]
    assert [after - before for before, after in itertools.pairwise(ticks)] == [7, 7, 7, 7]
    assert [number for _, _, number in played.sent] == [0, 1, 2, 3, 4]
    assert played.ended == [1]


def test_a_wheel_that_was_late_sends_no_two_chunks_of_a_stream_together() -> None:
    played = Played()
    for ident in range(20):
        played.begin(ident, chunks=100, ticks=5)
    for _ in range(10):
        played.turn(ticks=23)
    assert len({(tick, ident) for tick, ident, _ in played.sent}) == len(played.sent)


def test_a_wheel_stopped_for_longer_than_it_is_round_goes_on() -> None:
    played = Played()
    played.begin(1, chunks=3, ticks=5)
    played.turn(ticks=3 * SLOTS)
    for _ in range(20):
        played.turn()
    assert played.ended == [1]


def test_streams_without_an_interval_share_the_rate() -> None:
    played = Played(rate=2_000)
    for ident in range(40):
        played.begin(ident, chunks=1_000, ticks=0)
    for _ in range(20):
        played.turn()
    before = len(played.sent)
    for _ in range(100):
        played.turn()
    assert len(played.sent) - before == 200


def test_all_chunks_of_a_stream_but_the_first_and_the_last_have_one_length_and_about_260_bytes() -> None:
    sent: list[bytes] = []

    def send(data: bytes) -> int:
        sent.append(data)
        return len(data)

    played = Played()
    played.wheel.begin(Stream(send, "meta-llama/Llama-3.1-8B-Instruct", 12, 5, 1))
    for _ in range(8):
        played.turn()
    assert len({len(data) for data in sent[1:-1]}) == 1
    assert 220 <= len(sent[1]) <= 290
    assert b'"role":"assistant"' in sent[0]
    assert b'"finish_reason":"length"' in sent[-1]
    assert sent[-1].endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    size, _, rest = sent[1].partition(b"\r\n")
    assert int(size, 16) == len(rest) - 2
    assert re.fullmatch(rb"data: \{.*\}\n\n\r\n", rest)
