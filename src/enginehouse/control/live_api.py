"""What happens in the house, over HTTP: the journal, the live feed, one service in detail.

Owns these routes and how server-sent events are written. May not live here: what is told (`events`, `live`, `detail`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from enginehouse.control.events import KEPT, Journal
from enginehouse.control.feed import Feed
from enginehouse.control.guard import Guard
from enginehouse.core.outcome import Outcome
from enginehouse.wire.errors import error_response

#: Followers of the journal at once.
MAX_FOLLOWERS: Final = 64
#: Seconds after which a stream on which nothing happens gets a comment, so that nobody takes it for dead.
KEEP_ALIVE: Final = 15.0
#: Milliseconds after which browsers come back when a stream ends.
_RETRY: Final = b"retry: 1000\n\n"
_STREAM: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


class LiveApi:
    """The routes. `detail(name, token)` tells of one service, None where there is none of this name."""

    def __init__(
        self, journal: Journal, feed: Feed, guard: Guard, detail: Callable[[str, str], Awaitable[Any]]
    ) -> None:
        self._guard = guard
        self._journal = journal
        self._feed = feed
        self._detail = detail
        self._followers = 0

    def routes(self) -> list[Route]:
        """For the app."""
        return [
            Route("/events", self.events, methods=["GET"]),
            Route("/dashboard/feed", self.feed, methods=["GET"]),
            Route("/dashboard/service/{name}", self.service, methods=["GET"]),
        ]

    async def events(self, request: Request) -> Response:
        """The journal from `since` on; as a stream for who accepts event streams."""
        streams = "text/event-stream" in request.headers.get("accept", "")
        try:
            first = _number(request, "since", 0)
            limit = _number(request, "limit", KEPT)
            if streams and (last := request.headers.get("last-event-id")):
                first = int(last) + 1
        except ValueError as error:
            return _error(Outcome.BAD_REQUEST, str(error))
        if not streams:
            events = self._journal.since(first, limit)
            return _json({"events": events, "next": events[-1].id + 1 if events else self._journal.next})
        if self._followers >= MAX_FOLLOWERS:
            return _error(Outcome.CONNECTIONS_FULL, f"{MAX_FOLLOWERS} clients follow the events already.")
        return _stream(request, self._follow(first))

    async def feed(self, request: Request) -> Response:
        """The live feed."""
        if self._feed.full:
            return _error(Outcome.CONNECTIONS_FULL, "As many clients follow the feed as may.")
        return _stream(request, _framed(self._feed.follow()))

    async def service(self, request: Request) -> Response:
        """One service in detail."""
        name = request.path_params["name"]
        self._feed.watch()
        allowed = self._guard.refusal(request.headers) is None
        told = await self._detail(name, self._guard.token if allowed else "")
        if told is None:
            return _error(Outcome.PATH_UNKNOWN, f"There is no service {name}; GET /services shows those there are.")
        return _json(told)

    async def _follow(self, first: int) -> AsyncGenerator[bytes, None]:
        self._followers += 1
        try:
            yield _RETRY
            while True:
                events = self._journal.since(first)
                for event in events:
                    yield b"id: %d\ndata: %b\n\n" % (event.id, msgspec.json.encode(event))
                first = events[-1].id + 1 if events else self._journal.next
                before = self._journal.next
                await self._journal.wait(first, KEEP_ALIVE)
                if self._journal.next == before == first:
                    yield b": nothing happened\n\n"
        finally:
            self._followers -= 1


async def _framed(objects: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    yield _RETRY
    async for told in objects:
        yield b"data: %b\n\n" % told


def _stream(request: Request, events: AsyncIterator[bytes]) -> Response:
    if request.method == "HEAD":
        return Response(media_type="text/event-stream", headers=_STREAM)
    return StreamingResponse(events, media_type="text/event-stream", headers=_STREAM)


def _number(request: Request, name: str, default: int) -> int:
    """A query parameter. Raises `ValueError`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(f"`{name}` must be a number, 0 or more.")
    return int(text)


def _json(data: object) -> Response:
    return Response(msgspec.json.encode(data), media_type="application/json", headers={"cache-control": "no-store"})


def _error(outcome: Outcome, message: str) -> Response:
    made = error_response(outcome, message)
    return Response(made.body, made.status, {name.decode(): value.decode() for name, value in made.headers})
