"""The registry's HTTP interface: the paths, what they take and what they answer.

Owns: routes and handlers. May not live here: who may write (`leases`), where services are kept (`store`), the shapes
(`views`), what all requests have in common (`http`), the sending of the feed (`feed`).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from enginehouse.core.record import RecordError, parse_record
from enginehouse.registry import openapi, views
from enginehouse.registry.feed import Feed, FeedResponse
from enginehouse.registry.http import BUSY, HANDLERS, ApiError, Gate, check_token, read_object, reply, text_field
from enginehouse.registry.leases import Entry, UnknownService
from enginehouse.registry.probes import Prober
from enginehouse.registry.store import Store

_LEASE = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LEASE_WORDS = "1 to 128 characters out of A-Z a-z 0-9 . _ -"
_STATUS = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,64}")
_AMENDABLE = ("host", "port", "hostname", "url", "status", "weight", "metadata")

Handler = Callable[[Request], Awaitable[Response]]


class Parts(NamedTuple):
    """What the handlers work with."""

    store: Store
    observer: views.Observer
    prober: Prober
    feed: Feed
    token: str
    allow_networks: tuple[str, ...]
    max_watchers: int


def application(parts: Parts) -> ASGIApp:
    """The ASGI application."""
    api = _Api(parts)
    routes = [
        _route("/health", GET=api.health),
        _route("/stats", GET=api.stats),
        _route("/services", GET=api.list_services, POST=api.register),
        _route("/services/{name}", GET=api.show, PUT=api.update, DELETE=api.unregister),
        _route("/services/{name}/health", GET=api.probe),
        _route("/services/{name}/heartbeat", POST=api.heartbeat),
        _route("/livez", GET=api.alive),
        _route("/readyz", GET=api.ready),
        _route("/openapi.json", GET=api.openapi),
    ]
    app = Starlette(routes=routes, exception_handlers=HANDLERS)
    app.router.redirect_slashes = False
    return Gate(app)


def _route(path: str, **handlers: Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, endpoint, methods=list(handlers))


class _Api:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.store
        self._view = parts.observer.view
        self._started = time.monotonic()

    # reading

    async def health(self, _: Request) -> Response:
        services = self._parts.observer.views()
        return reply(
            views.Health(
                status="healthy",
                registry="running",
                registered_services=len(services),
                healthy_services=sum(service.is_healthy for service in services),
                timestamp=views.rfc3339(),
            )
        )

    async def stats(self, _: Request) -> Response:
        services = self._parts.observer.views()
        healthy = sum(service.is_healthy for service in services)
        return reply(
            views.Stats(
                total_services=len(services),
                healthy_services=healthy,
                unhealthy_services=len(services) - healthy,
                status_distribution=Counter(service.status for service in services),
                host_distribution=Counter(service.host for service in services),
                uptime=time.monotonic() - self._started,
                timestamp=views.rfc3339(),
            )
        )

    async def list_services(self, request: Request) -> Response:
        query = request.query_params
        if "watch" in query:
            return self._watch(request)
        services = self._parts.observer.views()
        if (status := query.get("status")) is not None:
            services = [service for service in services if service.status == status]
        if (healthy := query.get("healthy")) is not None:
            if healthy not in ("true", "false"):
                raise RecordError("healthy", "must be true or false")
            services = [service for service in services if service.is_healthy == (healthy == "true")]
        return reply(views.Listing(services=services, total=len(services), timestamp=views.rfc3339()))

    def _watch(self, request: Request) -> Response:
        """The feed. The place to go on from: `?watch=REVISION&epoch=EPOCH`, or what the last event's id said."""
        revision, epoch = request.query_params["watch"], request.query_params.get("epoch", "")
        if last := request.headers.get("last-event-id"):
            epoch, _, revision = last.partition(":")
        if not re.fullmatch(r"[0-9]{0,18}", revision):
            raise RecordError("watch", "must be the revision to go on from, 0 for a new follower")
        if self._parts.feed.followers >= self._parts.max_watchers:
            message = f"{self._parts.max_watchers} clients follow the feed already, which is its limit; poll instead"
            raise ApiError(503, message, kind=BUSY, code="too_many_watchers", headers={"retry-after": "30"})
        return FeedResponse(self._parts.feed.follow(int(revision or 0), epoch))

    async def show(self, request: Request) -> Response:
        return reply(self._view(self._entry(request)))

    async def probe(self, request: Request) -> Response:
        entry = self._entry(request)
        healthy = await self._parts.prober.probe(entry)
        view = self._view(self._entry(request))
        return reply(
            views.Probed(
                service=view.name,
                health_status="healthy" if healthy else "unhealthy",
                is_healthy=view.is_healthy,
                last_heartbeat=view.last_heartbeat,
                timestamp=views.rfc3339(),
            )
        )

    async def alive(self, _: Request) -> Response:
        return reply({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        if self._parts.feed.closed:
            raise ApiError(503, "The registry stops", kind=BUSY, headers={"retry-after": "1"})
        return reply({"status": "ready"})

    async def openapi(self, _: Request) -> Response:
        return reply(openapi.document())

    # writing

    async def register(self, request: Request) -> Response:
        check_token(request, self._parts.token)
        data = await read_object(request)
        record = parse_record(data, allow_networks=self._parts.allow_networks)
        entry = await self._store.put(record, text_field(data, "lease", _LEASE, _LEASE_WORDS))
        message = f"Service '{record.name}' registered successfully"
        return reply(views.Registered(message=message, service=self._view(entry), lease=entry.lease), 201)

    async def update(self, request: Request) -> Response:
        name, lease = self._addressed(request)
        data = await read_object(request)
        fields = {field: data[field] for field in _AMENDABLE if field in data}
        entry = await self._store.amend(name, fields, lease)
        return reply(views.Updated(message=f"Service '{name}' updated successfully", service=self._view(entry)))

    async def unregister(self, request: Request) -> Response:
        name, lease = self._addressed(request)
        await self._store.remove(name, lease)
        return reply(views.Unregistered(message=f"Service '{name}' unregistered successfully"))

    async def heartbeat(self, request: Request) -> Response:
        name, lease = self._addressed(request)
        data = await read_object(request, optional=True)
        status = text_field(data, "status", _STATUS, "1 to 64 characters, none of them a control character")
        await self._store.renew(name, lease, status)
        return reply(views.Beat(message="Heartbeat received", timestamp=views.rfc3339()))

    def _addressed(self, request: Request) -> tuple[str, str]:
        """Name and lease ("" for none) of a call that changes a service."""
        check_token(request, self._parts.token)
        lease = text_field(dict(request.query_params), "lease", _LEASE, _LEASE_WORDS)
        return request.path_params["name"], lease

    def _entry(self, request: Request) -> Entry:
        name = request.path_params["name"]
        entry = self._store.get(name)
        if entry is None:
            raise UnknownService(name)
        return entry
