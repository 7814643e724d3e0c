"""A babysitter from start to end: puts its parts together, stops on signals.

Owns the order of starting and stopping, what is refused at the start, and where lines are printed. May not live here:
what a part decides; reading the environment (it is an argument); the registry's client (it is handed in).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import aiohttp
from aiohttp import web

from enginehouse.babysitter import recipes
from enginehouse.babysitter.agent import Agent, check_record, engine_name
from enginehouse.babysitter.api import Connection, application
from enginehouse.babysitter.idle import is_drained
from enginehouse.babysitter.keeper import Keeper, answers, port_is_taken, taken
from enginehouse.babysitter.logs import Output
from enginehouse.babysitter.readiness import Prober
from enginehouse.babysitter.registration import Errors, RegistryClient
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import ConfigError
from enginehouse.core.record import default_url

#: Connections to our own endpoints; all answers are short and immediate.
MAX_CONNECTIONS = 128
#: Seconds in which further signals mean the same stop: Ctrl-C comes from the terminal and again from who started us.
SAME_STOP = 1.0

MakeClient = Callable[[aiohttp.ClientSession], RegistryClient]
Say = Callable[[str], None]


def print_line(line: str) -> None:
    """To the standard output, at once."""
    print(line, flush=True)


async def run(
    config: BabysitterConfig,
    make_client: MakeClient,
    errors: Errors,
    environ: Mapping[str, str],
    say: Say = print_line,
    token: str = "",
) -> int:
    """Look after one engine until SIGTERM or SIGINT; the exit status.

    `make_client` makes the client of `config.registry_url`; it is not called where that is empty. `errors` are what
    its calls raise. `environ` is what the engine inherits. `say` takes the lines that are printed: first our URL, then
    what happens. `token`: who has it may read the engine's output; "": nobody may.
    Returns 0 after a clean stop, 1 where the engine had failed for good or the start was refused (the line said says
    why and what to do).
    """
    try:
        keeping = Babysitter(config, make_client, errors, environ, say, token)
        await keeping.start()
    except (ConfigError, OSError) as error:
        say(f"{config.name}: cannot start: {error}")
        return 1
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, keeping.stop)
    return await keeping.run()


class Babysitter:
    """All parts of one babysitter. `start`, then `run`; `stop` makes `run` return, called again it hurries.

    A process may hold several, each on a port of its own.
    """

    def __init__(
        self,
        config: BabysitterConfig,
        make_client: MakeClient,
        errors: Errors,
        environ: Mapping[str, str],
        say: Say,
        token: str = "",
    ) -> None:
        """Raises `ConfigError` for a configuration that cannot work, `OSError` where the log cannot be written."""
        check_record(config)
        self.config = config
        self._say = say
        self._token = token
        self._make_client, self._errors = make_client, errors
        self._order = recipes.order(config, environ)
        self._key = recipes.api_key(config, environ)
        limits = config.babysitter
        path = Path(limits.log_dir) / f"{config.name}.log"
        try:
            self._output = Output(path, limits.log_bytes, [*config.backend.env.values(), self._key])
        except OSError as error:
            raise OSError(f"{path} cannot be written ({error.strerror}): set log_dir to a directory that can") from None
        self._stack = AsyncExitStack()
        self._asked_at: float | None = None

    async def start(self) -> None:
        """Listen and make everything ready, but start no engine yet. Raises `OSError` for a port that is taken."""
        config, stack = self.config, self._stack
        try:
            stack.callback(self._output.close)
            probing = aiohttp.TCPConnector(force_close=True)
            self._session = await stack.enter_async_context(aiohttp.ClientSession(connector=probing))
            client = None
            if config.registry_url:
                client = self._make_client(await stack.enter_async_context(aiohttp.ClientSession()))
            self._agent = Agent(config, client, self._errors, self._tell)
            self.keeper = Keeper(
                config, self._order, self._prober(), self._output, self._agent, self._tell, self._is_drained
            )
            await self._listen()
            self._say(default_url(self._shown_host(), config.port + 1))
            if await answers(config.port):
                self._tell(f"port {config.port} is in use; waiting whether it becomes free")
                if await port_is_taken(config.port):
                    raise OSError(taken(config.port))
        except BaseException:
            await stack.aclose()
            raise

    async def run(self) -> int:
        """Keep the engine until `stop`; the exit status."""
        announcing = asyncio.create_task(self._agent.start())
        async with self._stack:
            try:
                await self.keeper.run()
            finally:
                announcing.cancel()
                await asyncio.wait([announcing])
                await self._agent.close()
        return 1 if self.keeper.failed else 0

    def stop(self) -> None:
        """Withdraw, drain, terminate; called again a while later: hurry."""
        now = asyncio.get_running_loop().time()
        if self._asked_at is None or now - self._asked_at > SAME_STOP:
            self._asked_at = now
            self.keeper.stop()

    async def _is_drained(self) -> bool | None:
        if not self.config.router_url:
            return None
        return await is_drained(self._session, self.config.router_url, engine_name(self.config))

    def _prober(self) -> Prober:
        config = self.config
        hosts = [config.host] if config.host not in recipes.WILDCARDS else []
        return Prober(
            self._session,
            list(dict.fromkeys([*hosts, "127.0.0.1", "::1"])),
            config.port,
            timeout=config.babysitter.probe_timeout,
            health=recipes.recipe(config.backend).health,
            configured=recipes.configured_models(config),
            key=self._key,
        )

    async def _listen(self) -> None:
        config, port = self.config, self.config.port + 1
        app = application(config, self.keeper, self._agent, self._output, self._token)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        serving, loop = runner.server, asyncio.get_running_loop()
        assert serving is not None

        def connection() -> asyncio.Protocol:
            """Who came first goes first: clients that stay and ask nothing do not keep the registry's probe out."""
            if len(serving.connections) >= MAX_CONNECTIONS:
                serving.connections[0].force_close()
            return Connection(serving, loop=loop, access_log=None)  # type: ignore[arg-type]  # None: no log

        try:
            listener = await loop.create_server(connection, config.bind, port, reuse_address=True)
        except OSError as error:
            raise OSError(
                f"{error.strerror or error}: the babysitter itself needs port {port} (port + 1); "
                "free it, or give this engine another port"
            ) from None
        self._stack.callback(listener.close)

    def _shown_host(self) -> str:
        return "127.0.0.1" if self.config.bind in recipes.WILDCARDS else self.config.bind

    def _tell(self, line: str) -> None:
        self._say(f"{datetime.now().astimezone():%H:%M:%S} {self.config.name}: {line}")
