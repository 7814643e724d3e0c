"""The feed: changes pushed to whoever follows, as server-sent events.

Owns: a bounded history of encoded changes, and one generator per follower that walks along it. A follower has a place
in the history, not a queue of its own: one that is too slow loses its place and is given everything anew.
May not live here: when a client may follow (`api`), and what a service looks like (`views`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from enginehouse.core.units import KIB, MIB
from enginehouse.registry.store import Change, Store
from enginehouse.registry.views import Delete, Observer, Put, Reset, Snapshot

#: Changes and bytes of them kept for followers that lag or come back.
HISTORY = 4096
HISTORY_BYTES = 16 * MIB
#: Bytes given out at once.
PIECE = 64 * KIB
#: Seconds between two signs of life on a quiet feed; a client takes three missing ones for a dead peer.
KEEPALIVE = 5.0


class Feed:
    """Follows a store; `follow` serves one follower."""

    def __init__(self, store: Store, observer: Observer) -> None:
        self._store = store
        self._observer = observer
        self._history: deque[bytes] = deque()
        self._bytes = 0
        self._moved = asyncio.Event()
        self.closed = False
        self._snapshot: tuple[int, float, bytes] = (-1, 0.0, b"")
        self.followers = 0
        store.listen(self._record)

    def close(self) -> None:
        """End all followers' feeds, now and from now on."""
        self.closed = True
        self._moved.set()

    async def follow(self, revision: int, epoch: str) -> AsyncGenerator[bytes, None]:
        """Everything after `revision` of `epoch`, as bytes to send, until `close`.

        (0, "") is a follower that knows nothing and begins with a snapshot. One that knows something which cannot be
        continued is told `reset` before it. Yields at most `PIECE` bytes at a time.
        """
        self.followers += 1
        try:
            if (revision, epoch) == (0, ""):
                place, first = self._store.revision, self._everything()
            elif epoch != self._store.epoch or not self._reaches(revision):
                place, first = self._store.revision, self._anew()
            else:
                place, first = revision, b": following\n\n"
            for piece in _pieces(first):
                yield piece
            while not self.closed:
                if not self._reaches(place):
                    place, news = self._store.revision, self._anew()
                else:
                    place, news = self._after(place)
                for piece in _pieces(news):
                    yield piece
                if not news and (sign_of_life := await self._wait()):
                    yield sign_of_life
        finally:
            self.followers -= 1

    def _record(self, change: Change) -> None:
        epoch, revision = self._store.epoch, change.revision
        if change.entry is None:
            reason: Literal["unregistered", "expired"] = "expired" if change.expired else "unregistered"
            gone = Delete(epoch=epoch, revision=revision, name=change.name, reason=reason)
            event = _event("delete", epoch, revision, gone)
        else:
            view = self._observer.view(change.entry)
            event = _event("put", epoch, revision, Put(epoch=epoch, revision=revision, service=view))
        self._history.append(event)
        self._bytes += len(event)
        while len(self._history) > HISTORY or self._bytes > HISTORY_BYTES:
            self._bytes -= len(self._history.popleft())
        self._moved.set()
        self._moved = asyncio.Event()

    def _reaches(self, place: int) -> bool:
        """Does the history hold every change after `place`?"""
        return self._store.revision - len(self._history) <= place <= self._store.revision

    def _after(self, place: int) -> tuple[int, bytes]:
        """The next changes, about a `PIECE` of them, and the place after them."""
        news = bytearray()
        index = len(self._history) - (self._store.revision - place)
        while index < len(self._history) and len(news) < PIECE:
            news += self._history[index]
            index, place = index + 1, place + 1
        return place, bytes(news)

    def _anew(self) -> bytes:
        epoch, revision = self._store.epoch, self._store.revision
        return _event("reset", epoch, revision, Reset(epoch=epoch, revision=revision)) + self._everything()

    def _everything(self) -> bytes:
        """A snapshot event. A second's worth of followers (all of them after a restart) share one."""
        epoch, revision, now = self._store.epoch, self._store.revision, time.monotonic()
        if self._snapshot[0] != revision or now - self._snapshot[1] > 1.0:
            snapshot = Snapshot(epoch=epoch, revision=revision, services=self._observer.views())
            self._snapshot = revision, now, _event("snapshot", epoch, revision, snapshot)
        return self._snapshot[2]

    async def _wait(self) -> bytes:
        """Until something moved; b"" then, a comment if nothing did for a while."""
        try:
            async with asyncio.timeout(KEEPALIVE):
                await self._moved.wait()
            return b""
        except TimeoutError:
            return b": alive\n\n"


def _event(name: str, epoch: str, revision: int, data: msgspec.Struct) -> bytes:
    """One server-sent event. JSON has no line breaks of its own, so one data line is enough."""
    head = f"id: {epoch}:{revision}\nevent: {name}\ndata: ".encode()
    return head + msgspec.json.encode(data) + b"\n\n"


def _pieces(data: bytes) -> list[bytes]:
    return [data[start : start + PIECE] for start in range(0, len(data), PIECE)]


class FeedResponse(Response):
    """Sends a follower its feed until it leaves. One that stops reading is cut by the server below."""

    media_type = "text/event-stream"

    def __init__(self, feed: AsyncGenerator[bytes, None]) -> None:
        self._feed = feed
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send(send))
                leaving = group.create_task(_left(receive))
                await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
                sending.cancel()
                leaving.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async with aclosing(self._feed) as feed:
            async for piece in feed:
                await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
