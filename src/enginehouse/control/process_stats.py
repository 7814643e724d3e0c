"""What a process of this machine takes: memory and processor time, as /proc tells.

Owns reading it. May not live here: which processes those are (`gauges`). Where there is no /proc, nothing is told.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

_PAGE = resource.getpagesize()
_TICKS = os.sysconf("SC_CLK_TCK")


class Taken(NamedTuple):
    """By one process."""

    resident_bytes: int
    cpu_seconds: float


def taken(pid: int) -> Taken | None:
    """None for a process that is gone, or where the system does not tell."""
    folder = Path("/proc") / str(pid)
    try:
        pages = (folder / "statm").read_text().split()[1]
        # proc(5): the name in parentheses may hold anything; utime and stime are the 12th and 13th field behind it.
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        return Taken(int(pages) * _PAGE, (int(fields[11]) + int(fields[12])) / _TICKS)
    except (OSError, ValueError, IndexError):
        return None
