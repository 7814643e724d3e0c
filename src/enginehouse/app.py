"""The whole, wired by hand: the only file that knows all parts. One function a process.

Owns: which objects a process is made of, what a child process reads from its parent, secrets read from files and
environment. May not live here: anything that could be decided or tested without the rest.
"""

from __future__ import annotations

import asyncio
import errno
import fnmatch
import importlib.metadata
import json
import logging
import mmap
import os
import re
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from enginehouse.core.address import networks
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import Config, ConfigError
from enginehouse.core.config.registry import RegistryConfig
from enginehouse.core.config.router import EngineAccess, RouterConfig
from enginehouse.core.config.sim import SimConfig
from enginehouse.core.shared import SIZE, Shared
from enginehouse.supervisor.keeper import taken

#: Characters of a token that lets people act: fewer could be guessed.
SHORTEST_TOKEN = 16
#: The files of the dashboard. They are handed on as a place, because no code lives there.
DASHBOARD = Path(__file__).parent / "web" / "dashboard"


def run_registry(config: RegistryConfig) -> int:
    """The registry. Returns the exit status."""
    from enginehouse.registry.main import main

    return main(config)


def run_router(config: RouterConfig, reread: Sequence[str] = (), settings: int = -1) -> int:
    """The router: supervisor here, control and workers as its children. Returns the exit status.

    `reread`: the command that prints the settings again, for a reload. `settings`: the `handover` this router was
    started from, -1 for none: a reload writes there what holds from then on.
    """
    from enginehouse.supervisor.router import supervise

    try:
        check_router(config)
    except ConfigError as error:
        print(f"router: {error}", file=sys.stderr)
        return 2
    return supervise(config, reread, settings)


def check_router(config: RouterConfig) -> None:
    """What can be known of settings before anything is started. Raises `ConfigError`."""
    _try_access_log(config.access_log)
    _check_traces(config)
    engine_access(config)
    read_token(config.registry_token_file)
    read_admin_token(config.admin_token_file)
    for key in ("trusted_proxies", "allow_networks"):
        try:
            networks(getattr(config, key))
        except ValueError as error:
            raise ConfigError(str(error), key=key) from None


def _try_access_log(path: str) -> None:
    """A log that cannot be written is told before anything starts. Raises `ConfigError`."""
    from enginehouse.data.log_file import STANDARD_OUTPUT, open_log

    if path in ("", STANDARD_OUTPUT):
        return
    try:
        os.close(open_log(path))
    except OSError as error:
        if error.errno != errno.ENXIO:  # a pipe whose reader will come
            hint = "make its directory writable for this user, or choose another file"
            raise ConfigError(f"{path}: {error.strerror}; {hint}", key="access_log") from None


def _check_traces(config: RouterConfig) -> None:
    """Whether spans can be exported. Raises `ConfigError`."""
    if not config.otlp_endpoint:
        return
    url = urlsplit(config.otlp_endpoint)
    if url.scheme not in ("http", "https") or not url.hostname or url.username is not None or url.query:
        raise ConfigError("give http://HOST:PORT of an OTLP/HTTP collector; keys go into a file", key="otlp_endpoint")
    try:
        importlib.metadata.version("opentelemetry-exporter-otlp-proto-http")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError("needs an extra: pip install 'enginehouse[otel]'", key="otlp_endpoint") from None
    _trace_headers(config.otlp_headers_file)


def _trace_headers(file: str) -> dict[str, str]:
    """Header lines for the collector. Raises `ConfigError` naming the line, never what stands in it."""
    found: dict[str, str] = {}
    for number, line in enumerate(read_token(file).splitlines(), 1):
        name, colon, value = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if not colon or not _HEADER_NAME.fullmatch(name) or not value.strip().isprintable():
            raise ConfigError(f"{file}, line {number}: write `Name: value`", key="otlp_headers_file")
        found[name] = value.strip()
    return found


#: RFC 9110 5.6.2.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def run_babysitter(config: BabysitterConfig) -> int:
    """A babysitter and its engine. Returns the exit status."""
    import uvloop

    from enginehouse.babysitter.main import run
    from enginehouse.babysitter.registration import Errors
    from enginehouse.registry.client import Conflict, RegistryClient, RegistryError, Unknown

    try:
        token, admin_token = read_token(config.registry_token_file), read_admin_token(config.admin_token_file)
    except ConfigError as error:
        print(f"babysitter: {error}", file=sys.stderr)
        return 2
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            run(
                config,
                lambda session: RegistryClient(config.registry_url, token, session),
                Errors(unknown=Unknown, conflict=Conflict, failed=RegistryError),
                os.environ,
                token=admin_token,
            )
        )


def run_sim(config: SimConfig) -> int:
    """A simulated engine. Returns the exit status."""
    from enginehouse.sim.server import main

    return main(config)


def _run_worker(config: RouterConfig, given: dict[str, Any]) -> int:
    """A worker, as child of the supervisor."""
    from enginehouse.data.descriptors import connections, raise_limit
    from enginehouse.data.worker import Worker

    allowed = connections(config.max_connections, raise_limit())
    if allowed < config.max_connections and given["index"] == 0:
        say = f"router: file descriptors allow {allowed} connections a worker, not {config.max_connections}"
        print(f"{say}; raise the limit (ulimit -Hn), or lower max_connections", file=sys.stderr)
    config = msgspec.structs.replace(config, max_connections=allowed)
    # It warns of every broken form: clients would fill the log, and they are told anyway.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    worker = Worker(config, _shared(given), given["index"], given["api_path"])
    listener = socket.socket(fileno=given["listener"])
    serving = _teller(given)
    try:
        return _until_stopped(
            lambda stop: worker.run(listener, given["wire_path"], stop, serving),
            reopen=worker.access_log.reopen,
            asked=lambda successor: worker.end(successor=successor),
        )
    finally:
        worker.close()


