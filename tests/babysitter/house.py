"""A babysitter as a process and a registry beside it, and how tests look at them: from outside.

Owns starting, waiting with a deadline, and leaving nothing behind. May not live here: assertions of a test.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psutil

from enginehouse.core.config.registry import RegistryConfig
from enginehouse.registry.main import serve

ENGINE = Path(__file__).with_name("engine.py")
DEADLINE = 60.0
T = TypeVar("T")


async def until(what: str, ask: Callable[[], Awaitable[T | None]], deadline: float = DEADLINE) -> T:
    """Ask again and again until there is an answer. Fails, naming what was waited for, after the deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + deadline
    while loop.time() < end:
        if answer := await ask():
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {deadline:g} s: {what}")


async def gone(pids: list[int]) -> None:
    """Wait until none of these processes is alive (a zombie is not)."""

    async def all_gone() -> bool:
        return not any(alive(pid) for pid in pids)

    await until(f"end of {pids}", all_gone)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Registry:
    """A real registry in this process, on a port that stays the same when it is started again."""

    def __init__(self, port: int, journal: str = "") -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._config = RegistryConfig(host="127.0.0.1", port=port, journal=journal)
        self._serving: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    async def start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self._stop = asyncio.Event()
        self._serving = asyncio.create_task(serve(self._config, "", listener, self._stop))

    async def stop(self) -> None:
        if self._serving:
            self._stop.set()
            await self._serving
            self._serving = None

    async def service(self, name: str) -> dict[str, Any] | None:
        """What is registered under a name."""
        status, body = await get(f"{self.url}/services/{name}")
        return body if status == 200 else None

    async def has(self, name: str) -> dict[str, Any]:
        return await until(f"registration of {name}", lambda: self.service(name))

    async def lacks(self, name: str, deadline: float = DEADLINE) -> None:
        async def absent() -> bool:
            status, _ = await get(f"{self.url}/services/{name}")
            return status == 404

        await until(f"no registration of {name}", absent, deadline)


async def get(url: str, timeout: float = 10.0) -> tuple[int, Any]:
    """Status and JSON body; status 0 where nobody answers."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session,
            session.get(url) as response,
        ):
            return response.status, await response.json(content_type=None)
    except (aiohttp.ClientError, OSError):
        return 0, None


class Sitter:
    """A babysitter process and all it printed."""

    def __init__(self, process: asyncio.subprocess.Process, config: dict[str, Any]) -> None:
        self.process = process
        self.config = config
        self.url = f"http://127.0.0.1:{config['port'] + 1}"
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().rstrip("\n"))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    async def says(self, words: str) -> str:
        """Wait for a line with these words."""

        async def found() -> str | None:
            assert self.process.returncode is None or self._reading.done() is False or words in self.text, self.text
            return next((line for line in self.lines if words in line), None)

        try:
            return await until(repr(words), found)
        except AssertionError as error:
            raise AssertionError(f"{error}; printed:\n{self.text}") from None

    async def health(self) -> tuple[int, dict[str, Any]]:
        return await get(f"{self.url}/health")

    async def becomes(self, status: str) -> dict[str, Any]:
        """Wait for a status in /health; its body."""
        seen: list[str] = []

        async def reached() -> dict[str, Any] | None:
            assert self.process.returncode is None, self.text
            _, body = await self.health()
            if body and body["status"] not in seen[-1:]:
                seen.append(body["status"])
            return body if body and body["status"] == status else None

        try:
            return await until(status, reached)
        except AssertionError as error:
            raise AssertionError(f"{error}; /health said {seen}; printed:\n{self.text}") from None

    def family(self) -> list[int]:
        """The pids of the guard, the engine and everything below; none once the babysitter has ended."""
        try:
            return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(DEADLINE):
            status = await self.process.wait()
            await self._reading
        return status


def engine_args(port: int, **options: Any) -> dict[str, Any]:
    """`[backend]` for the misbehaving engine."""
    return {
        "type": "command",
        "command": f"{sys.executable} -I -S {ENGINE}",
        "args": [json.dumps({"port": port, **options})],
    }


def sim_args(port: int, **settings: Any) -> dict[str, Any]:
    """`[backend]` for a simulated engine."""
    args = [json.dumps({"port": port, **settings})]
    return {"type": "command", "command": f"{sys.executable} -m enginehouse.sim", "args": args}


def toml(value: Any) -> str:
    """A value as TOML: JSON but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


@asynccontextmanager
async def sitter(tmp_path: Path, config: dict[str, Any], **environment: str) -> AsyncIterator[Sitter]:
    """A babysitter process; at the end it is stopped if it still runs, and nothing of it may be left."""
    limits = {
        "log_dir": str(tmp_path / "logs"),
        "restart_delay": 0.1,
        "max_restart_delay": 1.0,
        "heartbeat_interval": 0.3,
        "probe_interval": 0.2,
        "probe_timeout": 2.0,
        "drain_timeout": 5.0,
        "stop_timeout": 2.0,
    }
    config = config | {"bind": "127.0.0.1", "babysitter": limits | config.get("babysitter", {})}
    file = tmp_path / f"{config['name']}.toml"
    file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in config.items()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "enginehouse.cli.main", "babysitter", "--config-file", str(file)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
        limit=1 << 20,
    )
    sitting = Sitter(process, config)
    try:
        yield sitting
    finally:
        family = sitting.family() if process.returncode is None else []
        await sitting.stop(signal.SIGKILL)
        await gone(family)
