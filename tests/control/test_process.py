"""Control as a process of its own, on uvloop, as the router runs it: killed, restarted, stopped."""

import asyncio
import mmap
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.shared import SIZE
from tests.control.rig import Wire, connect, engine, static, until, write_static
from tests.registry.running import RegistryProcess, service

MAIN = """
import asyncio, mmap, os, signal, socket, sys
import msgspec, uvloop
from enginehouse.app import DASHBOARD
from enginehouse.control.run import run
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.shared import SIZE, Shared
from enginehouse.registry.client import FeedUnsupported, RegistryClient

config = msgspec.json.decode(sys.argv[1], type=RouterConfig)
api, wire, memory = (int(number) for number in sys.argv[2:])
shared = Shared(memoryview(mmap.mmap(memory, SIZE)))

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    feed = lambda session: RegistryClient(config.registry_url, "", session)
    sockets = socket.socket(fileno=api), socket.socket(fileno=wire)
    await run(config, *sockets, shared, feed, DASHBOARD, no_feed=FeedUnsupported, stop=stop)

uvloop.run(main())
"""


class Control:
    """The process, and the sockets and the memory that outlive it. A context that kills it."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.config = msgspec.json.encode(RouterConfig(**settings)).decode()
        self.paths = [directory / "api", directory / "wire"]
        self.sockets = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in self.paths]
        for sock, path in zip(self.sockets, self.paths, strict=True):
            sock.bind(str(path))
            sock.listen(64)
        self.memory = os.open(directory / "shared", os.O_RDWR | os.O_CREAT)
        os.ftruncate(self.memory, SIZE)
        mmap.mmap(self.memory, SIZE).close()
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Control":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)
        for sock in self.sockets:
            sock.close()
        os.close(self.memory)

    def start(self) -> None:
        fds = [*[sock.fileno() for sock in self.sockets], self.memory]
        self.process = subprocess.Popen([sys.executable, "-c", MAIN, self.config, *map(str, fds)], pass_fds=fds)

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    async def worker(self, fleet_version: int = 0) -> Wire:
        wire = await connect(self.paths[1])
        wire.report(fleet_version=fleet_version)
        return wire


async def test_control_that_is_killed_and_restarted_has_the_same_fleet_again_under_the_same_numbers(
    short_dir: Path, tmp_path: Path
) -> None:
    async with engine(models=("m",)) as one, engine(models=("n",)) as two:
        file = write_static(tmp_path / "s.json", static("two", two.port))
        with RegistryProcess() as registry:
            async with aiohttp.ClientSession() as session:
                record = service("one", one.port, metadata={"type": "openai-api"})
                async with session.post(f"{registry.url}/services", json=record) as response:
                    assert response.status == 201
            with Control(short_dir, registry_url=registry.url, static_services=file) as control:
                worker = await control.worker()
                before = await worker.until_up("one", "two")
                control.end(signal.SIGKILL)
                async with asyncio.timeout(20):
                    assert await worker.reader.read() == b""
                worker.writer.close()
                waiting = await control.worker(before.version)  # queues on the socket that the supervisor holds
                control.start()
                after = await waiting.next()
                assert after.services == before.services
                assert after.version > before.version
                waiting.writer.close()


async def test_the_api_is_answered_on_the_inherited_socket_and_control_ends_cleanly_when_asked(
    short_dir: Path, tmp_path: Path
) -> None:
    with Control(short_dir, static_services=write_static(tmp_path / "s.json")) as control:
        connector = aiohttp.UnixConnector(str(control.paths[0]))
        async with aiohttp.ClientSession(connector=connector) as session:
            worker = await control.worker()
            await worker.next()
            async with session.get("http://router/health") as response:
                assert response.status == 200
            assert control.end(signal.SIGTERM) == 0
        worker.writer.close()
        assert all(path.exists() for path in control.paths), "the sockets belong to the supervisor"
        control.start()

        async def answers() -> bool:
            connector = aiohttp.UnixConnector(str(control.paths[0]))
            async with aiohttp.ClientSession(connector=connector) as again, again.get("http://router/health") as got:
                return got.status == 200

        await until(answers, "the restarted control")
