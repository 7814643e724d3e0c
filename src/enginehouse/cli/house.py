"""A house on this machine: its processes, what is told about them while they start, and the order of their end.

Owns `House`. May not live here: settings (`up` completes them), how a process is started and restarted
(`supervisor.keeper`), what is said about engines (`progress`), and what the processes do.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from enginehouse.cli.ports import url
from enginehouse.cli.progress import Progress
from enginehouse.core.config.babysitter import BabysitterLimits
from enginehouse.core.config.base import Config
from enginehouse.core.config.house import HouseConfig
from enginehouse.supervisor.keeper import Child, Keeper, handover
from enginehouse.supervisor.signals import Waiter

#: What a part may take beyond its own deadlines until it is killed. Seconds.
GRACE: Final = 5.0
#: What a part may take after a second signal until it is killed. Seconds.
HURRY: Final = 2.0
#: By then a router takes signals. Seconds.
SETTLED: Final = 3.0


class House:
    """All processes of a house, as children of this one."""

    def __init__(self, config: HouseConfig, reread: Sequence[str] = ()) -> None:
        """`reread`: the command that prints the router's settings again, for a reload of it."""
        self._config = config
        self._reread = list(reread)
        self._keeper = Keeper(self._died)
        self._waiter = Waiter()
        self._stopping = False
        # The children print URLs of their own: what is seen on this standard output is ours alone.
        self._progress = Progress(config, os.fdopen(os.dup(1), "w", encoding="utf-8"))
        self._log = _redirect_children(config)

    def run(self) -> int:
        """Start, watch, and end when told to. Returns the exit status."""
        lifeline, lifeline_end = os.pipe()  # readable in the children as soon as this process is gone
        self._progress.begin(self._log)
        registry, router, babysitters = self._start(lifeline)
        while not self._waiter.stop_asked:
            self._keeper.tick()
            look_at = self._progress.look(time.monotonic())
            self._pass_on(router)
            self._waiter.wait(max(0.0, min(self._keeper.next_start, look_at) - time.monotonic()))
        self._stop(registry, router, babysitters)
        for end in (lifeline, lifeline_end):
            os.close(end)
        self._waiter.close()
        return 0

    def _pass_on(self, router: list[Child]) -> None:
        """SIGUSR1: the router's access log was moved away; SIGHUP: it is to read its settings again.

        A router that has just begun would die of either.
        """
        now, waiter = time.monotonic(), self._waiter
        if not all(child.alive and now - child.started >= SETTLED for child in router):
            return
        numbers = [signal.SIGUSR1] * waiter.reopen_asked + [signal.SIGHUP] * waiter.reload_asked
        waiter.reopen_asked = waiter.reload_asked = False
        for child in router:
            for number in numbers:
                child.signal(number)

    def _start(self, lifeline: int) -> tuple[list[Child], list[Child], list[Child]]:
        """Everything at once: the parts find each other in whatever order they come."""
        config = self._config

        def child(name: str, role: str, settings: Config, **values: Any) -> Child:
            descriptors = {"config": handover(msgspec.json.encode(settings)), "lifeline": lifeline}
            made = Child(name, role, descriptors, {"name": name, **values})
            self._keeper.add(made)
            return made

        own = config.router.registry_url == url(config.registry.host, config.registry.port)
        registry = [child("registry", "registry", config.registry)] if own else []
        babysitters = [child(engine.name, "babysitter", engine) for engine in config.engine]
        return registry, [child("router", "router", config.router, reread=self._reread)], babysitters

    def _died(self, child: Child, status: int) -> None:
        often = child.restarts & (child.restarts - 1)  # said the 1st, 2nd, 4th, 8th … time
        if not self._stopping and not often:
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            why = f"; see {self._log}" if self._log else ""
            self._progress.say(f"  {child.name}: its process ended ({how}) and is started again{why}")

    def _stop(self, registry: list[Child], router: list[Child], babysitters: list[Child]) -> None:
        """The router lets requests finish while the engines still stand; the registry hears the babysitters out."""
        self._stopping, self._waiter.stop_asked = True, False
        config = self._config
        self._progress.say("Stopping: running requests may finish. Ctrl-C again ends everything at once.")
        limits = [engine.babysitter.drain_timeout + engine.babysitter.stop_timeout for engine in config.engine]
        self._end(router, config.router.drain_timeout)
        self._end(babysitters, max(limits, default=0.0))
        self._end(registry, 0.0)
        self._progress.say("Stopped.")

    def _end(self, children: list[Child], seconds: float) -> None:
        kill_at = math.inf

        def meanwhile() -> None:
            nonlocal kill_at
            self._waiter.wait(0.02)
            now = time.monotonic()
            if self._waiter.stop_asked and kill_at == math.inf:
                kill_at = now + HURRY
                for child in children:
                    child.signal(signal.SIGTERM)  # to all of them, a second one means at once
            if now >= kill_at:  # what they had started ends with them: each has a guard or a lifeline
                for child in children:
                    child.signal(signal.SIGKILL)

        self._keeper.stop(children, time.monotonic() + seconds + GRACE, meanwhile)


def _redirect_children(config: HouseConfig) -> Path | None:
    """Where the children's words go: to a file where they would come between our lines on a terminal.

    From here on descriptors 1 and 2 are the children's. Returns the file, None where they keep the standard error.
    """
    if not os.isatty(2):
        os.dup2(2, 1)
        return None
    first = config.engine[0].babysitter if config.engine else BabysitterLimits()
    log = Path(first.log_dir) / "house.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    sys.stderr = os.fdopen(os.dup(2), "w", encoding="utf-8")
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    return log
