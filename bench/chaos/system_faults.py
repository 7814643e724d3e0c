"""What goes wrong with the machine: its clock, its names, its file descriptors.

Owns these faults, and how a house is started so that they can happen to it alone: with a clock of its own (Debian's
faketime), with mounts of its own (unshare(1)). May not live here: anything that changes the machine for others.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.chaos.faults import Fault
from bench.chaos.stage import Stage
from bench.common import install
from bench.common.processes import BenchError

#: Seconds by which the clock jumps: ahead, then back, so that it is an hour behind.
AHEAD, BACK = 3600, -3600
#: Seconds after which it jumps back.
JUMP_BACK = 2.0
#: The name of an engine's host, in a domain that never exists (RFC 6761).
HOST = "engine-a.test"
#: An address at which nobody ever answers (RFC 5737), for a resolver that is gone.
NOBODY = "192.0.2.53"
#: File descriptors of every process, and clients that come in spite of it, again after so many seconds.
DESCRIPTORS, FLOOD, COMES_AGAIN = 160, 400, 0.5
#: Where Debian, and others, have the library that shows a process another time.
FAKETIME = ("usr/lib/*/faketime/libfaketimeMT.so.1", "usr/lib*/faketime/libfaketimeMT.so.1")


class ClockJumped(Fault):
    """The clock jumps an hour ahead, then two back. What measures durations (CLOCK_MONOTONIC) goes on, as it does."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._file = stage.folder / "clock"

    @staticmethod
    def prefix(stage: Stage) -> list[str]:
        """Words before a command that give it a clock of its own."""
        file = stage.folder / "clock"
        file.write_text("+0\n")
        # Monotonic time is left alone; the file is read at every look at the clock.
        settings = {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return ["env", f"LD_PRELOAD={faketime()}", *(f"{name}={value}" for name, value in settings.items())]

    async def inject(self) -> None:
        self._file.write_text(f"+{AHEAD}\n")
        await asyncio.sleep(JUMP_BACK)
        self._file.write_text(f"{BACK}\n")

    async def remove(self) -> None:
        self._file.write_text("+0\n")

    async def noticed(self) -> bool:
        """A service is taken out, which it should not be."""
        healthy = await self.stage.healthy()
        return healthy is not None and not healthy >= set(self.stage.names)

    async def mended(self) -> bool:
        return await self.stage.ready()


class NamesGone(Fault):
    """No name is resolved any more: the hosts file is empty, and the resolver does not answer."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    @staticmethod
    def prefix(stage: Stage) -> list[str]:
        """Words before a command that give it names of its own."""
        folder = stage.folder / "names"
        folder.mkdir()
        (folder / "hosts").write_text(f"127.0.0.1 localhost {HOST}\n")
        (folder / "nsswitch.conf").write_text("hosts: files dns\n")
        (folder / "resolv.conf").write_text(f"nameserver {NOBODY}\n")
        script = 'for f in hosts nsswitch.conf resolv.conf; do mount --bind "$0/$f" "/etc/$f"; done; exec "$@"'
        return [*own_mounts(), "sh", "-ec", script, str(folder)]

    async def inject(self) -> None:
        (self.stage.folder / "names" / "hosts").write_text("")  # the same file: it is the one that is mounted

    async def remove(self) -> None:
        (self.stage.folder / "names" / "hosts").write_text(f"127.0.0.1 localhost {HOST}\n")

    async def noticed(self) -> bool:
        """The engine with a name is taken out, which it should not be."""
        healthy = await self.stage.healthy()
        return healthy is not None and not healthy >= set(self.stage.names)

    async def mended(self) -> bool:
        return await self.stage.ready()


class DescriptorsGone(Fault):
    """More connections than the workers have file descriptors for: a flood of clients that say nothing."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._flood: list[asyncio.Task[None]] = []

    @staticmethod
    def prefix(_stage: Stage) -> list[str]:
        """Words before a command that leave it few descriptors."""
        return ["sh", "-ec", 'ulimit -n "$0"; exec "$@"', str(DESCRIPTORS)]

    async def inject(self) -> None:
        self._flood = [asyncio.create_task(self._idle(number / FLOOD)) for number in range(FLOOD)]

    async def _idle(self, after: float) -> None:
        """One of them: turned away, it comes again."""
        while True:
            await asyncio.sleep(after)
            after = COMES_AGAIN
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.stage.port)
                try:
                    while await reader.read(65536):
                        pass
                finally:
                    writer.close()

    async def remove(self) -> None:
        for client in self._flood:
            client.cancel()
        await asyncio.wait(self._flood)

    async def noticed(self) -> bool:
        """A service is taken out, which it should not be: it is not to blame."""
        healthy = await self.stage.healthy()
        return healthy is not None and not healthy >= set(self.stage.names)

    async def mended(self) -> bool:
        return await self.stage.ready()


def small_disk(stage: Stage) -> list[str]:
    """Words before a command that give it a disk of its own, of 1 MB, in `disk`."""
    script = 'mount -t tmpfs -o size=1m lab "$0"; exec "$@"'
    return [*own_mounts(), "sh", "-ec", script, str(stage.folder / "disk")]


def own_mounts() -> list[str]:
    """Words before a command that may mount what it likes, seen by nobody else."""
    mine = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", "--mount", *mine, "--propagation", "private"]


@functools.cache
def no_mounts() -> str:
    """Why there can be no mounts of one's own here, "" where there can."""
    if not Path("/proc/self/ns/mnt").exists() or not install.found("unshare"):
        return "needs Linux and unshare(1), of util-linux"
    tried = _succeeds([*own_mounts(), "mount", "-t", "tmpfs", "lab", "/mnt"])
    return "" if tried else "needs the right to mount for itself: run it as root, or allow user namespaces"


def faketime() -> str:
    """The library that shows a process another time, brought here where that can be done. Raises `BenchError`."""
    found = _library()
    if not found:
        install.debian("faketime")
        found = _library()
    if not found:
        raise BenchError("needs libfaketime, which was not found below /usr/lib")
    return found


def no_faketime() -> str:
    """Why a clock cannot jump here, "" where it can."""
    try:
        faketime()
    except BenchError as error:
        return str(error)
    return ""


def _library() -> str:
    return next((str(path) for pattern in FAKETIME for path in sorted(Path("/").glob(pattern))), "")


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
