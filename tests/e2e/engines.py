"""Engines as real processes, for any test: simulated ones, and llama.cpp with small real models.

Owns starting, watching and ending them. May not live here: what is asked of them.

`tests/conftest.py` loads this as a plugin, so every test may ask for `sim_engine` and `llama_engine`. A real engine
that cannot be had is an error of the test that wants it, never a skip.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from enginehouse.engines import models
from tests.ports import Ports

START_TIMEOUT = 60.0  # seconds; a loaded machine may need many times the usual half second
STOP_TIMEOUT = 15.0
POLL = 0.01


class EngineProcess:
    """An engine in a process of its own, listening (perhaps still loading) from the moment it is made.

    `url`, `port` and `pid` say where it is. Whoever makes one ends it with `kill9` or `stop`.
    """

    def __init__(self, name: str, arguments: list[str], *, key: str = "", stdin: bytes = b"") -> None:
        self.name = name
        self.key = key
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
        )
        assert self._process.stdin is not None
        self._process.stdin.write(stdin)
        self._process.stdin.close()
        self.pid = self._process.pid
        self.url = self._first_line().removeprefix("listening on ")
        self.port = int(self.url.rpartition(":")[2])

    def _first_line(self) -> str:
        """The first line it prints says where it listens."""
        assert self._process.stdout is not None
        line, deadline = b"", time.monotonic() + START_TIMEOUT
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._process.stdout.fileno(), 1000) if ready else b""
            if not piece:
                self.kill9()
                pytest.fail(f"engine {self.name} did not start:\n{self.errors()}")
            line += piece
        return line.decode().splitlines()[0]

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def errors(self) -> str:
        """The end of what it wrote to standard error."""
        if self._errors.closed:
            return ""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-3000:]

    def kill9(self) -> None:
        """SIGKILL, as a crash; returns when the process has gone."""
        if self.alive:
            self._process.kill()
        self._process.wait(STOP_TIMEOUT)
        self._close()

    def stop(self, timeout: float = STOP_TIMEOUT) -> int:
        """SIGTERM, and SIGKILL when that does not help in time. Returns the exit status (negative: the signal)."""
        if self.alive:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(STOP_TIMEOUT)
        finally:
            self._close()

    def wait(self, timeout: float = STOP_TIMEOUT) -> int:
        """The exit status of a process that ends by itself; raises `subprocess.TimeoutExpired` where it does not."""
        status = self._process.wait(timeout)
        self._close()
        return status

    def signal(self, number: int) -> None:
        """Send a signal, SIGSTOP and SIGCONT for example."""
        self._process.send_signal(number)

    def _close(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request on a connection of its own: the status, and the JSON of the answer (None where it has none)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT)
        try:
            headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith((b"{", b"[")) else None
        finally:
            connection.close()

    async def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Until `/health` answers 200."""
        await self._until(lambda: self.request("GET", "/health")[0] == 200, timeout, "ready")

    async def _until(self, holds: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                if holds():
                    return
            except OSError:
                pass  # refused, as while it starts
            if not self.alive or time.monotonic() > deadline:
                pytest.fail(f"engine {self.name} is not {what}: {self.errors()}")
            await asyncio.sleep(POLL)


class SimProcess(EngineProcess):
    """A simulated engine: what it saw, and what shall go wrong."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        arguments = ["-m", "enginehouse.sim", "-"]  # settings go by standard input: they may hold a key
        super().__init__(
            settings["name"], arguments, key=settings.get("api_key", ""), stdin=json.dumps(settings).encode()
        )

    def stats(self) -> dict[str, Any]:
        """`/sim/stats`: requests, probes, active, aborted, bytes_sent, by_path, last and more."""
        status, told = self.request("GET", "/sim/stats")
        assert status == 200, told
        return dict(told)

    def set_faults(self, *faults: str | dict[str, Any]) -> None:
        """From now on these go wrong (see `enginehouse.sim.faults`), and no others; none: nothing does."""
        status, told = self.request("POST", "/sim/faults", {"faults": faults})
        assert status == 200, told

    async def until(self, holds: Callable[[dict[str, Any]], bool], timeout: float = 10.0) -> dict[str, Any]:
        """Wait until something holds of the stats; gives these stats."""
        seen: dict[str, Any] = {}

        def check() -> bool:
            seen.clear()
            seen.update(self.stats())
            return holds(seen)

        try:
            await self._until(check, timeout, "as awaited")
        except pytest.fail.Exception as failure:
            pytest.fail(f"{failure}; last seen: {seen}")
        return seen


class SimFactory(Protocol):
    """Starts a simulated engine with settings of `SimConfig` by name; `name` is chosen where none is given."""

    def __call__(self, **settings: Any) -> SimProcess:
        """See the class."""


@pytest.fixture
def sim_engine() -> Iterator[SimFactory]:
    """Starts simulated engines; all of them end with the test."""
    started: list[SimProcess] = []

    def start(**settings: Any) -> SimProcess:
        settings.setdefault("name", f"sim-{len(started)}")
        started.append(SimProcess(settings))
        return started[-1]

    yield start
    for each in started:
        each.kill9()


class LlamaFactory(Protocol):
    """Starts llama.cpp with `smollm2`, `minilm` or `tiny`; `kw` are flags of the launcher, as `ctx_size=512`.

    An engine asked for again with the same arguments, and still alive, is the same process. The alias is the model's
    name where none is given.
    """

    def __call__(self, model: str, alias: str = "", **kw: Any) -> EngineProcess:
        """See the class."""


@pytest.fixture(scope="session")
def models_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models that have to be made are kept: one folder for all processes of a test run."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "models"


@pytest.fixture(scope="session")
def llama_engine(models_cache: Path) -> Iterator[LlamaFactory]:
    """Starts real engines, which live until the session ends; each is ready when it is returned."""
    started: dict[tuple[str, ...], EngineProcess] = {}
    everything: list[EngineProcess] = []

    def start(model: str, alias: str = "", **kw: Any) -> EngineProcess:
        flags = llama_arguments(models_cache, model, alias, **kw)
        known = started.get(flags)
        if known is None or not known.alive:
            known = started[flags] = EngineProcess(alias or model, list(flags))
            everything.append(known)
        return known

    yield start
    for each in everything:
        each.kill9()


def llama_arguments(cache: Path, model: str, alias: str = "", **kw: Any) -> tuple[str, ...]:
    """What to put after `python` for a real engine; makes the model first, so that a start is short."""
    if model in models.SOURCES:
        models.find(model, cache)
    flags = ["-m", "enginehouse.engines.llamacpp", "--model", model, "--cache", str(cache)]
    flags += ["--alias", alias or model, "--port", str(kw.pop("port", 0))]
    for key, value in {"embedding": model == "minilm", **kw}.items():
        flag = "--" + key.replace("_", "-")
        flags += ([flag] if value else []) if isinstance(value, bool) else [flag, str(value)]
    return tuple(flags)


def free_port_pair() -> int:
    """A free port whose successor is free too. Nobody holds it: the fixture `ports` does, and is better."""
    ports = Ports()
    try:
        return ports.pair()
    finally:
        ports.release()
