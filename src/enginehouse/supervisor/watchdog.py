"""Which worker is to be replaced because it gives no sign of life.

Owns `Watchdog`: how long a worker may be silent. May not live here: killing and starting (`router`), giving the sign
(the worker's sweep).

A worker that is frozen uses no CPU and is replaced soon. One that uses its core while it is silent is overloaded: with
thousands of streams ready at once an event loop comes to its timers late. It gets more time, for its death would end
all of them; not for ever, since it may as well be caught in a loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

#: A worker that gave no sign of life for this long is replaced; this long, if it uses CPU meanwhile. Seconds.
SILENCE: Final = 2.0
BUSY_SILENCE: Final = 10.0
#: From here on it is suspicious, and its CPU time is looked at.
SUSPICIOUS: Final = 0.75
#: A worker must have given its first sign of life by then. Seconds.
FIRST_BEAT: Final = 15.0
#: Share of the time of its silence for which a busy worker has a core at least.
BUSY: Final = 0.2
_UNSEEN: Final = (0.0, 0.0, None)


class Watchdog:
    """Looked at a few times a second, with the workers' beats. `cpu`: see `cpu_of`."""

    def __init__(self, cpu: Callable[[int], float | None]) -> None:
        self._cpu = cpu
        self._seen: dict[int, tuple[float, float, float | None]] = {}
        """Per worker: the beat after which it became suspicious, when that was, and its CPU time by then."""

    def overdue(self, worker: int, pid: int, beat: float, started: float, now: float) -> float:
        """Seconds of silence for which worker number `worker` is to be replaced; 0.0 while it is not.

        `beat`: when it last gave a sign, 0.0 for never; monotonic seconds, as `started` and `now`.
        """
        silent = now - max(beat, started)
        if not beat:
            return FIRST_BEAT if silent > FIRST_BEAT else 0.0
        if silent <= SUSPICIOUS:
            return 0.0
        if self._seen.get(worker, _UNSEEN)[0] != beat:
            self._seen[worker] = beat, now, self._cpu(pid)
        if silent <= SILENCE:
            return 0.0
        limit = BUSY_SILENCE if self._busy(worker, pid, now) else SILENCE
        return limit if silent > limit else 0.0

    def _busy(self, worker: int, pid: int, now: float) -> bool:
        _, since, before = self._seen[worker]
        after = self._cpu(pid)
        return before is not None and after is not None and after - before >= BUSY * (now - since)


def cpu_of(pid: int) -> float | None:
    """CPU seconds a process has used, user and system; None where it is gone or the system does not tell (no /proc)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
