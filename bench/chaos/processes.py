"""The processes of a house, found by what they are, and what is done to them.

Owns `Part`, finding parts below a root, and signals to them. May not live here: starting them (`stage`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from bench.common import cpu
from bench.common.processes import BenchError

POLL = 0.05


class Part(NamedTuple):
    """A process of a house: `registry`, `router`, `control`, `worker`, `babysitter`, `engine`."""

    pid: int
    role: str
    name: str


def parts(root: int, role: str = "", name: str = "") -> list[Part]:
    """The parts below a process, itself included, of one role or all, of one name or all."""
    found = [part for pid in cpu.tree([root]) if (part := _part(pid))]
    return [part for part in found if role in ("", part.role) and name in ("", part.name)]


def _part(pid: int) -> Part | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return None
    if "enginehouse.app" in words:
        role, given = words[words.index("enginehouse.app") + 1], json.loads(words[-1])
        return Part(pid, role, str(given.get("name", given.get("index", ""))))
    if "enginehouse.cli.main" in words:
        command = words[words.index("enginehouse.cli.main") + 1]
        if command in ("router", "registry"):
            return Part(pid, command, command)
    if "--name" in words or "--alias" in words:  # of a simulated engine, and of llama.cpp
        flag = "--name" if "--name" in words else "--alias"
        return Part(pid, "engine", words[words.index(flag) + 1])
    return None


def send(pids: list[int], number: int) -> None:
    """A signal to each that still lives."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill(pids: list[int]) -> None:
    """`kill -9`."""
    send(pids, signal.SIGKILL)


async def until(what: str, holds: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Wait until something holds. Raises `BenchError` naming it at the deadline."""
    deadline = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > deadline:
            raise BenchError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(POLL)


async def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 1.0)
    except OSError:
        return False
    writer.close()
    return True
