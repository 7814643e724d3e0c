"""The reference page of the HTTP interfaces: router, registry, babysitter; and which paths go to engines.

Owns the layout, and in words what no table says. May not live here: paths, statuses and shapes, which have their places
in the code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from enginehouse.babysitter.api import PATHS
from enginehouse.control.events import MEANINGS
from enginehouse.control.live import MEMBERS
from enginehouse.registry.openapi import document
from enginehouse.wire.admin_paths import HEADS, WHOLE, WORDS
from enginehouse.wire.own_paths import OWN_PATHS, WORKERS_PATHS, OwnPath
from enginehouse.wire.paths import JSON_PATHS, MULTIPART_PATHS

HEAD: Final = """# HTTP interfaces

All of them speak JSON. Errors have [one shape](errors.md), every answer of the router has [its headers](headers.md).

## Router

On port 8080, unless it is told otherwise. These are its own paths; `HEAD` works where `GET` does:
"""

SERVICE: Final = """
A **service** in these answers is `{name, host, port, url, babysitter_url, healthy, request_count, error_count,
response_time, weight, models, metadata}`; `response_time` is the mean time to the first byte, in seconds. Beside it
stand `status` as registered, `in_flight`, `capacity` (null: none), `kv_tokens` that its KV cache holds (null: unknown),
counts of [what requests showed](../explanation/health.md#seeing-it) (`server_error_count`, `rejection_count`,
`ejection_count`), and `drained`: no worker sends it requests any more, and it has none left.

### What goes to an engine

Everything else, with the same method, path, query and body. On these paths the router reads the model in a JSON body,
and refuses what is no JSON (`/v1` may be left out):
"""

FORMS: Final = """
In a form, on these, likewise:
"""

OTHERS: Final = """
- `/v1/realtime`: in the query, or in the first `session.update` of the WebSocket.
- `/v1/videos`: in a form, or in JSON.
- `/v1/responses/{id}`, `/v1/videos/{id}`, `/v1/stream/{id}` and what lies below them: not at all; the service that
  made the id gets them.
- `/props`, `/slots` and `/metrics` with `?model=`: in the query, where they are open.
- Any other path: in the body, if that is JSON with a `model`; else any healthy service gets it. `strict_paths` refuses
  such paths with 404.

### What is refused

Administrative paths of engines, with 403: whoever can call them can stop, empty, reprogram or read an engine.
`open_paths` opens them one by one. With `/v1` before it or without, in any letter case, a path whose first segment is

"""

EVENTS: Final = """
### Events

`GET /events` is `{events, next}`: ask again with `?since=` and that number. With `Accept: text/event-stream` they come
as they happen, from `?since=` or after `Last-Event-ID`. An event is `{id, time, kind, service, reason}`: `id` rises by
one, and goes on rising when control is restarted; `time` in Unix seconds; `service` is "" where it is about none. The
last 10,000 are kept, in memory.

| kind | what happened |
|---|---|"""

FEED: Final = """
### The live feed

`GET /dashboard/feed` is a stream of server-sent events, one JSON object a second. The first tells everything; of those
after it `services` are only the rows that are different, unless `full` is true. At most 64 clients follow at once; one
that reads too slowly is dropped, and begins anew when it comes back. What is told of requests never holds anything of
prompts, answers or keys. Rates and percentiles are of the last ten seconds; times in seconds but where a name says
`_ms`; null where nothing is known.

| member | |
|---|---|"""

REGISTRY: Final = """
## Registry

On port 8081. `GET /openapi.json` has all of it for programs. What else than 200 or 201 may come is
[listed with the errors](errors.md#the-registrys-errors).
"""

LEASES: Final = """
A service is healthy while its `status` is `running` and its last heartbeat younger than `stale_after`; it is removed
after `remove_after` without one. `PUT {"status": "draining"}` takes no lease: a drain is an order about a service, kept
over its heartbeats until `PUT {"status": "running"}` or until another incarnation registers. With `token_file`,
everything that writes needs `Authorization: Bearer TOKEN`.
"""

BABYSITTER: Final = """
## Babysitter

On the engine's port + 1, one for each engine. `GET` only.
"""

TABLE: Final = "| path | answer |\n|---|---|"


def http_page() -> str:
    """The whole page."""
    lines = [HEAD, TABLE, *map(_own, (*OWN_PATHS, *WORKERS_PATHS)), SERVICE, _names(_shortened(JSON_PATHS)), FORMS]
    lines += [_names(_shortened(MULTIPART_PATHS)), OTHERS + _names(HEADS)]
    lines += [f"\nor has {' or '.join(f'`{word}`' for word in WORDS)} in it; and {_names(WHOLE)}."]
    lines += [EVENTS, *(f"| `{kind.value}` | {meaning} |" for kind, meaning in MEANINGS.items())]
    lines += [FEED, *(f"| `{name}` | {meaning} |" for name, meaning in MEMBERS.items())]
    lines += [REGISTRY, TABLE, *_registry()]
    lines += [LEASES, "| shape | members |\n|---|---|", *_shapes(), BABYSITTER, TABLE]
    return "\n".join([*lines, *(f"| `GET {path}` | {answer} |" for path, answer in PATHS.items())]) + "\n"


def _shortened(paths: frozenset[str]) -> set[str]:
    """Without those that are there under `/v1`, too."""
    return {path for path in paths if f"/v1{path}" not in paths}


def _own(own: OwnPath) -> str:
    path = own.path.replace(":path", "")
    members = f": `{{{', '.join(own.members.split())}}}`" if own.members else ""
    return f"| {_call(own.methods, path)} | {own.meaning}{members} |"


def _call(methods: str, path: str) -> str:
    return f"`{methods} {path}`" if methods.isupper() else f"`{path}`, {methods}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _registry() -> Iterator[str]:
    """One row an operation of the OpenAPI document."""
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                told = f"{operation['summary']}{_query(operation)}: {_answer(operation)}"
                yield f"| `{method.upper()} {path}` | {told[0].lower()}{told[1:]} |"


def _query(operation: dict[str, Any]) -> str:
    found = [f"`?{each['name']}=` {each['description']}" for each in operation.get("parameters", [])]
    return f" ({'; '.join(found)})" if found else ""


def _answer(operation: dict[str, Any]) -> str:
    """Status and shapes of the good answer, the statuses of the others."""
    good, *bad = sorted(operation["responses"])
    content = operation["responses"][good]["content"]
    shapes = [one for kind in content.values() for one in _references(kind["schema"])]
    return f"{good} {', '.join(shapes) or 'JSON'}" + (f", or {', '.join(bad)}" if bad else "")


def _references(schema: dict[str, Any]) -> list[str]:
    """Names of the shapes that a schema refers to."""
    return [f"`{each['$ref'].rpartition('/')[2]}`" for each in (schema, *schema.get("anyOf", [])) if "$ref" in each]


def _shapes() -> Iterator[str]:
    for name, schema in document()["components"]["schemas"].items():
        if name != "Error":
            yield f"| `{name}` | `{{{', '.join(schema['properties'])}}}` |"
