"""The pace of the streaming backend: which stream sends its next chunk when.

Owns the wheel of ticks and the sending of chunks. May not live here: connections and HTTP.

Every stream keeps its own phase: begun together they are spread over the interval, so that no proxy finds all of them
ready at once, and a wheel that was late skips a chunk's turn rather than send two together, which the proxy would read
as one.
"""

import time
from collections.abc import Callable
from typing import Final

from bench.proxy.stream_stats import Histogram
from bench.proxy.stream_wire import STREAM_END, template

TICK_NS: Final = 1_000_000
"""As fine as epoll waits."""
SLOTS: Final = 1 << 13
MOST_INTERVAL: Final = (SLOTS - 1) * TICK_NS / 1e9
"""Seconds; the wheel's circumference."""
GOLDEN: Final = 0.6180339887498949
"""Multiples of it, modulo 1, are spread evenly for any count of them."""


class Stream:
    """One answer being streamed. `send` sends what it can of some bytes and says how many those were."""

    __slots__ = ("after", "before", "edge", "ident", "last", "model", "number", "over", "send", "slot", "ticks")

    def __init__(self, send: Callable[[bytes], int], model: str, ident: int, chunks: int, ticks: int) -> None:
        self.send = send
        self.model = model
        self.ident = ident
        self.ticks = ticks
        """Between two chunks; 0 where the streams share a rate."""
        self.number = 0
        self.last = chunks - 1
        self.edge = 0
        """The next chunk that differs from those before it: the first, the second, the last."""
        self.before, self.after = b"", b""
        self.slot = 0
        """When the next chunk is due."""
        self.over = False


class Wheel:
    """All streams of a backend. `held` is called with a stream and bytes the system would not take: it calls `resume`
    once they are sent. `broken` is called with a stream whose client is gone, `ended` with one that is complete."""

    def __init__(
        self,
        rate: float,
        held: Callable[[Stream, bytes], None],
        broken: Callable[[Stream], None],
        ended: Callable[[Stream], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock = clock
        self.late = Histogram()
        self.chunks = 0
        self.streams = 0
        self._rate = rate
        self._held, self._broken, self._ended = held, broken, ended
        self._slots: list[list[Stream]] = [[] for _ in range(SLOTS)]
        self._slot = self._now()
        self._afters: dict[bytes, bytes] = {}
        """The same for all streams, so that they share what the core's cache holds."""
        self._begun = 0
        self._sharing = 0
        self._shared_ticks = 1

    def begin(self, stream: Stream) -> None:
        """The first chunk of `stream` is due within one interval."""
        if not stream.ticks:
            self._share(1)
        self.streams += 1
        self._begun += 1
        ticks = stream.ticks or self._shared_ticks
        self._place(stream, self._now() + 1 + int(self._begun * GOLDEN % 1 * ticks))

    def resume(self, stream: Stream) -> None:
        """`stream`, held before, goes on."""
        self._place(stream, max(stream.slot, self._now() + 1))

    def end(self, stream: Stream) -> None:
        """`stream` is over; where the wheel still has it, it is dropped when its turn comes."""
        if not stream.over:
            stream.over = True
            self.streams -= 1
            if not stream.ticks:
                self._share(-1)

    def seconds_to_next(self) -> float:
        """How long to wait for the next tick."""
        return max(0, (self._slot + 1) * TICK_NS - self._clock()) / 1e9

    def turn(self) -> None:
        """Sends everything that is due."""
        to = self._now()
        if to - self._slot >= SLOTS:  # stopped for longer than the wheel is round
            self._slot = to - SLOTS + 1
        for slot in range(self._slot + 1, to + 1):
            due = self._slots[slot % SLOTS]
            if due:
                self._slots[slot % SLOTS] = []
                self.late.add(self._clock() - slot * TICK_NS)
                self._send(due, slot, to)
        self._slot = to

    def _send(self, due: list[Stream], slot: int, to: int) -> None:
        """One chunk for each of `due`; the wheel has to get on to slot `to`."""
        clock, slots, shared = self._clock, self._slots, self._shared_ticks
        for stream in due:
            number = stream.number
            if number == stream.edge:
                self._edge(stream)
            data = b"%b%06d.%019d%b" % (stream.before, number, clock(), stream.after)
            try:
                sent = stream.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                if not stream.over:
                    self._broken(stream)
                continue
            self.chunks += 1
            stream.number = number + 1
            following = slot + (stream.ticks or shared)
            if following <= to:  # late by a whole interval: these turns are lost
                following += ((to - following) // (stream.ticks or shared) + 1) * (stream.ticks or shared)
            stream.slot = following
            if sent != len(data):
                self._held(stream, data[sent:])
            elif number == stream.last:
                self._ended(stream)
            else:
                slots[following % SLOTS].append(stream)

    def _edge(self, stream: Stream) -> None:
        first, last = stream.number == 0, stream.number == stream.last
        stream.before, after = template(stream.model, stream.ident, first=first, last=last)
        if last:
            after += STREAM_END
        stream.after = self._afters.setdefault(after, after)
        stream.edge = 1 if first and stream.last > 1 else stream.last

    def _now(self) -> int:
        return self._clock() // TICK_NS

    def _place(self, stream: Stream, slot: int) -> None:
        stream.slot = slot
        self._slots[slot % SLOTS].append(stream)

    def _share(self, change: int) -> None:
        self._sharing += change
        self._shared_ticks = min(SLOTS - 1, max(1, round(self._sharing / self._rate * 1e9 / TICK_NS)))
