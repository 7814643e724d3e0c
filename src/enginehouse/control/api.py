"""The router's own HTTP interface, which the workers proxy to like any other service.

Owns: routes, methods, and serving them on a socket that is already listening. Read-only. May not live here: what is
told (`views`), the shape of errors (`wire.errors`), `/livez` and `/readyz`, which each worker answers by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from enginehouse.control.views import Views
from enginehouse.core.outcome import Outcome
from enginehouse.wire.errors import error_response, refusal_message

#: Requests answered at once; all of them are quick.
MAX_CONCURRENT = 1024
#: Seconds an idle connection of a worker is kept; longer than a worker keeps it, so that it is never closed under it.
KEEPALIVE = 600


def make_app(views: Views) -> Starlette:
    """The ASGI app."""

    def told(tell: Callable[[], object]) -> Callable[[Request], Response]:
        return lambda _: _json(tell())

    def model(request: Request) -> Response:
        asked = request.path_params["id"]
        if not asked:
            return _error(Outcome.PATH_UNKNOWN, _NO_SUCH_PATH)
        found = views.model(asked)
        if isinstance(found, Outcome):
            return _error(found, refusal_message(found, asked, views.served()), param="model")
        return _json(found)

    routes = [
        _route("/health", told(lambda: views.health("healthy"))),
        _route("/status", told(lambda: views.health("running"))),
        _route("/services", told(views.services)),
        _route("/stats", told(views.stats)),
        _route("/models", told(views.models)),
        _route("/v1/models", told(views.models)),
        _route("/v1/models/{id:path}", model),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse, Exception: _fail})
    app.router.redirect_slashes = False
    return app


async def serve(views: Views, listener: socket.socket) -> None:
    """Answer on a listening socket until cancelled."""
    config = uvicorn.Config(
        make_app(views),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONCURRENT,
        timeout_keep_alive=KEEPALIVE,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = server.force_exit = True
        server.stopping.set()
        await serving


class _Server(uvicorn.Server):
    """A server that leaves the signals of its process alone: they belong to whoever started it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """Wake once a second, for the Date header, and at the end: uvicorn's own loop wakes ten times a second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), 1.0)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


_NO_SUCH_PATH = "The router has no such path of its own; GET /services shows its services, GET /v1/models their models."


def _route(path: str, handle: Callable[[Request], Response]) -> Route:
    # Starlette hands plain functions to a thread, which for these would only cost time.
    async def endpoint(request: Request) -> Response:
        return handle(request)

    return Route(path, endpoint, methods=["GET"])


def _json(data: object) -> Response:
    return Response(msgspec.json.encode(data), media_type="application/json")


def _error(outcome: Outcome, message: str, param: str | None = None, headers: dict[str, str] | None = None) -> Response:
    made = error_response(outcome, message, param)
    named = {name.decode(): value.decode() for name, value in made.headers}
    return Response(made.body, made.status, named | (headers or {}))


async def _refuse(_: Request, error: Exception) -> Response:
    """A path or a method that there is not."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = dict(error.headers or {})
        return _error(Outcome.METHOD_NOT_ALLOWED, "The router's own paths are read-only: use GET.", headers=allowed)
    return _error(Outcome.PATH_UNKNOWN, _NO_SUCH_PATH)


async def _fail(*_: object) -> Response:
    """A bug of ours; the server logs it."""
    return _error(Outcome.BUG, "")
