"""The babysitter's own endpoints, on the engine's port + 1: the truth about one engine, read only.

Owns the paths and the inherited shapes. May not live here: what state the engine is in (`machines.child`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from enginehouse.babysitter.agent import Agent, engine_name
from enginehouse.babysitter.keeper import Keeper
from enginehouse.babysitter.logs import Output
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.proof import logs_of, proves
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
    "/logs": "the engine's last lines, for who has the token of `admin_token_file` (`Authorization: Bearer TOKEN`): "
    "`{lines, next}`; `?since=N` those from number N on, as `next` told it; `?limit=N` at most so many",
    "/logs/file": "`{file}`: where all of its output is; told to this machine only, whose owner may read it",
    "/livez": "200 as long as the babysitter itself works",
}
#: Lines told where it is not said how many, and at most.
USUAL_LINES = 100
MOST_LINES = 1000
NUMBER = re.compile(r"-?[0-9]{1,18}")
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
BAD_REQUEST = "invalid_request_error"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(config: BabysitterConfig, keeper: Keeper, agent: Agent, output: Output, token: str) -> web.Application:
    """The endpoints of one engine. `token`: who has it may read the engine's `output`; "": nobody may."""
    api = _Api(config, keeper, agent, output, token)
    app = web.Application(middlewares=[_errors_as_json], client_max_size=1024)
    app.router.add_get("/health", api.health)
    app.router.add_get("/models", api.models)
    app.router.add_get("/v1/models", api.models)
    app.router.add_get("/info", api.info)
    app.router.add_get("/logs", api.logs)
    app.router.add_get("/logs/file", api.log_file)
    app.router.add_get("/livez", api.alive)
    return app


class _Api:
    def __init__(self, config: BabysitterConfig, keeper: Keeper, agent: Agent, output: Output, token: str) -> None:
        self._output = output
        self._token = token
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

    async def logs(self, request: web.Request) -> web.Response:
        """What an engine prints may be anything, prompts included: only for who has the token."""
        if not self._token:
            return _error(403, "This babysitter shows no output: give it admin_token_file.", BAD_REQUEST, None)
        what = logs_of(engine_name(self._config), self._config.port)
        if not proves(request.headers.get("authorization", ""), self._token, what, time.time()):
            why = "The output is for who has the token: send it as `Authorization: Bearer TOKEN`."
            return _error(401, why, BAD_REQUEST, "invalid_api_key", {"www-authenticate": "Bearer"})
        since, limit = request.query.get("since", "-1"), request.query.get("limit", str(USUAL_LINES))
        if not (NUMBER.fullmatch(since) and NUMBER.fullmatch(limit)):
            return _error(400, "`since` and `limit` must be whole numbers.", BAD_REQUEST, None)
        lines, number = self._output.since(int(since), max(0, min(int(limit), MOST_LINES)))
        return _json({"lines": lines, "next": number}, headers={"cache-control": "no-store"})

    async def log_file(self, request: web.Request) -> web.Response:
        """Where the output is on this machine, for who is on it: the file's own rights say who may read it."""
        if request.remote not in LOOPBACK:
            return _error(403, "Only this machine may know where the file is.", BAD_REQUEST, None)
        return _json({"file": str(self._output.path.absolute())})

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
