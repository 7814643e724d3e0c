"""When to look at which engine, and the bookkeeping of those looks.

Owns `Prober`: one task per service, so that a slow engine delays nobody and two looks at one engine never overlap; the
bound on looks at once; the least time between two looks; jitter. May not live here: how to look (`probe`), verdicts
(`machines.health`, which also says how long to wait).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping

from enginehouse.control.probe import Look
from enginehouse.control.roster import Entry
from enginehouse.machines.health import ProbeFailed

#: Looks under way at once, over all services.
MAX_LOOKS = 64
#: Seconds between two looks at one engine, however many requests fail.
LEAST_GAP = 0.2

log = logging.getLogger(__name__)


class Prober:
    """Looks at every service it follows: at once, then whenever it is due or somebody pokes.

    `look(entry)` asks the engine, `seen(entry, look)` takes the result; for one service never two at a time.
    """

    def __init__(
        self, look: Callable[[Entry], Awaitable[Look]], seen: Callable[[Entry, Look], None], interval: float
    ) -> None:
        """`interval`: seconds between two looks at a service that is well."""
        self._look = look
        self._seen = seen
        self._interval = interval
        self._gate = asyncio.Semaphore(MAX_LOOKS)
        self._watches: dict[Entry, tuple[asyncio.Task[None], asyncio.Event]] = {}

    def follow(self, entries: Mapping[str, Entry]) -> None:
        """Look at these from now on, and at no others."""
        wanted = set(entries.values())
        for entry in [entry for entry in self._watches if entry not in wanted]:
            self._watches.pop(entry)[0].cancel()
        for entry in wanted:
            if entry not in self._watches:
                poked = asyncio.Event()
                self._watches[entry] = (asyncio.create_task(self._watch(entry, poked)), poked)

    def poke(self, entry: Entry) -> None:
        """Look now, or as soon as the least gap allows."""
        if watch := self._watches.get(entry):
            watch[1].set()

    async def close(self) -> None:
        """Stop looking."""
        tasks = [task for task, _ in self._watches.values()]
        self._watches.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, entry: Entry, poked: asyncio.Event) -> None:
        """One service, for as long as it is followed."""
        least = 0.0  # share of the first wait: a house that appears at once is not looked at in bursts for ever
        while True:
            poked.clear()  # before looking: what happens from now on may come too late for this look
            started = time.monotonic()
            async with self._gate:
                look = await self._try(entry)
            self._seen(entry, look)
            now = time.monotonic()
            delay = entry.health.probe_delay(now, self._interval)
            delay *= random.uniform(least, 1.0)  # noqa: S311  # spreads the load, no secret
            least = 0.85
            try:
                async with asyncio.timeout(max(delay, LEAST_GAP)):
                    await poked.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(started + LEAST_GAP - time.monotonic())

    async def _try(self, entry: Entry) -> Look:
        """A bug in looking at one engine is that engine's trouble only."""
        try:
            return await self._look(entry)
        except Exception:
            log.exception("looking at %s failed in an unforeseen way", entry.name)
            return Look(ProbeFailed("it could not be looked at; the router's log says why"))
