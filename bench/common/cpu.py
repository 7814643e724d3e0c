"""CPU time and memory of a tree of processes, read from the kernel.

Owns `tree()`, `Meter` and `Spent`. May not live here: starting and ending processes.

A process' time is read from its CPU clock (clock_getcpuclockid(3)): nanoseconds, all threads, ended ones included;
/proc/PID/stat counts the same in ticks of 10 ms. What ended children used is in their parent's `cutime` and `cstime`
once they are waited for. So the sum over the living of own and children's time never loses anything, whoever ends.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Positions in /proc/PID/stat counted from after the command's name: proc(5) minus 3.
_PPID, _UTIME, _STIME, _CUTIME, _CSTIME, _RSS = 1, 11, 12, 13, 14, 21

#: Seconds between two looks whether processes are quiet, and the share of a core that quiet ones may use.
_LOOK, _QUIET = 0.5, 0.05


class Spent(NamedTuple):
    """What a tree used in an interval."""

    cpu_ns: int
    user_ns: int
    """Share of `cpu_ns`; the kernel splits it by ticks of 10 ms."""
    rss: int
    """Bytes resident at its end, summed over processes: pages they share count in each."""
    processes: int


class _Reading(NamedTuple):
    cpu_ns: int
    user_ticks: int
    system_ticks: int
    rss: int
    processes: int


def tree(roots: Sequence[int]) -> list[int]:
    """The living processes among `roots` and their descendants."""
    children: dict[int, list[int]] = {}
    living = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            living.add(int(entry.name))
            children.setdefault(int(fields[_PPID]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [root for root in roots if root in living]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


class Meter:
    """Measures what the trees below `roots` use between `start()` and `stop()`."""

    def __init__(self, roots: Sequence[int]) -> None:
        self._roots = tuple(roots)
        self._before = _read(self._roots)

    def start(self) -> None:
        """The interval begins now."""
        self._before = _read(self._roots)

    def stop(self) -> Spent:
        """The interval ends now; may be called again for a longer one."""
        before, after = self._before, _read(self._roots)
        cpu_ns = max(0, after.cpu_ns - before.cpu_ns)
        user = max(0, after.user_ticks - before.user_ticks)
        system = max(0, after.system_ticks - before.system_ticks)
        user_ns = cpu_ns * user // (user + system) if user + system else cpu_ns
        return Spent(cpu_ns, user_ns, after.rss, after.processes)


def wait_until_quiet(roots: Sequence[int], seconds: float, at_most: float) -> bool:
    """Wait until these trees used next to nothing for that long in a row, or at most so long; were they quiet?"""
    deadline = time.monotonic() + at_most
    step = min(seconds, _LOOK)
    meter, since = Meter(roots), time.monotonic()
    while (now := time.monotonic()) - since < seconds:
        if now > deadline:
            return False
        time.sleep(step)
        if meter.stop().cpu_ns > _QUIET * step * 1e9:
            since = time.monotonic()
        meter.start()
    return True


def rss(pid: int) -> int:
    """Resident bytes of one process, 0 if it is gone."""
    fields = _stat(pid)
    return int(fields[_RSS]) * _PAGE if fields else 0


def command_line(pid: int) -> str:
    """Its words, joined by blanks; "" if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _read(roots: Sequence[int]) -> _Reading:
    cpu_ns = user = system = resident = count = 0
    for pid in tree(roots):
        if not (fields := _stat(pid)):
            continue
        count += 1
        resident += int(fields[_RSS]) * _PAGE
        user += int(fields[_UTIME]) + int(fields[_CUTIME])
        system += int(fields[_STIME]) + int(fields[_CSTIME])
        cpu_ns += _own_ns(pid, fields) + (int(fields[_CUTIME]) + int(fields[_CSTIME])) * _TICK_NS
    return _Reading(cpu_ns, user, system, resident, count)


def _own_ns(pid: int, fields: Sequence[str]) -> int:
    """Time of all threads it has or had, nanoseconds."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel
    except OSError:
        return (int(fields[_UTIME]) + int(fields[_STIME])) * _TICK_NS


def _stat(pid: int) -> list[str]:
    """The fields after the command's name, empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
