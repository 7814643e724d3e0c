"""Figures in bounded memory for the programs that stream.

Owns a histogram of nanoseconds and the look at how long this process was kept from its core. May not live here: what is
measured, and how it is printed.
"""

import os
import resource
from pathlib import Path
from typing import Final

FINE_SHIFT: Final = 12
"""Bins of 4.1 µs, up to `FINE_BINS` of them (67 ms); above, bins of 4.2 ms, up to 69 s."""
FINE_BINS: Final = 1 << 14
COARSE_SHIFT: Final = 22
COARSE_BINS: Final = 1 << 14


class Histogram:
    """Counts of durations in nanoseconds; negative ones count as 0."""

    __slots__ = ("coarse", "fine", "most")

    def __init__(self) -> None:
        self.fine = [0] * FINE_BINS
        self.coarse = [0] * COARSE_BINS
        self.most = 0

    @property
    def count(self) -> int:
        return sum(self.fine) + sum(self.coarse)

    def add(self, nanoseconds: int) -> None:
        if nanoseconds > self.most:
            self.most = nanoseconds
        at = nanoseconds >> FINE_SHIFT
        if 0 <= at < FINE_BINS:
            self.fine[at] += 1
        elif at < 0:
            self.fine[0] += 1
        else:
            self.coarse[min(nanoseconds >> COARSE_SHIFT, COARSE_BINS - 1)] += 1

    def quantile_ms(self, share: float) -> float:
        """The upper edge in milliseconds of the bin that holds the `share` quantile; 0.0 where nothing was counted."""
        wanted = max(1, round(self.count * share))
        seen = 0
        for counts, shift in ((self.fine, FINE_SHIFT), (self.coarse, COARSE_SHIFT)):
            for at, count in enumerate(counts):
                seen += count
                if seen >= wanted:
                    return min((at + 1) << shift, self.most) / 1e6
        return self.most / 1e6

    @property
    def most_ms(self) -> float:
        return self.most / 1e6


class Pulse:
    """When this process itself was late: busy in one turn of its loop, or waiting for its core.

    Linux says in /proc/self/schedstat how many nanoseconds a process was ready to run and did not; elsewhere only the
    turns of the loop are seen.
    """

    def __init__(self, late_ns: int) -> None:
        self.late_ns = late_ns
        self.late_at = 0
        """Monotonic nanoseconds of the last time this process was more than `late_ns` late."""
        self.turns = Histogram()
        self.waited_most = 0
        self.waited_since_start = 0
        self._looked = 0
        path = Path("/proc/self/schedstat")
        self._file = os.open(path, os.O_RDONLY) if path.exists() else -1
        self._waited = 0
        self._waited = self._first = self._read()

    def turn(self, began: int, ended: int) -> None:
        """A turn of the loop took from `began` to `ended`."""
        took = ended - began
        self.turns.add(took)
        if took > self.late_ns:
            self.late_at = ended

    def look(self, now: int) -> None:
        """Reads how long this process waited for its core since the last look: 2 µs, at most once for each `now`."""
        if now == self._looked:
            return
        self._looked = now
        waited = self._read()
        grown, self._waited = waited - self._waited, waited
        self.waited_most = max(self.waited_most, grown)
        self.waited_since_start = waited - self._first
        if grown > self.late_ns:
            self.late_at = now

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self) -> int:
        return int(os.pread(self._file, 64, 0).split()[1]) if self._file >= 0 else self._waited


def cpu_seconds() -> tuple[float, float]:
    """User and system seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime, usage.ru_stime


def raise_file_limit() -> None:
    """Lets this process have as many sockets as the system allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
