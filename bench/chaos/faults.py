"""What goes wrong with an engine.

Owns `Fault`, which every fault is, and those of one of two simulated engines in a static file. May not live here:
faults of the house's own processes (`house_faults`) and of the machine (`system_faults`), when they happen (`row`).
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable

from bench.chaos.processes import listens, send, until
from bench.chaos.stage import MODEL, START, Plain, Stage
from bench.common.processes import Process

#: Seconds that a flapping engine is down, and up.
FLAP = 0.7
#: Seconds between two deaths of engines that die in turn: long enough for the streams to be in their middle.
BETWEEN_KILLS = 1.0


class Fault:
    """Something that goes wrong on a stage. `lasts` False: it happens once, and nobody has to take it back; then it is
    `mended` not before something has happened at all."""

    lasts = True

    async def inject(self) -> None:
        """It goes wrong now."""
        raise NotImplementedError

    async def remove(self) -> None:
        """It goes wrong no more."""

    async def noticed(self) -> bool:
        """Whether the house has noticed, asked from the injection on."""
        raise NotImplementedError

    async def mended(self) -> bool:
        """Whether everything is as before, asked from the removal on."""
        raise NotImplementedError


class EngineFault(Fault):
    """The first engine of a plain stage is the one that it happens to."""

    def __init__(self, stage: Stage) -> None:
        assert isinstance(stage, Plain)
        self.stage = stage
        self.engine = stage.engines[0]

    async def noticed(self) -> bool:
        """It is taken out."""
        healthy = await self.stage.healthy()
        return healthy is not None and self.engine.name not in healthy

    async def mended(self) -> bool:
        return await self.stage.ready()


class Killed(EngineFault):
    """`kill -9`; the removal starts it again."""

    async def inject(self) -> None:
        self.engine.end()

    async def remove(self) -> None:
        await self.engine.start()


class Frozen(EngineFault):
    """SIGSTOP; its port still takes connections."""

    async def inject(self) -> None:
        send([self.engine.pid], signal.SIGSTOP)

    async def remove(self) -> None:
        send([self.engine.pid], signal.SIGCONT)


class Simulated(EngineFault):
    """A fault that the simulated engine acts out itself."""

    def __init__(self, stage: Stage, *faults: str) -> None:
        super().__init__(stage)
        self._faults = faults

    async def inject(self) -> None:
        await self.engine.faults(*self._faults)

    async def remove(self) -> None:
        await self.engine.faults()


class Repeated(EngineFault):
    """Something that happens again and again, in a task, until it is removed."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self._task: asyncio.Task[None] | None = None

    async def inject(self) -> None:
        self._task = asyncio.create_task(self.again_and_again())

    async def again_and_again(self) -> None:
        """What happens, for ever."""
        raise NotImplementedError

    async def remove(self) -> None:
        """Not in the middle of it."""
        assert self._task
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()
        for engine in self.stage.engines:
            if not await listens(engine.port):
                await engine.start()


class Flapping(Repeated):
    """Killed and started in quick succession."""

    async def again_and_again(self) -> None:
        while True:
            self.engine.end()
            await asyncio.sleep(FLAP)
            await self.engine.start()
            await asyncio.sleep(FLAP)


class KilledInTurn(Repeated):
    """One after the other is killed in the middle of its streams, and the next one when the first is back."""

    def __init__(self, stage: Stage, between: float = BETWEEN_KILLS) -> None:
        super().__init__(stage)
        self._between = between

    async def again_and_again(self) -> None:
        while True:
            for engine in self.stage.engines:
                engine.end()
                await asyncio.sleep(BETWEEN_KILLS)
                await engine.start()
                await until("both engines take requests", self.stage.ready, START)
                await asyncio.sleep(self._between)


class PortReused(EngineFault):
    """It is killed, and another program listens on its port at once."""

    def __init__(self, stage: Stage, start: Callable[[Stage, int], Awaitable[Process]]) -> None:
        super().__init__(stage)
        self._start = start
        self._other: Process | None = None

    async def inject(self) -> None:
        self.engine.end()
        self._other = await self._start(self.stage, self.engine.port)

    async def remove(self) -> None:
        if self._other:
            self.stage.processes.stop(self._other)
        await self.engine.start()


async def web_server(stage: Stage, port: int) -> Process:
    """Python's: 404 for what it is asked with GET, 501 for POST."""
    empty = stage.folder / f"web-{time.monotonic_ns()}"
    empty.mkdir()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(empty)]
    process = stage.processes.start("web-server", command, ())
    await until("a web server listens on the engine's port", lambda: listens(port), START)
    return process


async def other_engine(stage: Stage, port: int) -> Process:
    """An engine that serves another model."""
    settings = f'{{"name": "other", "port": {port}, "models": ["not-{MODEL}"]}}'
    process = stage.processes.start("other-engine", [sys.executable, "-m", "enginehouse.sim", settings], ())
    await until("another engine listens on the engine's port", lambda: listens(port), START)
    return process


def simulated(*faults: str) -> Callable[[Stage], Fault]:
    """A maker of `Simulated`."""
    return lambda stage: Simulated(stage, *faults)


def reused(start: Callable[[Stage, int], Awaitable[Process]]) -> Callable[[Stage], Fault]:
    """A maker of `PortReused`."""
    return lambda stage: PortReused(stage, start)
