"""A running registry for tests: in the test's own loop, or as a process of its own that can be killed.

Owns both ways to start one, and stub services that a registry can probe. May not live here: what is tested with them.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import msgspec
from aiohttp import web

from enginehouse.core.config.base import from_mapping
from enginehouse.core.config.registry import RegistryConfig
from enginehouse.registry.main import bind, serve

MAIN = (
    "import sys, msgspec; from enginehouse.core.config.registry import RegistryConfig; "
    "from enginehouse.registry.main import main; "
    "sys.exit(main(msgspec.json.decode(sys.argv[1], type=RegistryConfig)))"
)
DEADLINE = 30.0


def settings(**changes: Any) -> RegistryConfig:
    """In memory, on a port the system chooses, unless told otherwise."""
    return from_mapping(RegistryConfig, {"host": "127.0.0.1", "port": 0, "journal": ""} | changes)


@asynccontextmanager
async def running(token: str = "", **changes: Any) -> AsyncIterator[str]:
    """A registry in this loop; its URL."""
    config = settings(**changes)
    listener, stop = bind(config.host, config.port), asyncio.Event()
    listener.listen()
    host, port = listener.getsockname()[:2]
    task = asyncio.create_task(serve(config, token, listener, stop))
    try:
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        stop.set()
        await asyncio.wait_for(task, DEADLINE)


class RegistryProcess:
    """A registry in a process of its own; a context that kills it."""

    def __init__(self, **changes: Any) -> None:
        config = msgspec.json.encode(settings(**changes)).decode()
        command = [sys.executable, "-c", MAIN, config]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.finish()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; its exit status."""
        self.process.send_signal(number)
        return self.finish()

    def finish(self) -> int:
        """Wait for its end; what it wrote to standard error is in `errors` then."""
        if not hasattr(self, "errors"):
            _, self.errors = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode


T = TypeVar("T")


async def until(ask: Callable[[], Awaitable[T]], fits: Callable[[T], bool]) -> T:
    """Ask again and again until the answer fits; the answer."""
    async with asyncio.timeout(DEADLINE):
        while True:
            answer = await ask()
            if fits(answer):
                return answer
            await asyncio.sleep(0.02)


Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def stub(handler: Handler, port: int = 0) -> AsyncIterator[int]:
    """A service that answers every request with `handler`; its port."""
    server = web.Server(handler)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True, reuse_port=True)
    await site.start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def answers(status: int, **body: Any) -> Handler:
    """A handler that always answers the same."""

    async def handle(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return handle


def service(name: str = "engine-1", port: int = 8000, **fields: Any) -> dict[str, Any]:
    """A record as a client sends it, in full, the way the inherited clients do."""
    host = fields.get("host", "127.0.0.1")
    return {
        "name": name,
        "host": host,
        "port": port,
        "hostname": "gpu-box",
        "url": f"http://{host}:{port}",
        "status": "running",
    } | fields
