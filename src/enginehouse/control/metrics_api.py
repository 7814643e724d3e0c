"""`/metrics` over HTTP.

Owns its route. May not live here: what is told (`gauges`), in which format (`exposition`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from enginehouse.control.exposition import expose, format_for
from enginehouse.control.gauges import Gauges
from enginehouse.wire.own_paths import METRICS


def metrics_route(gauges: Gauges) -> Route:
    """Read-only."""

    async def answer(request: Request) -> Response:
        content_type = format_for(request.headers.get("accept", ""))
        pieces = expose(gauges.samples(), content_type)

        async def page() -> AsyncIterator[str]:
            for piece in pieces:
                yield piece
                await asyncio.sleep(0)  # it may be long: others are served between two metrics of it

        return StreamingResponse(page(), headers={"content-type": content_type})

    return Route(METRICS, answer, methods=["GET"])
