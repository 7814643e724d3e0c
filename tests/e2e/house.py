"""A whole house as real processes: made from a file, looked at from outside, killed part by part.

Owns the file, knowing when its parts are ready, and finding its processes. May not live here: what is asked of a house
(`load` and the tests), assertions of one test.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.program import DEADLINE, Program, accepts, get, until, until_so
from tests.ports import Ports

Table = dict[str, Any]


class House(Program):
    """`enginehouse up` of a file made here, on ports the system chose, everything it writes inside `folder`."""

    def __init__(self, engines: list[Table], ports: Ports, folder: Path, **router: Any) -> None:
        """`engines`: as `simulated` makes them; `router`: its settings."""
        self.workers = router.get("workers", 1)
        self.port, self.registry_port = ports.one(), ports.one()
        self.url, self.registry_url = (f"http://127.0.0.1:{port}" for port in (self.port, self.registry_port))
        self.engines = {engine["name"]: completed(engine, ports.pair(), folder) for engine in engines}
        registry = {"host": "127.0.0.1", "port": self.registry_port, "journal": str(folder / "registry.db")}
        table = {
            "registry": registry,
            "router": {"host": "127.0.0.1", "port": self.port} | router,
            "engine": list(self.engines.values()),
        }
        self.file = folder / "house.toml"
        self.file.write_text("".join(f"{key} = {toml(value)}\n" for key, value in table.items()))
        super().__init__("up", str(self.file), folder=folder)

    def engine_url(self, name: str) -> str:
        """The engine's own address, past the router."""
        return f"http://127.0.0.1:{self.engines[name]['port']}"

    # waiting

    async def ready(self, *names: str) -> None:
        """Until the router sends requests to these engines (to all of them where none is named)."""
        wanted = {f"{name}-server" for name in names or self.engines}

        async def all_known() -> bool:
            assert self.process.poll() is None, self.output
            return wanted <= await self.healthy() and await self._told()

        try:
            await until(f"readiness of {sorted(wanted)}", all_known, 2 * DEADLINE)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.output}") from None

    async def healthy(self) -> set[str]:
        """Names of the services the router sends requests to now."""
        status, body = await get(f"{self.url}/services")
        return {service["name"] for service in body["services"] if service["healthy"]} if status == 200 else set()

    async def _told(self) -> bool:
        """Whether every worker has the newest fleet: control knows everything a moment earlier than they do."""
        status, body = await get(f"{self.url}/stats")
        workers = {worker["worker"]: worker["fleet_version"] for worker in body["workers"]} if status == 200 else {}
        return len(workers) == self.workers and set(workers.values()) == {body["fleet_version"]}

    async def models(self) -> set[str]:
        """What `/v1/models` lists now."""
        status, body = await get(f"{self.url}/v1/models")
        assert status == 200, body
        return {model["id"] for model in body["data"]}

    async def registered(self) -> set[str]:
        """Names in the registry; empty while it does not answer."""
        status, body = await get(f"{self.registry_url}/services")
        return {service["name"] for service in body["services"]} if status == 200 else set()

    async def idle(self) -> None:
        """Until the router counts nothing in flight on any service: no slot was lost."""

        async def none_in_flight() -> bool:
            status, body = await get(f"{self.url}/stats")
            return status == 200 and not any(each["in_flight"] for each in body["details"].values())

        await until("no request in flight", none_in_flight)

    # processes

    def pid_of(self, role: str, name: str = "") -> int:
        """The pid of `registry`, `router`, `control`, `worker 0`, `babysitter NAME` or `engine NAME`.

        Raises `LookupError` while there is none.
        """
        if role == "engine":
            guard = children(self.pid_of("babysitter", name))
            found = [child.pid for each in guard for child in children(each.pid)]
        else:
            parent = self.pid_of("router") if role in ("control", "worker") else self.pid
            given: Table = {"index": int(name)} if role == "worker" else {"name": name} if name else {}
            found = [child.pid for child in children(parent) if is_part(child, role, given)]
        if not found:
            raise LookupError(f"no process of {role} {name}")
        return found[0]

    def kill9(self, role: str, name: str = "") -> int:
        """SIGKILL to a part; its pid."""
        pid = self.pid_of(role, name)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def successor(self, old: int, role: str, name: str = "", deadline: float = DEADLINE) -> int:
        """The pid of the process that took a part's place."""

        def another() -> int | None:
            try:
                pid = self.pid_of(role, name)
            except (LookupError, psutil.NoSuchProcess):
                return None
            return pid if pid != old else None

        return await until_so(f"a new {role} {name}", another, deadline)

    async def close(self) -> None:
        """Also: every slot was given back, and its ports refuse connections."""
        try:
            if self.process.poll() is None:
                await self.idle()
        finally:
            await super().close()
        ports = [self.port, self.registry_port]
        for engine in self.engines.values():
            ports += [engine["port"], engine["port"] + 1]
        assert not [port for port in ports if await accepts(port)]


def children(pid: int) -> list[psutil.Process]:
    """The direct children of a process."""
    return psutil.Process(pid).children()


def is_part(process: psutil.Process, role: str, given: Table) -> bool:
    """Whether it is the process of a role that was handed these values."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    if "enginehouse.app" not in words or role not in words:
        return False
    return given.items() <= json.loads(words[-1]).items()


# what a house is made of


def simulated(name: str, *models: str, restart_delay: float = 0.1, **flags: Any) -> Table:
    """A simulated engine for a house; `flags` are those of `enginehouse sim`: `ready_after=10`."""
    words = [word for flag, value in flags.items() for word in flag_words(flag, value)]
    return {
        "name": name,
        "backend": {"type": "mock", "models": models, "args": words},
        "babysitter": {"restart_delay": restart_delay},
    }


def real(name: str, model: str, cache: Path, serves: tuple[str, ...] = (), **flags: Any) -> Table:
    """llama.cpp with a small real model for a house; `flags` are those of its launcher: `parallel=2`.

    `serves`: names under which it is registered; its own, the model's, where none are given.
    """
    flags |= {"cache": cache, "alias": model}
    words = [word for flag, value in flags.items() for word in flag_words(flag, value)]
    backend = {"type": "llama.cpp", "command": "{python} -m enginehouse.engines.llamacpp", "model": model}
    metadata = {"models_list": [{"id": each, "object": "model"} for each in serves]} if serves else {}
    return {"name": name, "backend": {**backend, "args": words}, "metadata": metadata}


def flag_words(flag: str, value: Any) -> list[str]:
    """One setting as words of a command line."""
    name = "--" + flag.replace("_", "-")
    return [name] * value if isinstance(value, bool) else [name, str(value)]


def completed(engine: Table, port: int, folder: Path) -> Table:
    """The same engine on a port, its log inside the folder."""
    limits = {"log_dir": str(folder / "logs"), **engine.get("babysitter", {})}
    return {**engine, "port": port, "host": "127.0.0.1", "bind": "127.0.0.1", "babysitter": limits}


def toml(value: object) -> str:
    """A value as TOML: JSON but for tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)
