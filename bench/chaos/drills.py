"""What is done on purpose, and must cost nobody anything.

Owns a rolling restart, a drained engine, and a reload of the router. May not live here: failures.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from bench.chaos.client import fetch
from bench.chaos.faults import Fault
from bench.chaos.house_faults import PartFault
from bench.chaos.processes import Part, send, until
from bench.chaos.stage import START, House, Stage
from bench.common.processes import BenchError, Process


class RollingRestart(Fault):
    """Each babysitter is told to end, which ends its engine in order; when both are back, the next one."""

    lasts = False

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._task: asyncio.Task[None] | None = None

    async def inject(self) -> None:
        self._task = asyncio.create_task(self._roll())

    async def _roll(self) -> None:
        for old in self.stage.parts("babysitter"):
            send([old.pid], signal.SIGTERM)

            async def back(old: Part = old) -> bool:
                new = [part.pid for part in self.stage.parts("babysitter", old.name)]
                return bool(new) and old.pid not in new and await self.stage.ready()

            await until(f"{old.name} is back", back, START)

    async def noticed(self) -> bool:
        """What is done on purpose need not be noticed."""
        return False

    async def mended(self) -> bool:
        return self._over() and await self.stage.ready()

    def _over(self) -> bool:
        assert self._task
        return self._task.done() and self._task.result() is None


class Reload(PartFault):
    """`enginehouse reload`."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, "worker")
        self._before: set[int] = set()

    async def act(self) -> None:
        self._before = set(self.stage.pids("worker"))
        url = f"http://127.0.0.1:{self.stage.port}"
        command = [sys.executable, "-m", "enginehouse.cli.main", "reload", "--router", url]
        self.stage.processes.start("reload", command, ())

    async def noticed(self) -> bool:
        """What is done on purpose need not be noticed."""
        return False

    async def mended(self) -> bool:
        """All workers are others. Old ones may still be there, with streams that go on."""
        new = {part.pid for part in self.stage.parts("worker")} - self._before
        return len(new) >= len(self._before) and await self.stage.ready()


class Drained(Fault):
    """`enginehouse drain`: no new requests for an engine, until that is taken back."""

    def __init__(self, stage: Stage) -> None:
        assert isinstance(stage, House)
        self.house = stage
        self._had = 0

    async def inject(self) -> None:
        await self._drain("--wait")
        self._had = await self._requests()

    async def remove(self) -> None:
        more = await self._requests() - self._had
        await self._drain("--undo")
        if more:
            raise BenchError(f"a drained engine was sent {more} requests")

    async def noticed(self) -> bool:
        """What is done on purpose need not be noticed."""
        return False

    async def mended(self) -> bool:
        return await self.house.ready() and await self._requests() > self._had

    async def _drain(self, *words: str) -> None:
        url = f"http://127.0.0.1:{self.house.port}"
        command = [sys.executable, "-m", "enginehouse.cli.main", "drain", "a", "--router", url, *words]
        process = self.house.processes.start("drain", command, ())

        async def over() -> bool:
            return process.popen.poll() is not None

        await until("`enginehouse drain` ends", over, START)
        _require_success(process)

    async def _requests(self) -> int:
        _, told = await fetch(self.house.engine_port("a"), "/sim/stats")
        return int(told["requests"]) if told else 0


def _require_success(process: Process) -> None:
    if process.popen.returncode:
        raise BenchError(f"{process.name} ended with status {process.popen.returncode}: {process.output()[-500:]}")
