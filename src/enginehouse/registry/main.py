"""Runs the registry: puts its parts together, listens, stops on SIGTERM and SIGINT.

Owns: the order of starting and stopping, and the few lines that are printed. May not live here: what a part decides.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from enginehouse.core.address import networks
from enginehouse.core.config.base import ConfigError
from enginehouse.core.config.registry import RegistryConfig
from enginehouse.registry.api import Parts, application
from enginehouse.registry.embedded import EmbeddedStore
from enginehouse.registry.feed import Feed
from enginehouse.registry.journal import Journal, JournalError
from enginehouse.registry.leases import StoreError
from enginehouse.registry.probes import Prober
from enginehouse.registry.server import MAX_CONNECTIONS, Server
from enginehouse.registry.views import Observer

#: Connections that wait to be accepted: a house that starts all at once.
BACKLOG = 1024

log = logging.getLogger("enginehouse.registry")


def main(config: RegistryConfig, sock: socket.socket | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit status.

    `sock`: a bound socket to listen on instead of `config.host` and `config.port`. The first line printed is the URL.
    """
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    try:
        token = read_token(config.token_file)
        networks(config.allow_networks)
        listener = sock or bind(config.host, config.port)
        listener.listen(BACKLOG)  # before the URL is printed: whoever reads it may connect
    except (ConfigError, OSError, ValueError) as error:
        print(f"registry: {error}", file=sys.stderr)
        return 2
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_until_signal(config, token, listener))
        except JournalError as error:
            print(f"registry: {error}", file=sys.stderr)
            return 1
    return 0


async def serve(config: RegistryConfig, token: str, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve on a bound socket until `stop` is set. Raises `JournalError` where the journal cannot be read."""
    async with AsyncExitStack() as stack:
        store = EmbeddedStore(
            Journal(config.journal),
            stale_after=config.stale_after,
            remove_after=config.remove_after,
            allow_networks=config.allow_networks,
        )
        stack.push_async_callback(store.stop)
        await store.start()
        prober = await stack.enter_async_context(
            Prober(
                store,
                interval=config.health_interval,
                timeout=config.health_timeout,
                allow_networks=config.allow_networks,
            )
        )
        observer = Observer(store, prober.verdict, config.stale_after)
        feed = Feed(store, observer)
        parts = Parts(store, observer, prober, feed, token, config.allow_networks, config.max_watchers)
        server = Server(application(parts), config.max_watchers + MAX_CONNECTIONS, feed.close)
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(prober.run()),
                group.create_task(_clean_up(store, config.cleanup_interval)),
            ]
            serving = group.create_task(server.serve(sockets=[listener]))
            stopping = group.create_task(stop.wait())
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            await asyncio.wait((serving,))
            for task in (*background, stopping):
                task.cancel()


async def _until_signal(config: RegistryConfig, token: str, listener: socket.socket) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    _announce(token, listener)
    await serve(config, token, listener, stop)


async def _clean_up(store: EmbeddedStore, interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        try:
            await store.expire()
        except StoreError as error:
            log.warning("services that fell silent stay listed for now: %s", error)
        except Exception:
            log.exception("a bug: a clean-up failed")


def bind(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 lets the system choose. Raises `OSError` naming the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(f"cannot listen on {host} port {port}: {error}") from None
    return sock


def read_token(path: str) -> str:
    """The bearer token in a file, "" for no file. Raises `ConfigError` for one that is empty, `OSError`."""
    if not path:
        return ""
    token = Path(path).read_text(encoding="utf-8").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(f"token_file {path}: must hold one token of printable ASCII characters")
    return token


def _announce(token: str, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    print(f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}", flush=True)
    if host in ("0.0.0.0", "::") and not token:
        print(
            "warning: anybody on the network can register a service and read what is sent to it: "
            "set token_file, or host to an address that only your machines reach",
            file=sys.stderr,
        )
