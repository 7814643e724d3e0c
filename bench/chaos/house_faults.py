"""What goes wrong with the house's own processes, and with the registry's disk.

Owns kills and freezes of parts, a registry that forgets, and one that cannot write. May not live here: engines'
faults (`faults`), clocks, names and descriptors (`system_faults`).
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.chaos.client import fetch
from bench.chaos.faults import Fault
from bench.chaos.processes import kill, send
from bench.chaos.stage import House, Stage
from bench.common.processes import BenchError

#: Bytes written at once to a disk that is to be full.
BLOCK = 4096
#: More than the disk of the lab has: it never ends by itself then.
MOST = 64 << 20
#: Records that may fit into what the journal had already.
MOST_RECORDS = 200


class PartFault(Fault):
    """It happens to the first process of a role; whoever looks after it starts another in its place."""

    lasts = False

    def __init__(self, stage: Stage, role: str) -> None:
        self.stage = stage
        self.role = role
        self.pid = 0
        self._count = 0

    async def inject(self) -> None:
        everybody = self.stage.pids(self.role)
        self.pid, self._count = everybody[0], len(everybody)
        await self.act()

    async def act(self) -> None:
        """Do it to `pid`."""
        kill([self.pid])

    async def noticed(self) -> bool:
        """Another process has taken its place."""
        pids = [part.pid for part in self.stage.parts(self.role)]
        return self.pid not in pids and len(pids) >= self._count

    async def mended(self) -> bool:
        return await self.noticed() and await self.stage.ready()


class FrozenPart(PartFault):
    """SIGSTOP."""

    async def act(self) -> None:
        send([self.pid], signal.SIGSTOP)


class FrozenRegistry(FrozenPart):
    """Nobody replaces it: it comes round when it is thawed."""

    lasts = True

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, "registry")

    async def remove(self) -> None:
        send([self.pid], signal.SIGCONT)

    async def noticed(self) -> bool:
        """The router says that the registry does not answer."""
        return await self._complaint() is True

    async def mended(self) -> bool:
        return await self._complaint() is False and await self.stage.ready()

    async def _complaint(self) -> bool | None:
        """Whether the router complains of the registry as a whole; None where it does not answer itself."""
        status, told = await fetch(self.stage.port, "/services")
        if status != 200 or not told:
            return None
        return any(each["source"] == "registry" and not each["name"] for each in told["rejected"])


class WipedRegistry(PartFault):
    """Its journal is deleted and it is killed: what comes back knows nobody."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, "registry")
        assert isinstance(stage, House)
        self.house = stage

    async def act(self) -> None:
        for file in self.house.disk.iterdir():
            file.unlink()
        kill([self.pid])

    async def mended(self) -> bool:
        """Everybody has registered again by himself."""
        known = await self.house.registered()
        return known is not None and known >= set(self.house.names) and await super().mended()


class FullDisk(Fault):
    """The disk of the journal is full, and an engine dies and comes back meanwhile, which has to be written down."""

    def __init__(self, stage: Stage) -> None:
        assert isinstance(stage, House)
        self.house = stage
        self._filler: Path | None = None

    async def inject(self) -> None:
        # The disk is mounted for the house alone: seen from here it is below the root directory of its processes.
        (registry,) = self.house.pids("registry")
        self._filler = Path(f"/proc/{registry}/root{self.house.disk}/filler")
        if not self._fill(self._filler) or not await self._refuses():
            raise BenchError("the disk of the registry does not get full")
        kill(self.house.pids("engine", "a"))

    @staticmethod
    def _fill(file: Path) -> bool:
        with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.tell() < MOST:
                filler.write(bytes(BLOCK))
            return False
        return True

    async def _refuses(self) -> bool:
        """Whether the registry says that it can write nothing down: its journal may have some room of its own left."""
        for number in range(MOST_RECORDS):
            told = {"name": f"filler-{number}", "host": "127.0.0.1", "port": 1, "metadata": {"filler": "x" * BLOCK}}
            status, _ = await fetch(self.house.registry_port, "/services", msgspec.json.encode(told))
            if status == 503:
                return True
        return False

    async def remove(self) -> None:
        assert self._filler
        self._filler.unlink()

    async def noticed(self) -> bool:
        """The engine that died is taken out."""
        healthy = await self.house.healthy()
        return healthy is not None and self.house.names[0] not in healthy

    async def mended(self) -> bool:
        known = await self.house.registered()
        return known is not None and known >= set(self.house.names) and await self.house.ready()


def killed(role: str) -> Callable[[Stage], Fault]:
    """A maker of a fault that kills a part."""
    return lambda stage: PartFault(stage, role)


def frozen(role: str) -> Callable[[Stage], Fault]:
    """A maker of a fault that freezes a part which somebody replaces."""
    return lambda stage: FrozenPart(stage, role)
