"""A router as a page sees it: the dashboard's own files, and a feed that says what a test tells it to.

Owns the ASGI app, its server, and objects of the feed. May not live here: what a test expects.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from enginehouse.app import DASHBOARD
from enginehouse.control.api import serve
from enginehouse.control.pages import page_routes, read_files

STATES = ["up"] * 12 + ["ejected", "down", "draining", "unknown"]
REASONS = {
    "ejected": "too many of its requests failed",
    "down": "connection refused",
    "draining": "draining: it finishes what it has",
    "unknown": "not probed yet",
}
MODELS = ["Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "BAAI/bge-m3"]


def service(number: int, state: str = "up", tick: int = 0, **fields: Any) -> dict[str, Any]:
    """A row of the feed."""
    swing = math.sin(tick / 9 + number) + 1
    works = state == "up"
    return {
        "name": f"gpu{number // 8:03}-{number % 8}-server",
        "state": state,
        "reason": REASONS.get(state, ""),
        "models": [MODELS[number % len(MODELS)]],
        "in_flight": round(3 * swing) + number % 3 if works else 0,
        "capacity": 16 if number % 4 else None,
        "waiting_tokens": 0,
        "requests": 10_000 + number * 37 + tick * 5,
        "errors": 0 if works else 17,
        "rate": 4.2 * swing if works else 0.0,
        "token_rate": 310 * swing if works else 0.0,
        "ttft": {"p50": 0.11 * (1 + swing / 4), "p90": 0.31 * (1 + swing / 3), "p99": 0.9 + swing / 5}
        if works
        else None,
        "weight": 1,
        "url": f"http://10.0.{number // 8}.7:{9000 + number % 8 * 10}",
    } | fields


def fleet(number: int, tick: int = 0, **fields: Any) -> dict[str, Any]:
    """A whole object of the feed: a house of so many services, at a moment."""
    services = [service(place, STATES[place % len(STATES)], tick) for place in range(number)]
    up = sum(row["state"] == "up" for row in services)
    swing = math.sin(tick / 11) + math.sin(tick / 4) / 3
    models = []
    for name in MODELS:
        serving = [row for row in services if name in row["models"]]
        if serving:
            well = [row for row in serving if row["state"] == "up"]
            models.append(
                {
                    "id": name,
                    "services": len(serving),
                    "healthy": len(well),
                    "policy": "prefix",
                    "in_flight": sum(row["in_flight"] for row in serving),
                    "waiting": 0,
                    "rate": sum(row["rate"] for row in serving),
                    "ttft": {"p50": 0.14 + swing / 50, "p90": 0.4 + swing / 20, "p99": 1.3},
                    "hit_share": 0.62 + swing / 12,
                }
            )
    return {
        "time": 1_795_000_000 + tick,
        "full": True,
        "version": "0.6.0",
        "synced": True,
        "policy": "prefix",
        "actions": False,
        "totals": {
            "requests": 184_000 + tick * up * 4,
            "errors": 12 + tick // 20,
            "in_flight": sum(row["in_flight"] for row in services),
            "waiting": max(0, round(3 * swing)),
            "tokens_in": 91_000_000,
            "tokens_out": 8_400_000 + tick * 4000,
            "tokens_cached": 44_000_000,
            "rate": up * (4.2 + swing),
            "error_rate": 0.2 if tick % 20 < 10 else 0.0,
            "tokens_in_rate": up * (900 + 250 * swing),
            "tokens_out_rate": up * (310 + 90 * swing),
            "ttft": {"p50": 0.13 + swing / 60, "p90": 0.36 + swing / 20, "p99": 1.1 + swing / 8} if up else None,
            "hit_share": 0.64 + swing / 14 if up else None,
        },
        "services": services,
        "models": models,
        "under_way": [
            {
                "id": f"req-0-{place:04}",
                "model": MODELS[place % 3],
                "service": f"gpu000-{place % 8}-server",
                "seconds": place * 1.7,
                "stream": bool(place % 3),
                "phase": ("connecting", "sent", "answering")[place % 3],
            }
            for place in range(min(number * 2, 9))
        ],
        "recent": [ended(tick * 3 + place, 1_795_000_000 + tick) for place in range(3 if number else 0)],
        "events": [],
    } | fields


def ended(number: int, time: float, **fields: Any) -> dict[str, Any]:
    """A request that is over."""
    return {
        "id": f"req-1-{number:06}",
        "time": time,
        "model": MODELS[number % 3],
        "service": f"gpu000-{number % 5}-server",
        "status": 200,
        "outcome": "answered",
        "termination": "--",
        "ms": 1300 + number % 700,
        "ttft_ms": 120 + number % 90,
        "tokens_in": 812,
        "tokens_out": 143,
        "reason": "prefix 87%",
    } | fields


class Scripted:
    """What the page is served. `feed.put_nowait(object)` pushes one; `asked` are the requests with a body, in order."""

    def __init__(self) -> None:
        self.followers: list[asyncio.Queue[Any]] = []
        self.followed = asyncio.Event()
        """Somebody follows, or has followed."""
        self.latest: dict[str, Any] | None = None
        self.asked: list[dict[str, Any]] = []
        self.details: dict[str, Any] = {}
        self.token = ""
        self.says = ["The ", "house ", "answers."]
        self.broken = False
        routes = page_routes(read_files(DASHBOARD))
        routes += [
            Route("/dashboard/feed", self._feed),
            Route("/dashboard/service/{name}", self._service),
            Route("/dashboard/actions/drain", self._drain, methods=["POST"]),
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    def push(self, told: dict[str, Any]) -> None:
        """Push an object to everybody who follows; those who come later begin with it."""
        self.latest = told
        for follower in self.followers:
            follower.put_nowait(told)

    def cut(self) -> None:
        """End every feed, as a router that goes away."""
        for follower in self.followers:
            follower.put_nowait(None)

    async def _feed(self, _: Request) -> Response:
        if self.broken:
            return Response("", 503)
        queue: asyncio.Queue[Any] = asyncio.Queue()
        if self.latest is not None:
            queue.put_nowait(self.latest)

        async def objects() -> AsyncIterator[str]:
            self.followers.append(queue)
            self.followed.set()
            try:
                while (told := await queue.get()) is not None:
                    yield f"data: {json.dumps(told)}\n\n"
            finally:
                self.followers.remove(queue)

        return StreamingResponse(objects(), media_type="text/event-stream")

    async def _service(self, request: Request) -> Response:
        known = request.headers.get("authorization") == f"Bearer {self.token}" and bool(self.token)
        return JSONResponse(self.details | ({} if known else {"log": None}))

    async def _drain(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"error": {"message": "no"}}, 401)
        self.asked.append(await request.json())
        return JSONResponse({})

    async def _chat(self, request: Request) -> Response:
        self.asked.append(await request.json())

        async def pieces() -> AsyncIterator[str]:
            for word in self.says:
                yield f"data: {json.dumps({'choices': [{'delta': {'content': word}}]})}\n\n"
                await asyncio.sleep(0)
            yield 'data: {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3}}\n\ndata: [DONE]\n\n'

        told = {
            "service": "gpu000-1-server",
            "reason": "prefix 87%",
            "attempts": "1",
            "queue-ms": "0",
            "overhead-ms": "0.1",
        }
        headers = {f"x-enginehouse-{name}": value for name, value in told.items()} | {"x-request-id": "r-1"}
        return StreamingResponse(pieces(), media_type="text/event-stream", headers=headers)


@contextlib.asynccontextmanager
async def serving(house: Scripted) -> AsyncIterator[str]:
    """Serve it in this loop, as control serves the real one; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(serve(house.app, listener))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            house.cut()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
