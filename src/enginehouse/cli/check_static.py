"""Checks of a file of static services (JSON), with the rules the router itself applies to a service.

Owns the three shapes such a file may have. May not live here: what a valid service is (`core.record`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enginehouse.cli.findings import Finding, fail, ok, warn
from enginehouse.core.record import RecordError, cache_type, endpoint, is_inference, model_ids, parse_record

SHAPES = 'write a list [...], {"services": [...]} or {"static_services": {"services": [...]}}'
KEYS = {"name", "host", "port", "hostname", "url", "status", "weight", "metadata"}


def static_services(path: Path) -> Iterator[Finding]:
    """What is wrong with the file, service by service."""
    try:
        items = services_of(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        yield fail(f"cannot be read: {error.strerror}", "check the path and its permissions")
        return
    except ValueError as error:
        yield fail(f"is not valid JSON: {error}", "mend the syntax at that place")
        return
    if items is None:
        yield fail("has none of the shapes a file of static services may have", SHAPES)
        return
    for number, item in enumerate(items):
        yield from _service(number, item)
    names = Counter(item.get("name") for item in items if isinstance(item, dict))
    for name, times in names.items():
        if times > 1:
            yield fail(f"{times} services are called {name}", "a name belongs to one service: rename the others")
    if not items:
        yield warn("lists no service", 'add one, for example {"name": "a", "host": "10.0.0.5", "port": 8000}')


def services_of(data: Any) -> list[Any] | None:
    """The list in any of the three shapes, or None."""
    if isinstance(data, dict):
        inner = data.get("static_services", data)
        data = inner.get("services") if isinstance(inner, dict) else None
    return data if isinstance(data, list) else None


def _service(number: int, item: Any) -> Iterator[Finding]:
    try:
        record = parse_record(item)
    except RecordError as error:
        name = item.get("name") if isinstance(item, dict) else None
        yield fail(f"service {name or number + 1}: {error}", "the router leaves this service out until it is mended")
        return
    for key in sorted(set(item) - KEYS):
        yield warn(f"service {record.name}: the key `{key}` means nothing", "put what is yours under `metadata`")
    if (stated := record.metadata.get("cache_type")) and not cache_type(record):
        yield warn(f"service {record.name}: unknown cache_type {stated!r}", 'use "static" or "paged", or leave it out')
    at = endpoint(record)
    models = ", ".join(model_ids(record)) or ("models learned from it" if is_inference(record) or not item else "")
    yield ok(
        f"service {record.name}: {'https' if at.tls else 'http'}://{at.host}:{at.port}{at.prefix}  {models}".rstrip()
    )
