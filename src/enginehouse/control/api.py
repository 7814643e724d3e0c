"""The router's own HTTP interface, which the workers proxy to like any other service.

Owns: routes, methods, and serving them on a socket that is already listening. None of them changes anything. May not
live here: what is told (`views`, `explaining`), the shape of errors (`wire.errors`), `/livez` and `/readyz`, which each
worker answers by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from enginehouse.control.explaining import Explainer
from enginehouse.control.views import Views
from enginehouse.core.outcome import Outcome
from enginehouse.wire.errors import error_response, refusal_message
from enginehouse.wire.own_paths import EXPLAIN, EXPLAINED

#: Requests answered at once; all of them are quick.
MAX_CONCURRENT = 1024
#: Requests that are explained at once; more wait.
EXPLAINED_AT_ONCE = 4
#: Seconds an idle connection of a worker is kept; longer than a worker keeps it, so that it is never closed under it.
KEEPALIVE = 600


def make_app(views: Views, explainer: Explainer, max_body: int, more: Iterable[Route]) -> Starlette:
    """The ASGI app. `max_body`: bytes of a request that is to be explained. `more`: routes of other parts."""

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
    explanation = _Explaining(explainer, max_body)
    routes += [Route(path, explanation.answer, methods=_ANY) for path in (EXPLAIN, EXPLAIN + "/{target:path}")]
    app = Starlette(routes=[*routes, *more], exception_handlers={HTTPException: _refuse, Exception: _fail})
    app.router.redirect_slashes = False
    return app


async def serve(app: Starlette, listener: socket.socket) -> None:
    """Answer on a listening socket until cancelled."""
    config = uvicorn.Config(
        app,
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


class _Explaining:
    """`/explain` and `/explain/TARGET`: any request, put behind this path, is explained and not sent."""

    def __init__(self, explainer: Explainer, max_body: int) -> None:
        self._explainer = explainer
        self._max_body = max_body
        # A body is read only when its turn has come: so many of them are held at once, and no more.
        self._turns = asyncio.Semaphore(EXPLAINED_AT_ONCE)

    async def answer(self, request: Request) -> Response:
        """What would become of the request."""
        target = request.scope["raw_path"].removeprefix(EXPLAIN.encode())
        if target in (b"", b"/"):
            if request.method != "POST":
                return _error(Outcome.METHOD_NOT_ALLOWED, _HOW_TO_EXPLAIN, headers={"allow": "POST"})
            target = EXPLAINED
        if query := request.scope["query_string"]:
            target += b"?" + query
        async with self._turns:
            body = bytearray()
            async for piece in request.stream():
                body += piece
                if len(body) > self._max_body:
                    return _error(Outcome.BODY_TOO_LARGE, "")
            method, headers = request.method.encode(), request.headers.raw
            # In a thread: with thousands of services, or a body of many megabytes, it takes tens of milliseconds.
            told = await asyncio.to_thread(self._explainer.explain, method, target, headers, bytes(body))
        return _json(told)


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


_ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_HOW_TO_EXPLAIN = (
    "POST what you would send to /v1/chat/completions, or put /explain before the path of any other request."
)
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
