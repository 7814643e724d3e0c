"""The simulated engine as a server and as a process.

Owns its listener (which the fault `refuse` closes for a while), the time it takes to load, and how the process starts
and stops. May not live here: connections (`conn`), answers (`api`).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from pathlib import Path

import uvloop

from enginehouse.core.config.base import ConfigError
from enginehouse.core.config.sim import SimConfig
from enginehouse.sim.conn import Conn
from enginehouse.sim.state import Sim

BACKLOG = 4096
STOP_TIMEOUT = 10.0
"""Seconds that running answers get to end after the first SIGTERM or SIGINT; a second one ends them at once."""


class Server:
    """A simulated engine that listens. Made by `serve`."""

    def __init__(self, config: SimConfig) -> None:
        self.config = config
        self.port = config.port
        self.sim = Sim(config, asyncio.get_running_loop(), _key(config))
        self.sim.on_faults = self._faults_changed
        self._listener: asyncio.Server | None = None
        self._place: socket.socket | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._opening: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return (
            f"http://[{self.config.host}]:{self.port}"
            if ":" in self.config.host
            else f"http://{self.config.host}:{self.port}"
        )

    async def start(self) -> None:
        """Listen, load, and let the faults of the settings begin. Raises `OSError` where the port cannot be had."""
        listening = self._bind()
        listening.listen(BACKLOG)
        self.port = listening.getsockname()[1]
        await self._listen(listening)
        if self.sim.loading:
            self._timers.append(self.sim.loop.call_later(self.config.ready_after, self._loaded))
        self._faults_changed()

    async def stop(self, timeout: float = 0.0) -> None:
        """Close the port and idle connections, give running answers `timeout` seconds, then cut them off."""
        for timer in self._timers:
            timer.cancel()
        self._close()
        if self._place:
            self._place.close()
        self.sim.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.sim.empty.wait(), timeout)
        self.sim.abort()
        await asyncio.sleep(0)  # the loop tells the connections that they are lost

    def _loaded(self) -> None:
        self.sim.loading = False

    def _bind(self) -> socket.socket:
        """A socket on the port, the same one as before where there was one. Without `listen` it refuses connections."""
        bound = socket.socket(socket.AF_INET6 if ":" in self.config.host else socket.AF_INET)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setblocking(False)
            bound.bind((self.config.host, self.port))
        except OSError:
            bound.close()
            raise
        return bound

    async def _listen(self, listening: socket.socket) -> None:
        self._listener = await self.sim.loop.create_server(lambda: Conn(self.sim), sock=listening, backlog=BACKLOG)

    def _faults_changed(self) -> None:
        """Act on `refuse`: the port stays ours meanwhile, so that nobody else is given it."""
        refuse = next((fault for fault in self.sim.book.faults if fault.kind == "refuse"), None)
        if refuse and self._listener:
            self._close()
            self._place = self._bind()
            if refuse.seconds:
                self._timers.append(self.sim.loop.call_later(refuse.seconds, self._reopen))
        elif not refuse and not self._listener:
            self._reopen()

    def _reopen(self) -> None:
        """The socket that kept the port begins to listen."""
        if place := self._place:
            self._place = None
            place.listen(BACKLOG)
            self._opening = self.sim.loop.create_task(self._listen(place))

    def _close(self) -> None:
        if self._listener:
            self._listener.close()
            self._listener = None


def _key(config: SimConfig) -> str:
    if config.api_key or not config.api_key_file:
        return config.api_key
    try:
        return Path(config.api_key_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"api_key_file: cannot read {config.api_key_file}: {error.strerror}") from None


async def serve(config: SimConfig) -> Server:
    """Start a simulated engine in the running loop. Raises `OSError` (port) or `ConfigError` (faults)."""
    server = Server(config)
    await server.start()
    return server


def main(config: SimConfig) -> int:
    """Run a simulated engine until SIGTERM or SIGINT. Its first line says where it listens. Returns the exit status."""
    try:
        uvloop.run(_run(config))
    except OSError as error:
        print(f"cannot listen on {config.host}:{config.port}: {error.strerror or error}", file=sys.stderr)
        return 1
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _run(config: SimConfig) -> None:
    server = await serve(config)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            server.sim.abort()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    print(f"listening on {server.url}", flush=True)
    await stopping.wait()
    await server.stop(STOP_TIMEOUT)
