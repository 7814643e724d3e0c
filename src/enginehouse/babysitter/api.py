"""The babysitter's own endpoints, on the engine's port + 1: the truth about one engine, read only.

Owns the paths and the inherited shapes. May not live here: what state the engine is in (`machines.child`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from enginehouse.babysitter.agent import Agent
from enginehouse.babysitter.keeper import Keeper
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.record import default_url
from enginehouse.machines.child import State
from enginehouse.wire.http1 import head_problem

#: What there is, and what it answers to GET. The reference page is made from it.
PATHS: Final = {
    "/health": "200 while the engine is ready, else 503: `{status, service, babysitter, infinilm_server_running, "
    "infinilm_server_port, timestamp, reason}`; `status` is `healthy` or the engine's "
    "[state](machines.md), `reason` says why",
    "/models": "the engine's own list; 503 while it is not ready",
    "/v1/models": "the same",
    "/info": "who this is, since when, how often the engine was restarted: `{name, host, port, url, service_type, "
    "infinilm_server_port, uptime, restart_count}`",
    "/livez": "200 as long as the babysitter itself works",
}
BAD_REQUEST = "invalid_request_error"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(config: BabysitterConfig, keeper: Keeper, agent: Agent) -> web.Application:
    """The endpoints of one engine."""
    api = _Api(config, keeper, agent)
    app = web.Application(middlewares=[_errors_as_json], client_max_size=1024)
    app.router.add_get("/health", api.health)
    app.router.add_get("/models", api.models)
    app.router.add_get("/v1/models", api.models)
    app.router.add_get("/info", api.info)
    app.router.add_get("/livez", api.alive)
    return app


class _Api:
    def __init__(self, config: BabysitterConfig, keeper: Keeper, agent: Agent) -> None:
        self._config = config
        self._keeper = keeper
        self._agent = agent
        self._started = time.monotonic()

    async def health(self, _: web.Request) -> web.Response:
        child = self._keeper.child
        ready = child.state is State.READY
        told = {
            "status": "healthy" if ready else child.state.value,
            "service": self._config.name,
            "babysitter": "enhanced",
            "infinilm_server_running": self._keeper.running,
            "infinilm_server_port": self._detected_port(),
            "timestamp": int(time.time()),
            "reason": child.reason or None,
        }
        return _json(told, 200 if ready else 503)

    async def models(self, _: web.Request) -> web.Response:
        child = self._keeper.child
        if child.state is not State.READY:
            why = f"The engine is {child.state.value}" + (f": {child.reason}" if child.reason else "")
            return _error(503, why, "service_unavailable_error", "server_is_overloaded", {"retry-after": "5"})
        if self._keeper.body:
            return web.Response(body=self._keeper.body, content_type="application/json")
        return _json({"object": "list", "data": self._keeper.models})

    async def info(self, _: web.Request) -> web.Response:
        config, port = self._config, self._config.port + 1
        host = self._agent.address or "localhost"
        return _json(
            {
                "name": config.name,
                "host": host,
                "port": port,
                "url": default_url(host, port),
                "service_type": config.backend.type,
                "infinilm_server_port": self._detected_port(),
                "uptime": int(time.monotonic() - self._started),
                "restart_count": self._keeper.child.total,
            }
        )

    def _detected_port(self) -> int | None:
        """As inherited: null until the engine has been found on it."""
        return self._config.port if self._keeper.child.since_ready is not None else None

    async def alive(self, _: web.Request) -> web.Response:
        return _json({"status": "alive"})


class Connection(web.RequestHandler):
    """One client. What cannot be read as a request is refused in the shape of all errors, and fills nobody's log."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        text = "Internal Server Error"
        if status == 400:
            what = (message or "").partition(":\n")[0] or "no reason is known"
            text = f"The request is not valid HTTP/1.1: {what}."
        else:
            self.log_exception("Error handling request from %s", request.remote, exc_info=exc)
        return _refusal(status, text, BAD_REQUEST if status < 500 else "server_error")


def _refusal(status: int, message: str, kind: str) -> web.Response:
    """An error behind which nothing more is read from this client."""
    response = _error(status, message, kind, None)
    response.force_close()
    return response


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    version = f"{request.version.major}.{request.version.minor}"
    hosts, codings = (
        [value.encode("utf-8", "surrogateescape") for value in request.headers.getall(name, [])]
        for name in ("host", "transfer-encoding")
    )
    if problem := head_problem(version, hosts, codings):
        return _refusal(400, problem, BAD_REQUEST)
    try:
        return await handler(request)
    except web.HTTPNotFound:
        message = f"There is nothing at {request.path}; a babysitter has {', '.join(PATHS)}"
        return _error(404, message, BAD_REQUEST, "path_unknown")
    except web.HTTPMethodNotAllowed as error:
        message = f"{request.path} takes {', '.join(sorted(error.allowed_methods))} only"
        allow = {"allow": error.headers.get("allow", "GET")}
        return _error(405, message, BAD_REQUEST, "method_not_allowed", allow)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, headers=headers, content_type="application/json"
    )


def _error(
    status: int, message: str, kind: str, code: str | None, headers: dict[str, str] | None = None
) -> web.Response:
    return _json({"error": {"message": message, "type": kind, "param": None, "code": code}}, status, headers)
