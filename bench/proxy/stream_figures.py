"""What the streaming client counts.

Owns the figures of one measurement and the line they are printed as. May not live here: sockets and framing.

Times are monotonic nanoseconds. A stall is a gap between two chunks of a stream of more than three intervals. It is the
client's own where this process was late within it by more than an interval, and the backend's where the chunks were
already sent that far apart; what is left is the proxy's, or the machine's.
"""

import time
from collections import Counter
from typing import Final

from bench.proxy.stream_reader import Reader
from bench.proxy.stream_stats import Histogram, Pulse, cpu_seconds

STALL: Final = 3
NEVER: Final = 1 << 62
LOOK_NS: Final = 10_000_000
"""How often the time waited for the core is read."""
DEFAULT_LATE: Final = 0.05
"""Seconds that count as being late where the interval is the backend's affair."""


class Figures:
    """Counts since `restart`."""

    def __init__(self, interval: float) -> None:
        self._late_ns = int((interval or DEFAULT_LATE) * 1e9)
        self._stall_ns = int(STALL * interval * 1e9) or NEVER
        self.errors: Counter[str] = Counter()
        self._clear()

    def _clear(self) -> None:
        self.pulse = Pulse(self._late_ns)
        self._look_at = 0
        self.added = Histogram()
        self.first = Histogram()
        self.reads = self.bytes = self.coalesced = self.streams = self.reopened = 0
        self.stalls = self.own_stalls = self.backend_stalls = self.gap_most = self._notable_ns = 0
        self._began = time.monotonic_ns()
        self._cpu = cpu_seconds()

    def restart(self) -> dict[str, float]:
        """Begins the measurement; what went wrong before it, by kind."""
        before: dict[str, float] = {f"errors_{kind}": count for kind, count in self.errors.items()}
        self.pulse.close()
        self.errors.clear()
        self._clear()
        return before

    def close(self) -> None:
        self.pulse.close()

    def chunk(self, reader: Reader, number: int, stamp: int, now: int) -> None:
        """A chunk of `reader`'s stream, sent at `stamp`, arrived at `now`."""
        if number != reader.number:
            self.errors["order"] += 1
        reader.number = number + 1
        if stamp > now:  # sent after the wait had ended, and read all the same
            now = time.monotonic_ns()
        self.added.add(now - stamp)
        gap = now - reader.arrived
        if gap > self._notable_ns:
            self._gap(gap, reader, stamp, now)
        reader.arrived = now
        reader.stamp = stamp

    def parsed(self, reader: Reader, marks: list[tuple[int, int]], now: int) -> None:
        """One read held the ends of these chunks, each a number and a stamp."""
        if len(marks) > 1:
            self.coalesced += len(marks)
        for number, stamp in marks:
            if not number:
                self.first.add(now - reader.started)
            self.chunk(reader, number, stamp, now)

    def complete(self, reader: Reader) -> None:
        """The stream of `reader` ended as it should."""
        self.streams += 1

    def turn(self, began: int, ended: int, reads: int, size: int) -> None:
        """Until `ended` the loop handled what it had found at `began`: `reads` reads of `size` bytes together."""
        self.reads += reads
        self.bytes += size
        self.pulse.turn(began, ended)
        if ended > self._look_at:
            self._look_at = ended + LOOK_NS
            self.pulse.look(ended)

    def line(self, streaming: int, *, long: bool) -> dict[str, float]:
        """The figures up to now, flat; `streams` are those open now (`long`) or those completed."""
        wall = (time.monotonic_ns() - self._began) / 1e9
        user, system = (now - then for now, then in zip(cpu_seconds(), self._cpu, strict=True))
        self.pulse.look(time.monotonic_ns())
        chunks = self.added.count
        each = max(1, chunks)
        return {
            "streams": streaming if long else self.streams,
            "chunks": chunks,
            "reads": self.reads,
            "reads_per_chunk": self.reads / each,
            "coalesced": self.coalesced,
            "bytes": self.bytes,
            "per_second": chunks / wall,
            "stalls": self.stalls,
            "own_stalls": self.own_stalls,
            "backend_stalls": self.backend_stalls,
            "gap_ms_max": self.gap_most / 1e6,
            "added_ms_p50": self.added.quantile_ms(0.5),
            "added_ms_p99": self.added.quantile_ms(0.99),
            "added_ms_max": self.added.most_ms,
            "first_ms_p50": self.first.quantile_ms(0.5),
            "first_ms_p99": self.first.quantile_ms(0.99),
            "reopened": self.reopened,
            "errors": sum(self.errors.values()),
            **{f"errors_{kind}": self.errors[kind] for kind in KINDS},
            "wall_s": wall,
            "user_s": user,
            "sys_s": system,
            "cpu_us_per_chunk": (user + system) * 1e6 / each,
            "reads_per_turn": self.reads / max(1, self.pulse.turns.count),
            "lag_ms_p99": self.pulse.turns.quantile_ms(0.99),
            "lag_ms_max": self.pulse.turns.most_ms,
            "core_wait_s": self.pulse.waited_since_start / 1e9,
            "core_wait_ms_max": self.pulse.waited_most / 1e6,
        }

    def _gap(self, gap: int, reader: Reader, stamp: int, now: int) -> None:
        """The longest gap so far, or a stall."""
        self.gap_most = max(self.gap_most, gap)
        self._notable_ns = min(self.gap_most, self._stall_ns)
        if gap <= self._stall_ns:
            return
        self.stalls += 1
        self.pulse.look(now)
        if self.pulse.late_at > reader.arrived:
            self.own_stalls += 1
        elif stamp - reader.stamp > self._stall_ns:
            self.backend_stalls += 1


KINDS: Final = ("connect", "status", "framing", "truncated", "count", "order", "mixed")
"""Of errors: no connection; not 200; no HTTP; ended early; wrong number of chunks; a chunk out of its place; a chunk of
somebody else's stream."""
