"""One run of an engine: a process under its guard.

Owns starting it, passing signals on, and learning how it ended. May not live here: whether it should run (the child
machine), what it prints (`logs`), whether it is ready (`readiness`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys

from enginehouse.babysitter import guard
from enginehouse.babysitter.guard import Order

#: Seconds for the guard to start and to fork; it takes milliseconds.
START_DEADLINE = 20.0
#: Seconds for the guard to kill everything: its own deadline, and some more.
END_DEADLINE = guard.KILL_DEADLINE + 2.0


class CannotStart(Exception):
    """The process could not be made at all; the message says why."""


class Process:
    """A running engine. Made by `spawn`; `exited` and `gone` may be awaited any number of times."""

    def __init__(
        self, guarding: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ):
        self.pid = 0
        """Of the engine's first process; also its process group."""
        self._guard = guarding
        self._reader, self._writer = reader, writer
        self._failure = ""
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[None] = loop.create_future()
        self._reported: asyncio.Future[str] = loop.create_future()
        self._following = asyncio.create_task(self._follow())

    async def exited(self) -> str:
        """Wait for the end of the engine's first process; how it ended, in words."""
        return await asyncio.shield(self._reported)

    async def gone(self) -> None:
        """Wait until no descendant is left, by force where that takes the guard too long."""
        try:
            await asyncio.wait_for(self._guard.wait(), END_DEADLINE)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._guard.kill()
            await self._guard.wait()
        await self._following
        self._writer.close()

    def terminate(self) -> None:
        """SIGTERM to the engine's process group."""
        self._pass_on(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the engine and all its descendants."""
        self._pass_on(signal.SIGKILL)

    def _pass_on(self, number: signal.Signals) -> None:
        if not self._writer.is_closing():
            self._writer.write(bytes([number]))

    async def _follow(self) -> None:
        """Read what the guard reports, to its end."""
        with contextlib.suppress(ConnectionError):
            while line := (await self._reader.readline()).decode(errors="replace").strip():
                word, _, rest = line.partition(" ")
                match word:
                    case "pid":
                        self.pid = int(rest)
                    case "failed":
                        self._failure = rest
                    case "exited":
                        self._report(f"cannot be started: {self._failure}" if self._failure else ending(int(rest)))
                if not self.started.done():
                    self.started.set_result(None)
        if not self._reported.done():
            # The guard itself was killed. The kernel has killed the first process with it; the group may have others.
            if self.pid:
                with contextlib.suppress(OSError):
                    os.killpg(self.pid, signal.SIGKILL)
            self._report("its guard process was killed")
        if not self.started.done():
            self.started.set_result(None)

    def _report(self, how: str) -> None:
        if not self._reported.done():
            self._reported.set_result(how)


async def spawn(order: Order, output: int) -> Process:
    """Start an engine. `output` is a descriptor that its standard output and error go to.

    Raises `CannotStart` where not even the guard could be started; a program that cannot be executed is told by
    `exited`.
    """
    ours, theirs = socket.socketpair()
    try:
        guarding = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", guard.__file__, str(theirs.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise CannotStart(f"the guard process cannot be started: {error.strerror}") from None
    finally:
        theirs.close()
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    process = Process(guarding, reader, writer)
    writer.write(order.pack())
    # No signal may be sent before the order is taken: it would be read as a part of it.
    await asyncio.wait([process.started], timeout=START_DEADLINE)
    if not process.started.done():
        writer.close()
        await process.gone()
        raise CannotStart(f"the guard process took no order within {START_DEADLINE:g} s")
    return process


def ending(code: int) -> str:
    """An exit status, or minus a signal's number, in words."""
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
