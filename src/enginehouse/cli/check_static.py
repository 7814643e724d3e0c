"""Checks of a file of static services (JSON), read by the router's own reader.

Owns what is said about each service. May not live here: the shapes of the file (`control.static_file`) and what a valid
service is (`core.record`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from enginehouse.cli.findings import Finding, fail, ok, warn
from enginehouse.control.static_file import parse
from enginehouse.core.record import Record, cache_type, endpoint, model_ids

KEYS = {"name", "host", "port", "hostname", "url", "status", "weight", "metadata"}


def static_services(path: Path) -> Iterator[Finding]:
    """What is wrong with the file, service by service."""
    try:
        content = path.read_bytes()
        found = parse(content)
    except OSError as error:
        yield fail(f"cannot be read: {error.strerror}", "check the path and its permissions")
        return
    except ValueError as error:
        yield fail(str(error), "docs/how-to/static-services.md has an example")
        return
    for item in found.rejected:
        yield fail(f"service {item.name}: {item.reason}", "the router leaves this service out until it is mended")
    yield from _strange_keys(json.loads(content))
    for record in found.records:
        yield from _service(record)
    if not found.records and not found.rejected:
        yield warn("lists no service", 'add one, for example {"name": "a", "host": "10.0.0.5", "port": 8000}')


def _strange_keys(data: Any) -> Iterator[Finding]:
    """Keys that the router drops without a word, whatever the shape of the file."""
    if isinstance(data, dict):
        data = data.get("static_services", data)
        data = data.get("services", []) if isinstance(data, dict) else data
    for item in data:
        for key in sorted(set(item) - KEYS) if isinstance(item, dict) else ():
            yield warn(
                f"service {item.get('name')}: the key `{key}` means nothing", "put what is yours into `metadata`"
            )


def _service(record: Record) -> Iterator[Finding]:
    if (stated := record.metadata.get("cache_type")) and not cache_type(record):
        yield warn(f"service {record.name}: unknown cache_type {stated!r}", 'use "static" or "paged", or leave it out')
    at = endpoint(record)
    host = f"[{at.host}]" if ":" in at.host else at.host
    models = ", ".join(model_ids(record)) or "its models are learned from it"
    yield ok(f"service {record.name}: {'https' if at.tls else 'http'}://{host}:{at.port}{at.prefix}  {models}")
