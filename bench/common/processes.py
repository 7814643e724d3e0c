"""Processes of the bench: started pinned, in groups of their own, and surely ended.

Owns `Processes`, `Process` and finding free ports. May not live here: what is started, how much CPU it used (`cpu`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.common import cpu

#: A process that was asked to end may take this long. Seconds.
GRACE = 5.0
#: `PR_SET_CHILD_SUBREAPER` of prctl(2): orphans become our children, so that none is lost.
_SUBREAPER = 36


class BenchError(Exception):
    """The bench cannot go on, or this measurement is none; the message says why and what to do."""


class Process:
    """A started process whose output goes to a file (`log`)."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path, pinned: Sequence[str]) -> None:
        self.name = name
        self.popen = popen
        self.log = log
        self.pinned = pinned
        """The words before its command that keep it on its cores."""

    @property
    def pid(self) -> int:
        """Root of its process tree."""
        return self.popen.pid

    def require_alive(self) -> None:
        """Raises `BenchError` with the end of its output if it has ended."""
        if self.popen.poll() is not None:
            raise BenchError(f"{self.name} ended with status {self.popen.returncode}:\n{self.output()[-2000:]}")

    def output(self) -> str:
        """What it printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")


class Processes:
    """Every process of a bench. Leaving the context ends them all, their descendants included."""

    def __init__(self, directory: Path) -> None:
        """Logs go to `directory`."""
        self._directory = directory
        self.running: list[Process] = []
        """Those started and not stopped, in the order of their starts."""
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self.running[:]):
            self.stop(process)

    def start(
        self,
        name: str,
        command: Sequence[str],
        cores: Sequence[int],
        directory: Path | None = None,
    ) -> Process:
        """Start `command` on `cores` (none: on any), in `directory`."""
        self._count += 1
        log = self._directory / f"{self._count:03}-{name}.log"
        pinned = pin(cores) + list(command)
        with log.open("wb") as output:
            popen = subprocess.Popen(
                pinned,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=directory,
            )
        process = Process(name, popen, log, pin(cores))
        self.running.append(process)
        return process

    def stop(self, process: Process) -> None:
        """End it and everything below it: SIGTERM, then SIGKILL."""
        family = cpu.tree([process.pid])
        _signal(process.popen, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.popen.wait(GRACE)
        # Only what is below us: a number may have been given to somebody else's process meanwhile.
        for pid in {*family, *cpu.tree([process.pid])} & set(cpu.tree([os.getpid()])) - {process.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _signal(process.popen, signal.SIGKILL)
        process.popen.wait(GRACE)
        self.running.remove(process)


def run(command: Sequence[str], cores: Sequence[int], timeout: float) -> str:
    """Run a command on `cores` to its end; its standard output. Raises `BenchError` if it fails or takes too long."""
    popen = subprocess.Popen(
        pin(cores) + list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    try:
        output, errors = popen.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[0]} took longer than {timeout:.0f} s") from None
    finally:
        if popen.poll() is None:
            os.killpg(popen.pid, signal.SIGKILL)
            popen.communicate()
    if popen.returncode:
        raise BenchError(f"{command[0]} ended with status {popen.returncode}: {(errors or output).strip()[-2000:]}")
    return output


@contextlib.contextmanager
def spoken(command: Sequence[str], cores: Sequence[int]) -> Iterator[Callable[[float], str]]:
    """A command that says line by line what it does: `line(seconds)` waits for the next one.

    `line` raises `BenchError` if none comes in time. Leaving the context ends the command, if it still runs.
    """
    popen = subprocess.Popen(
        pin(cores) + list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert popen.stdout
    assert popen.stderr
    lines, said = popen.stdout.fileno(), bytearray()

    def line(seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while b"\n" not in said:
            ready, _, _ = select.select([lines], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(lines, 65536) if ready else b""
            if not more:
                popen.kill()
                errors = popen.communicate()[1].decode(errors="replace").strip()[-2000:]
                what = "ended" if ready else f"said nothing for {seconds:.0f} s"
                raise BenchError(f"{' '.join(command[1:3])} {what}: {errors}")
            said.extend(more)
        first, _, rest = bytes(said).partition(b"\n")
        said[:] = rest
        return first.decode()

    try:
        yield line
        with contextlib.suppress(subprocess.TimeoutExpired):
            popen.wait(GRACE)
    finally:
        popen.kill()
        popen.wait(GRACE)
        popen.stdout.close()
        popen.stderr.close()


def pin(cores: Sequence[int]) -> list[str]:
    """The words before a command that keep it on these cores; none for no cores."""
    return ["taskset", "-c", ",".join(map(str, cores))] if cores else []


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that it is found and ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)


def free_port() -> int:
    """A port that nobody listens on now, on any loopback address."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def wait_for(process: Process, port: int, seconds: float, host: str = "127.0.0.1") -> None:
    """Until it listens. Raises `BenchError` if it ends before, or does not in time."""
    deadline = time.monotonic() + seconds
    while True:
        process.require_alive()
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise BenchError(f"{process.name} does not listen after {seconds:.0f} s:\n{process.output()[-2000:]}")
        time.sleep(0.05)


def _signal(popen: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if popen.poll() is None:
        popen.send_signal(number)
