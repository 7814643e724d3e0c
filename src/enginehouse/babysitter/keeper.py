"""Keeps one engine: carries out what the child machine decides, and tells it what happened.

Owns the tasks and the timer of one engine. May not live here: decisions (`machines.child`), the registration (`agent`),
HTTP (`api`), signals of our own process (`main`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from typing import Any, Protocol

import aiohttp

from enginehouse.babysitter import idle
from enginehouse.babysitter.guard import Order
from enginehouse.babysitter.logs import Output
from enginehouse.babysitter.process import CannotStart, Process, spawn
from enginehouse.babysitter.readiness import Prober, Ready
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.record import RUNNING
from enginehouse.machines.child import (
    Child,
    Command,
    Drain,
    Event,
    GiveUp,
    Kill,
    Publish,
    Spawn,
    State,
    Terminate,
    Withdraw,
)

#: Seconds between two probes of an engine that starts: a tenth of the time it has taken, within these bounds, so that
#: it is found ready at most a tenth later than it is.
EAGER, PATIENT = 0.05, 1.0
#: Seconds that an earlier engine on the same port, which its guard is just killing, has to go away.
PORT_PATIENCE = 10.0
#: Seconds that the last lines of an ended engine have to arrive; they are in the pipe already.
LAST_LINES = 0.5
IDLE_POLL = 0.15
SHOWN_ON_CRASH = 5


class Announcer(Protocol):
    """What keeps the registration."""

    def publish(self, status: str, models: list[dict[str, Any]]) -> None:
        """Register the engine, or change what is registered."""

    def withdraw(self) -> None:
        """Take its registration back."""


class Keeper:
    """One engine under the child machine. `run` does everything; `stop` may be called at any time, also again."""

    def __init__(
        self,
        config: BabysitterConfig,
        order: Order,
        prober: Prober,
        output: Output,
        announcer: Announcer,
        say: Callable[[str], None],
        drained: Callable[[], Awaitable[bool | None]],
    ) -> None:
        """`drained`: whether the router has nothing left for the engine, None where it does not tell."""
        self.child = Child(config.babysitter)
        self.models: list[dict[str, Any]] = []
        self.body = b""
        """The engine's own list of models, as it came; empty where it has none."""
        self._config = config
        self._order = order
        self._prober = prober
        self._output = output
        self._announcer = announcer
        self._say = say
        self._drained = drained
        self._process: Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._spawned_at = 0.0
        self._failed = False
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def running(self) -> bool:
        """Whether there is an engine process."""
        return self._process is not None

    @property
    def failed(self) -> bool:
        """Whether it was given up."""
        return self._failed

    async def run(self) -> None:
        """Keep the engine until it was stopped; nothing of it is left then. Raises only what is a bug."""
        try:
            self._tell(Event.START_REQUESTED)
            await self._ended
            if life := self._tasks.get("life"):
                await life
        finally:
            if self._timer:
                self._timer.cancel()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def stop(self) -> None:
        """Withdraw, drain, terminate. Called again: without draining; and again: by force."""
        self._tell(Event.STOP_REQUESTED)

    # the machine

    def _is(self, state: State) -> bool:
        return self.child.state is state

    def _tell(self, event: Event, reason: str = "") -> None:
        loop = asyncio.get_running_loop()
        now, before = loop.time(), self.child.state
        commands = self.child.handle(event, now, reason)
        if self._timer:
            self._timer.cancel()
        wake_at = self.child.wake_at
        self._timer = None if wake_at is None else loop.call_at(wake_at, self._tell, Event.TIME_ELAPSED)
        if self.child.state is not before or Kill() in commands:
            self._report(now)
        for command in commands:
            self._carry_out(command)
        if self.child.state is State.STOPPED and not self._ended.done():
            self._ended.set_result(None)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Spawn():
                self._spawned_at = asyncio.get_running_loop().time()
                self._begin("life", self._live(self._tasks.get("life")))
            case Publish(status):
                self._announcer.publish(status, self.models)
            case Withdraw():
                self._announcer.withdraw()
            case Drain():
                self._begin("idle", self._watch_idle())
            case Terminate() if self._process:
                self._process.terminate()
            case Kill() if self._process:
                self._process.kill()
            case GiveUp():
                self._failed = True
                self._explain()
            case _:
                pass  # a signal for a process that is just being made: `_live` sees the state

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """A task whose exceptions are not lost: they end `run`."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) and not self._ended.done():
                self._ended.set_exception(error)

        self._tasks[name] = task = asyncio.create_task(work, name=f"{self._config.name} {name}")
        task.add_done_callback(ended)

    # one run of the engine

    async def _live(self, previous: asyncio.Task[None] | None) -> None:
        """From the port being free to nothing of the process being left."""
        if previous:
            await previous
        if await port_is_taken(self._config.port, lambda: self._is(State.STARTING)):
            self._tell(Event.EXITED, taken(self._config.port))
            return
        if not self._is(State.STARTING):
            self._tell(Event.EXITED, "stopped before it was started")
            return
        try:
            process = await self._spawn()
        except (CannotStart, OSError) as error:
            self._tell(Event.EXITED, f"cannot be started: {error}")
            return
        self._process = process
        if self._is(State.STOPPING):
            process.terminate()
        elif self._is(State.RESTARTING):
            process.kill()
        self._begin("probes", self._probe())
        how = await process.exited()
        self._process = None
        self._end("probes", "idle")
        await self._output.drained(LAST_LINES)
        self._tell(Event.EXITED, how)
        await process.gone()

    async def _spawn(self) -> Process:
        note = f"enginehouse: {self._config.name} started {datetime.now().astimezone().isoformat(timespec='seconds')}"
        writing = self._output.begin(note)
        try:
            return await spawn(self._order, writing)
        finally:
            os.close(writing)

    async def _probe(self) -> None:
        while True:
            answer = await self._prober.probe()
            if isinstance(answer, Ready):
                self._found(answer)
                self._tell(Event.PROBE_PASSED)
            else:
                self._tell(Event.PROBE_FAILED, answer.reason)
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        if self.child.state is not State.STARTING:
            return self._config.babysitter.probe_interval
        taken_so_far = asyncio.get_running_loop().time() - self._spawned_at
        return min(max(taken_so_far / 10, EAGER), PATIENT)

    def _found(self, answer: Ready) -> None:
        """Take over the list of models; tell the registry where it is another one than before."""
        changed, self.models, self.body = self.models != answer.models, answer.models, answer.body
        if changed and self.child.state is State.READY:
            self._say(f"serves {self._served()} now")
            self._announcer.publish(RUNNING, self.models)

    async def _watch_idle(self) -> None:
        """Idle is who was idle twice: a request may be on its way from a client, or a router that does not tell."""
        times = 0
        while times < 2:
            await asyncio.sleep(IDLE_POLL)
            try:
                metrics = await self._prober.text("/metrics")
            except (aiohttp.ClientError, OSError, TimeoutError):
                metrics = ""
            drained = await self._drained()
            times = times + 1 if await asyncio.to_thread(idle.is_idle, metrics, self._config.port, drained) else 0
        self._tell(Event.BECAME_IDLE)

    def _end(self, *names: str) -> None:
        for name in names:
            if task := self._tasks.pop(name, None):
                task.cancel()

    # words

    def _report(self, now: float) -> None:
        """One line for each change of state."""
        child, text = self.child, self.child.state.value
        match child.state:
            case State.STARTING:
                text += f": engine of kind {self._config.backend.type}, its output goes to {self._output.path}"
            case State.READY:
                text += f" after {now - self._spawned_at:.1f} s, serves {self._served()}"
            case State.BACKOFF:
                delay = (child.wake_at or now) - now
                text += f": {child.reason}; restart {child.restarts} in {delay:g} s{self._last(SHOWN_ON_CRASH)}"
            case _ if child.reason:
                text += f": {child.reason}"
        self._say(text)

    def _served(self) -> str:
        names = [str(model["id"]) for model in self.models]
        if not names:
            return 'no models it tells of; name them in the configuration: [metadata] models = ["…"]'
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

    def _last(self, count: int) -> str:
        return "".join(f"\n    | {line}" for line in self._output.tail()[-count:])

    def _explain(self) -> None:
        limit = self._config.babysitter.max_restarts
        self._say(
            f"gave up after {limit} restarts without a run of {self._config.babysitter.stable_after:g} s between them."
            f" The last lines of the engine:{self._last(len(self._output.tail())) or ' none'}\n"
            f"    All its output is in {self._output.path}. Put right what it complains about, then start this"
            " babysitter again (or raise max_restarts)."
        )


async def port_is_taken(port: int, go_on: Callable[[], bool] = lambda: True) -> bool:
    """Whether another program keeps a port. Waits for one that is just ending, as long as `go_on` says so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PORT_PATIENCE
    while await answers(port):
        if loop.time() > deadline or not go_on():
            return True
        await asyncio.sleep(EAGER)
    return False


async def answers(port: int) -> bool:
    """Whether somebody accepts connections on a local port."""
    for host in ("127.0.0.1", "::1"):
        try:
            async with asyncio.timeout(1.0):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError):
            continue
        ends = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
        writer.close()
        # Connecting to a port that nobody listens on can succeed by chance: with oneself as the other end.
        if ends[0] != ends[1]:
            return True
    return False


def taken(port: int) -> str:
    """Port conflict, and what to do about it."""
    return (
        f"port {port} is taken by another program: stop that one (`ss -ltnp 'sport = :{port}'` or `lsof -i :{port}`"
        " names it), or give this engine another port"
    )
