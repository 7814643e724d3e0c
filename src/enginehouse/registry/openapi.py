"""The OpenAPI document of the registry, made from the structs that are really sent.

Owns: descriptions of paths and parameters. May not live here: shapes (`views`), behaviour (`api`).
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from enginehouse import __version__
from enginehouse.registry import views

_SHAPES = (
    views.Health,
    views.Stats,
    views.Listing,
    views.Registered,
    views.Updated,
    views.Unregistered,
    views.Beat,
    views.Probed,
    views.Snapshot,
    views.Put,
    views.Delete,
    views.Reset,
)


@functools.cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    _, shapes = msgspec.json.schema_components(_SHAPES, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Enginehouse registry",
            "version": __version__,
            "description": "Services register with a lease and send heartbeats; whoever needs them lists or follows.",
        },
        "paths": {
            "/health": {"get": _reads("How the registry is", "Health")},
            "/stats": {"get": _reads("Counts", "Stats")},
            "/services": {"get": _list(), "post": _register()},
            "/services/{name}": {
                "parameters": [_NAME],
                "get": _reads("One service", "ServiceView", missing=True),
                "put": _writes("Replace some fields; counts as a heartbeat", "Updated", _object(_FIELDS)),
                "delete": _writes("Unregister", "Unregistered"),
            },
            "/services/{name}/health": {
                "parameters": [_NAME],
                "get": _reads("Probe the service now", "Probed", missing=True),
            },
            "/services/{name}/heartbeat": {
                "parameters": [_NAME],
                "post": _writes("Say that the service lives", "Beat", _object({"status": {"type": "string"}})),
            },
            "/livez": {"get": _plain("The process lives")},
            "/readyz": {"get": _plain("It takes requests; 503 while it stops")},
            "/openapi.json": {"get": _plain("This document")},
        },
        "components": {
            "schemas": shapes | {"Error": _ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
}
_FIELDS: dict[str, Any] = {
    "host": {"type": "string", "description": "name or address; never link-local or unspecified"},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "hostname": {"type": "string", "description": "for people; default: the host"},
    "url": {"type": "string", "description": "base URL on the same host; default: http://host:port"},
    "status": {"type": "string", "default": "running"},
    "weight": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1},
    "metadata": {"type": "object", "description": "type, models, models_list, health_url, base_url, capacity, …"},
}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "the offending field"},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_LEASE = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(fields: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(required)}


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _error(description: str) -> dict[str, Any]:
    return _json(_ref("Error"), description)


def _plain(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _json({"type": "object"}, summary)}}


def _reads(summary: str, shape: str, *, missing: bool = False) -> dict[str, Any]:
    responses = {"200": _json(_ref(shape), summary)}
    if missing:
        responses["404"] = _error("no such service")
    return {"summary": summary, "responses": responses}


def _writes(summary: str, shape: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "security": [{"token": []}, {}],
        "parameters": [_query("lease", "the lease the service was registered with", _LEASE)],
        "responses": {
            "200": _json(_ref(shape), summary),
            "400": _error("bad input; `param` names the field"),
            "401": _error("the bearer token is missing or wrong"),
            "404": _error("no such service: register it again"),
            "409": _error("the service belongs to another lease"),
            "503": _error("the change cannot be kept now (disk)"),
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": False, "content": {"application/json": {"schema": body}}}
    return operation


def _register() -> dict[str, Any]:
    fields = {"name": _NAME["schema"]} | _FIELDS | {"lease": _LEASE | {"description": "of a new incarnation"}}
    operation = _writes("Register, replace or take over", "Registered", _object(fields, ("name", "host", "port")))
    del operation["parameters"], operation["responses"]["404"]
    operation["responses"]["201"] = operation["responses"].pop("200")
    operation["requestBody"]["required"] = True
    return operation


def _list() -> dict[str, Any]:
    operation = _reads("All services; with `watch` the feed of changes", "Listing")
    operation["parameters"] = [
        _query("status", "only with exactly this status", {"type": "string"}),
        _query("healthy", "only healthy ones, or only others", {"type": "boolean"}),
        _query("watch", "follow changes after this revision; 0 begins with a snapshot", {"type": "integer"}),
        _query("epoch", "the epoch the revision belongs to", {"type": "string"}),
    ]
    events = [_ref(name) for name in ("Snapshot", "Put", "Delete", "Reset")]
    content = operation["responses"]["200"]["content"]
    content["text/event-stream"] = {"schema": {"type": "string", "description": "data lines:", "anyOf": events}}
    return operation
