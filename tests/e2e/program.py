"""An `enginehouse` command as a real process: started as a user starts it, ended, and the proof that nothing remains.

Owns `Program`, and waiting with deadlines. May not live here: what the command is made of (see `house`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psutil

from tests.sim import raw

DEADLINE = 30.0  # seconds; for what takes a fraction of one on an idle machine
POLL = 0.02
MARK = "ENGINEHOUSE_E2E_MARK"
T = TypeVar("T")


async def until(
    what: str, ask: Callable[[], Awaitable[T | None]], deadline: float = DEADLINE, pause: float = POLL
) -> T:
    """Ask again and again until the answer is true, and give it. Fails, naming what was awaited, at the deadline."""
    end = time.monotonic() + deadline
    while not (answer := await ask()):
        assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
        await asyncio.sleep(pause)
    return answer


async def until_so(what: str, look: Callable[[], T | None], deadline: float = DEADLINE) -> T:
    """The same for what can be seen without awaiting anything."""

    async def ask() -> T | None:
        return look()

    return await until(what, ask, deadline)


async def get(url: str, timeout: float = DEADLINE) -> tuple[int, Any]:
    """Status and JSON body of a GET on a connection of its own; status 0 where nobody answers."""
    limit = aiohttp.ClientTimeout(total=timeout)
    try:
        async with aiohttp.ClientSession(timeout=limit) as session, session.get(url) as answer:
            return answer.status, await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError):
        return 0, None


async def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        async with raw.line(port):
            return True
    except ConnectionRefusedError:
        return False


class Program:
    """An `enginehouse` command as a process in a session of its own; everything it starts carries a mark of ours."""

    def __init__(self, *arguments: str, folder: Path) -> None:
        self._mark = uuid.uuid4().hex
        self._output = folder / f"{arguments[0]}-{self._mark[:8]}.out"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "enginehouse.cli.main", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, MARK: self._mark},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process itself."""
        return self.process.pid

    @property
    def output(self) -> str:
        """Everything it and its children printed."""
        return self._output.read_text(errors="replace")

    async def first_line(self) -> str:
        """The first line it prints: a URL, for those that serve."""
        await until_so("a line printed by a process that lives", lambda: "\n" in self._living_output())
        return self.output.splitlines()[0]

    def _living_output(self) -> str:
        assert self.process.poll() is None, f"it ended with exit status {self.process.returncode}:\n{self.output}"
        return self.output

    def ctrl_c(self) -> None:
        """As a terminal does it: SIGINT to the foreground process group."""
        os.killpg(self.pid, signal.SIGINT)

    async def ended(self, deadline: float = DEADLINE) -> int:
        """The exit status, as soon as it has ended."""
        await until_so("its end", lambda: self.process.poll() is not None, deadline)
        return self.process.returncode

    def remains(self) -> list[str]:
        """Every living process that descends from it, however far removed, and itself."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())}")
            except psutil.Error:  # ended meanwhile, or somebody else's
                continue
        return found

    async def nothing_remains(self, deadline: float = DEADLINE) -> None:
        """Until no process of it is left."""
        try:
            await until_so("the end of all its processes", lambda: not self.remains(), deadline)
        except AssertionError as failure:
            raise AssertionError(f"{failure}; left: {self.remains()}") from None

    async def close(self) -> None:
        """End it in order if it runs, print what it said (seen where the test failed), and leave nothing behind."""
        try:
            if self.process.poll() is None:
                self.ctrl_c()
                assert await self.ended() == 0
            await self.nothing_remains()
        finally:
            print(f"--- output of pid {self.pid}\n{self.output}")
            for line in self.remains():
                os.kill(int(line.split()[0]), signal.SIGKILL)
            self.process.wait(DEADLINE)
