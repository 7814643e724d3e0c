"""Followers of the live feed: one computation a second, however many they are, and none while there are none.

Owns `Feed`: who follows, the rhythm, telling the workers that somebody watches, dropping who is slow. May not live
here: what is told (`live`), HTTP (`live_api`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Final

from enginehouse.control.live import Live
from enginehouse.core.shared import Shared

#: Followers at once.
MAX_FOLLOWERS: Final = 64
#: Seconds between two objects.
INTERVAL: Final = 1.0
#: Objects that wait for one follower; one that is further behind is dropped, and begins anew when it comes back.
MAX_BEHIND: Final = 8
#: Workers go on showing their requests for so long after the last word. Seconds.
WATCHED: Final = 3.0

log = logging.getLogger(__name__)

_Queue = asyncio.Queue[bytes | None]


class Feed:
    """The feed of one house. `close()` ends it for everybody."""

    def __init__(self, live: Live, shared: Shared, clock: Callable[[], float]) -> None:
        self._live = live
        self._shared = shared
        self._clock = clock
        self._followers: set[_Queue] = set()
        self._ticking: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Is there no place for one more?"""
        return len(self._followers) >= MAX_FOLLOWERS

    def watch(self) -> None:
        """Have the workers show their requests for a while."""
        self._shared.watched[0] = self._clock() + WATCHED

    async def follow(self) -> AsyncGenerator[bytes, None]:
        """Objects as JSON, the first one whole, until the follower is too slow or the feed closes."""
        queue: _Queue = asyncio.Queue(MAX_BEHIND)
        if self._ticking is None:
            self.watch()
            self._live.step()
            self._ticking = asyncio.create_task(self._tick())
        queue.put_nowait(self._live.whole())
        self._followers.add(queue)
        try:
            while (told := await queue.get()) is not None:
                yield told
        finally:
            self._followers.discard(queue)

    async def close(self) -> None:
        """End it for everybody."""
        ticking, self._ticking = self._ticking, None
        if ticking is not None:
            ticking.cancel()
            await asyncio.wait([ticking])
        for queue in list(self._followers):
            _end(queue)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            if not self._followers:
                break
            self.watch()
            try:
                told = self._live.step()
            except Exception:  # a bug in telling must not end what is told to everybody
                log.exception("the live feed could not be worked out")
                continue
            for queue in list(self._followers):
                if queue.full():
                    _end(queue)
                    self._followers.discard(queue)
                else:
                    queue.put_nowait(told)
        self._ticking = None
        self._live.rest()


def _end(queue: _Queue) -> None:
    """Nothing more comes, and what waits is dropped."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)
