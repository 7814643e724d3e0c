"""Where it happens: two engines and a router without a registry, or a whole house; started, looked at, ended.

Owns `Stage` and its two kinds, `Engine`, and the settings of the lab. May not live here: what goes wrong, what is
asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.chaos.client import fetch
from bench.chaos.processes import Part, listens, parts, until
from bench.common import cpu
from bench.common.processes import BenchError, Process, Processes, free_port

#: The model that every engine serves.
MODEL = "lab"
WORKERS = 2
#: Seconds for something to start.
START = 60.0
#: The router's times are short, so that a row takes seconds; everything else is as it is by default.
ROUTER: dict[str, Any] = {
    "host": "127.0.0.1",
    "workers": WORKERS,
    "health_interval": 1,
    "health_timeout": 1,
    "connect_timeout": 1,
    "first_byte_timeout": 3,
    "idle_timeout": 3,
    "ejection_time": 2,
    "resolve_interval": 1,
    "registry_sync_interval": 1,
}
#: Tokens of an answer, but for streams that are long on purpose.
TOKENS = 20
#: A simulated engine: a stream of so many tokens takes 0.3 s.
PACE: dict[str, Any] = {"ttft": 0.02, "time_per_token": 0.015, "tokens": 60}
BABYSITTER: dict[str, Any] = {"restart_delay": 0.2, "heartbeat_interval": 2, "probe_interval": 1, "probe_timeout": 1}


class Engine:
    """An engine on a port that stays the same when it is started again. `words`: see `simulated`."""

    def __init__(self, processes: Processes, name: str, words: Callable[[str, int], Sequence[str]]) -> None:
        self.name = name
        self.port = free_port()
        self._processes = processes
        self._command = [sys.executable, "-m", *words(name, self.port)]
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process
        return self._process.pid

    async def start(self) -> None:
        """Start it, again where it was killed, and wait until it listens."""
        self.end()
        self._process = self._processes.start(self.name, self._command, ())
        await until(f"engine {self.name} listens", lambda: listens(self.port), START)

    def end(self) -> None:
        """`kill -9`, if it runs."""
        if self._process:
            self._process.popen.kill()
            self._process.popen.wait()
            self._processes.running.remove(self._process)
            self._process = None

    async def faults(self, *wanted: str) -> None:
        """From now on these go wrong, see `enginehouse.sim.faults`; none: nothing does."""
        status, told = await fetch(self.port, "/sim/faults", msgspec.json.encode({"faults": wanted}))
        if status != 200:
            raise BenchError(f"engine {self.name} does not take the faults {wanted}: {status} {told}")


def simulated(**settings: Any) -> Callable[[str, int], Sequence[str]]:
    """The words behind `python -m` for a simulated engine of a name on a port."""

    def words(name: str, port: int) -> Sequence[str]:
        told = {"name": name, "port": port, "models": [MODEL], **PACE, **settings}
        return ["enginehouse.sim", json.dumps(told)]

    return words


class Stage:
    """What every kind has. `names`: of the services, the first is the one that something happens to."""

    workers = WORKERS

    def __init__(self, processes: Processes, folder: Path) -> None:
        """`folder`: an empty one, for everything that is written."""
        self.processes = processes
        self.folder = folder
        self.port = free_port()
        self.names: list[str] = []
        self.root: Process

    async def start(self, prefix: Sequence[str] = ()) -> None:
        """Start everything, and wait until all services take requests. `prefix`: words before the command."""
        raise NotImplementedError

    def engine_port(self, name: str) -> int:
        """Of an engine itself, past the router."""
        raise NotImplementedError

    async def healthy(self) -> set[str] | None:
        """The services that the router sends requests for the model to; None while it does not say."""
        status, told = await fetch(self.port, "/services")
        return _serving(told) if status == 200 and told else None

    async def stats(self) -> dict[str, Any] | None:
        """The router's own account."""
        status, told = await fetch(self.port, "/stats")
        return told if status == 200 else None

    async def ready(self) -> bool:
        """Whether all services are healthy and every worker knows them."""
        told = await self.stats()
        if told is None or not _serving(told) >= set(self.names):
            return False
        versions = [worker["fleet_version"] for worker in told["workers"]]
        return len(versions) >= self.workers and set(versions) == {told["fleet_version"]}

    async def idle(self) -> bool:
        """Whether the router counts nothing in flight."""
        told = await self.stats()
        return told is not None and not any(each["in_flight"] for each in told["details"].values())

    def parts(self, role: str = "", name: str = "") -> list[Part]:
        """Its processes."""
        return parts(self.root.pid, role, name)

    def pids(self, role: str, name: str = "") -> list[int]:
        """Of parts of a role; `BenchError` where there is none."""
        if found := [part.pid for part in self.parts(role, name)]:
            return found
        raise BenchError(f"no process of {role} {name}")

    def memory(self) -> int:
        """Resident bytes of all workers."""
        return sum(cpu.rss(part.pid) for part in self.parts("worker"))

    async def _until_ready(self) -> None:
        async def so() -> bool:
            self.root.require_alive()
            return await self.ready()

        try:
            await until(f"{self.names} are ready", so, START)
        except BenchError as error:
            raise BenchError(f"{error}\n{self.root.output()[-2000:]}") from None


