"""How busy the machine is, and waiting until it is not.

Owns `Busy` and `until_quiet`. May not live here: what one process uses (`cpu`).

Work of others that gives way (nice, SCHED_IDLE) disturbs, too: cores that share their units are slower for it, and a
router that is slow to answer gathers requests, which makes it slower.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

#: Part of all cores in use that is nothing; how long one looks, and how long one waits for it. Seconds.
QUIET: Final = 0.1
_LOOK: Final = 2.0
_PATIENCE: Final = 1800.0


class Busy:
    """How much of all cores was in use, by whomever, since it was made."""

    def __init__(self) -> None:
        self._before = _ticks()

    def stop(self) -> float:
        """The share so far."""
        idle, total = (after - before for before, after in zip(self._before, _ticks(), strict=True))
        return 1.0 - idle / max(1, total)


def until_quiet(patience: float = _PATIENCE) -> float:
    """Wait until nobody else uses the machine, for at most `patience` seconds; the share in use at the end."""
    deadline = time.monotonic() + patience
    while True:
        busy = Busy()
        time.sleep(_LOOK)
        share = busy.stop()
        if share < QUIET or time.monotonic() > deadline:
            return share


def _ticks() -> tuple[int, int]:
    """(idle, all) of all cores since the system started."""
    fields = [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)