def _run_control(config: RouterConfig, given: dict[str, Any]) -> int:
    """The control process, as child of the supervisor."""
    from enginehouse.control.run import run
    from enginehouse.registry.client import FeedUnsupported, RegistryClient

    logging.basicConfig(format="router: %(message)s", level=logging.INFO, stream=sys.stderr)
    token = read_token(config.registry_token_file)
    api, wire = socket.socket(fileno=given["api"]), socket.socket(fileno=given["wire"])
    ready = _teller(given)
    return _until_stopped(
        lambda stop: run(
            config,
            api,
            wire,
            _shared(given),
            lambda session: RegistryClient(config.registry_url, token, session),
            DASHBOARD,
            read_admin_token(config.admin_token_file),
            no_feed=FeedUnsupported,
            access=engine_access(config),
            trace_headers=_trace_headers(config.otlp_headers_file),
            stop=stop,
            ready=ready,
        )
    )


def _teller(given: dict[str, Any]) -> Callable[[], None] | None:
    """Tells the supervisor that this process can take another one's place; None where it does not wait for that."""
    if "ready" not in given:
        return None

    def tell() -> None:
        os.write(given["ready"], b"1")
        os.close(given["ready"])

    return tell


def _shared(given: dict[str, Any]) -> Shared:
    memory = mmap.mmap(given["shared"], SIZE)
    os.close(given["shared"])
    return Shared(memoryview(memory))


def _until_stopped(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
    reopen: Callable[[], None] = lambda: None,
    asked: Callable[[bool], None] = lambda _: None,
) -> int:
    """Run `main(stop)` on uvloop; `stop` is set by SIGTERM, SIGINT and SIGHUP, `reopen` called on SIGUSR1.

    `asked(successor)` is called before `stop` is set; SIGHUP says that there is a successor.
    """
    import uvloop

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def end(successor: bool) -> None:
            asked(successor)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, end, number == signal.SIGHUP)
        loop.add_signal_handler(signal.SIGUSR1, reopen)
        await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return 0


def read_token(file: str) -> str:
    """The bearer token in a file, "" for no file. Raises `ConfigError` naming the file, never the token."""
    if not file:
        return ""
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; make it readable for this process") from None


def read_admin_token(file: str) -> str:
    """The token for actions, "" for no file. Raises `ConfigError` for one that could be guessed."""
    token = read_token(file)
    if file and len(token) < SHORTEST_TOKEN:
        problem = (
            f"{file}: a token has {SHORTEST_TOKEN} characters at least, and one line; `openssl rand -hex 24` makes one"
        )
        raise ConfigError(problem, key="admin_token_file")
    return token


def _engine_key(access: EngineAccess) -> str:
    """The key that some engines need. Raises `ConfigError` naming the setting, never the key."""
    if access.api_key_file:
        return read_token(access.api_key_file)
    if access.api_key_env and access.api_key_env not in os.environ:
        raise ConfigError(f"api_key_env: the environment has no variable {access.api_key_env}; export it")
    return os.environ[access.api_key_env] if access.api_key_env else ""


def engine_access(config: RouterConfig) -> Callable[[str], tuple[str, str]]:
    """A function from a service's name to its (key, CA file), "" where there is none. Raises `ConfigError`."""
    table = [(access.services, _engine_key(access), access.ca_file) for access in config.engines]

    def find(name: str) -> tuple[str, str]:
        for pattern, key, ca_file in table:
            if fnmatch.fnmatchcase(name, pattern):
                return key, ca_file
        return "", ""

    return find


def _follow_parent(lifeline: int, directory: str) -> None:
    """Stop as by SIGTERM when the parent is gone: its end of the pipe closes however it dies.

    `directory` ("" for none) was made by the parent, which can no longer remove it.
    """

    def follow() -> None:
        os.read(lifeline, 1)
        if directory:
            shutil.rmtree(directory, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="lifeline", daemon=True).start()


_KINDS: dict[str, type[Config]] = {
    "registry": RegistryConfig,
    "router": RouterConfig,
    "babysitter": BabysitterConfig,
    "worker": RouterConfig,
    "control": RouterConfig,
}
_ROLES: dict[str, Callable[[Any, dict[str, Any]], int]] = {
    "registry": lambda config, _: run_registry(config),
    "router": lambda config, given: run_router(config, given["reread"], given["config"]),
    "babysitter": lambda config, _: run_babysitter(config),
    "worker": _run_worker,
    "control": _run_control,
}


def main(arguments: list[str]) -> int:
    """Entry of child processes: a role and one JSON object of descriptors and names."""
    role, given = arguments[0], json.loads(arguments[1])
    _follow_parent(given["lifeline"], given.get("directory", ""))
    # A router keeps its descriptor: after a reload it writes there what its own successor has to read.
    descriptor = os.dup(given["config"]) if role == "router" else given["config"]
    return _ROLES[role](msgspec.json.decode(taken(descriptor), type=_KINDS[role]), given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