def _serving(told: Mapping[str, Any]) -> set[str]:
    """Names of the services that are well and have the model."""
    return {each["name"] for each in told["services"] if each["healthy"] and MODEL in each["models"]}


class Plain(Stage):
    """Two engines in a static file, and a router: no babysitter interferes."""

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        *,
        engine: Callable[[str, int], Sequence[str]] | None = None,
        host: str = "127.0.0.1",
        router: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """`engine`: as for `Engine`; `host`: by which the router knows the first one; `router`: further settings."""
        super().__init__(processes, folder)
        self.engines = [Engine(processes, name, engine or simulated()) for name in ("a", "b")]
        self.names = [each.name for each in self.engines]
        hosts = {"a": host, "b": "127.0.0.1"}
        told = [
            {"name": each.name, "host": hosts[each.name], "port": each.port, "metadata": dict(metadata or {})}
            for each in self.engines
        ]
        (folder / "static.json").write_text(json.dumps(told))
        settings = {**ROUTER, **(router or {}), "port": self.port, "static_services": str(folder / "static.json")}
        (folder / "lab.toml").write_text(toml({"router": settings}))

    def engine_port(self, name: str) -> int:
        return next(each.port for each in self.engines if each.name == name)

    async def start(self, prefix: Sequence[str] = ()) -> None:
        await asyncio.gather(*[each.start() for each in self.engines])
        command = [sys.executable, "-m", "enginehouse.cli.main", "router", "--config", str(self.folder / "lab.toml")]
        self.root = self.processes.start("router", [*prefix, *command], (), self.folder)
        await self._until_ready()


class House(Stage):
    """`enginehouse up`: registry, router, and two engines, each with its babysitter."""

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        backend: Mapping[str, Any] | None = None,
        router: Mapping[str, Any] | None = None,
    ) -> None:
        """`backend`: of both engines, a simulated one where none is given; `router`: further settings."""
        super().__init__(processes, folder)
        self._backend = backend or {"type": "mock", "models": [MODEL], "args": _flags(PACE)}
        self.registry_port = free_port()
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.journal = self.disk / "registry.db"
        self._ports = {name: _pair() for name in ("a", "b")}
        self.names = [f"{name}-server" for name in self._ports]
        registry = {"host": "127.0.0.1", "port": self.registry_port, "journal": str(self.journal)}
        house = {
            "registry": {**registry, "health_interval": 1, "health_timeout": 1},
            "router": {**ROUTER, **(router or {}), "port": self.port},
            "engine": [self._engine(name, port) for name, port in self._ports.items()],
        }
        (folder / "house.toml").write_text(toml(house))

    def _engine(self, name: str, port: int) -> dict[str, Any]:
        return {
            "name": name,
            "port": port,
            "host": "127.0.0.1",
            "bind": "127.0.0.1",
            "babysitter": {**BABYSITTER, "log_dir": str(self.folder / "logs")},
            "backend": self._backend,
        }

    def engine_port(self, name: str) -> int:
        return self._ports[name]

    async def registered(self) -> set[str] | None:
        """Names in the registry; None while it does not answer."""
        status, told = await fetch(self.registry_port, "/services")
        return {each["name"] for each in told["services"]} if status == 200 and told else None

    async def start(self, prefix: Sequence[str] = ()) -> None:
        command = [sys.executable, "-m", "enginehouse.cli.main", "up", str(self.folder / "house.toml")]
        self.root = self.processes.start("house", [*prefix, *command], (), self.folder)
        await self._until_ready()


def _flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of a command line."""
    return [word for key, value in settings.items() for word in ("--" + key.replace("_", "-"), str(value))]


def _pair() -> int:
    """A port that is free, as is the next one, which is the babysitter's."""
    while True:
        with socket.socket() as first, socket.socket() as second, contextlib.suppress(OSError, OverflowError):
            first.bind(("0.0.0.0", 0))
            port = int(first.getsockname()[1])
            second.bind(("0.0.0.0", port + 1))
            return port


def toml(tables: Mapping[str, Any]) -> str:
    """Tables as TOML: JSON but for what is inside."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in tables.items())


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)
