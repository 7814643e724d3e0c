"""The dashboard's files, as they are sent to a browser: read once, never changed, nothing loaded from elsewhere.

Owns: which files there are, their types and tags, and what a browser may do with them (the security headers). May not
live here: what the page shows (the feed), what it may order (`actions`), and the files themselves (`enginehouse.web`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from enginehouse.wire.own_paths import DASHBOARD

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: What a page may do: run and style itself with its own files and talk to this router, and nothing else. Nobody may
#: show it in a frame, where a click could be stolen.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class File(NamedTuple):
    """One file, ready to be sent."""

    body: bytes
    type: str
    tag: str
    """Changes with the contents: a browser asks whether it has the newest, and mostly has."""


def read_files(directory: Path) -> dict[str, File]:
    """Every file of the dashboard, by name."""
    found = {}
    for path in sorted(directory.iterdir()):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            found[path.name] = File(body, _TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:16]}"')
    return found


def page_routes(files: Mapping[str, File]) -> list[Route]:
    """`/dashboard`, and what it loads. The page names everything relative to itself, so it works below any prefix."""

    async def page(request: Request) -> Response:
        return _answer(request, files["index.html"])

    async def static(request: Request) -> Response:
        file = files.get(request.path_params["name"])
        return Response("There is no such file.", 404, SECURITY) if file is None else _answer(request, file)

    async def without_slash(_: Request) -> Response:
        return Response(status_code=308, headers=SECURITY | {"location": "../dashboard"})

    return [
        Route(DASHBOARD, page, methods=["GET"]),
        Route(DASHBOARD + "/", without_slash, methods=["GET"]),
        Route(DASHBOARD + "/static/{name}", static, methods=["GET"]),
    ]


def _answer(request: Request, file: File) -> Response:
    headers = SECURITY | {"etag": file.tag, "cache-control": "no-cache", "content-type": file.type}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers)
