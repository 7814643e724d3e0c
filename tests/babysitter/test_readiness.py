"""Whether an engine is ready: asked of real servers that behave like the engines of the field."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from enginehouse.babysitter.readiness import MAX_BODY, MAX_MODELS, NotReady, Prober, Ready, model_list, said
from tests.ports import Ports

LIST = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "x"}]}
Answers = dict[str, tuple[int, Any]]
Ask = Callable[..., Awaitable[Ready | NotReady]]


@pytest.fixture
async def ask(ports: Ports) -> AsyncIterator[Ask]:
    """`ask({path: (status, body)}, …)`: one probe of an engine that answers so; unknown paths are 404."""
    runners: list[web.AppRunner] = []
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))

    async def probe(
        answers: Answers, key: str = "", timeout: float = 5.0, hosts: tuple[str, ...] = ("127.0.0.1",)
    ) -> Ready | NotReady:
        async def answer(request: web.Request) -> web.Response:
            status, body = answers.get(request.path, (404, {"detail": "Not Found"}))
            if callable(body):
                return await body(request)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            return web.Response(status=status, body=data, headers={"location": "/elsewhere"} if status == 302 else None)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        port = ports.one()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        configured = [{"id": "configured"}]
        return await Prober(
            session, list(hosts), port, timeout=timeout, health="/health", configured=configured, key=key
        ).probe()

    yield probe
    await session.close()
    for runner in runners:
        await runner.cleanup()


async def test_ready_is_who_lists_its_models(ask: Ask) -> None:
    assert await ask({"/v1/models": (200, LIST)}) == Ready(LIST["data"], json.dumps(LIST).encode())  # type: ignore[arg-type]


async def test_models_without_v1_is_enough(ask: Ask) -> None:
    assert (await ask({"/models": (200, LIST)}))[0] == LIST["data"]


async def test_loading_is_not_ready_in_the_engines_words(ask: Ask) -> None:
    body = {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}
    assert await ask({"/v1/models": (503, body)}) == NotReady("/v1/models answers 503: Loading model")


async def test_an_engine_without_a_list_is_ready_with_the_configured_models_once_its_health_is_good(ask: Ask) -> None:
    """Defect: An engine without `/models` never registers."""
    assert await ask({"/health": (200, {})}) == Ready([{"id": "configured"}], b"")
    assert await ask({"/health": (503, {"status": "loading"})}) == NotReady("/health answers 503: loading")


async def test_an_engine_that_knows_neither_list_nor_health_but_answers_is_ready(ask: Ask) -> None:
    assert await ask({}) == Ready([{"id": "configured"}], b"")


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501, 302, 200])
async def test_a_list_that_cannot_be_read_is_no_list(ask: Ask, status: int) -> None:
    page = b"<html>"
    assert await ask({"/v1/models": (status, page), "/models": (status, page)}) == Ready([{"id": "configured"}], b"")


async def test_the_engines_key_is_sent(ask: Ask) -> None:
    async def guarded(request: web.Request) -> web.Response:
        if request.headers.get("authorization") == "Bearer sesame":
            return web.json_response(LIST)
        return web.json_response({"error": "Unauthorized"}, status=401)

    assert (await ask({"/v1/models": (0, guarded)}, key="sesame"))[0] == LIST["data"]
    assert (await ask({"/v1/models": (0, guarded)}))[0] == [{"id": "configured"}]


async def test_a_closed_port_is_not_ready(ports: Ports) -> None:
    async with aiohttp.ClientSession() as session:
        prober = Prober(session, ["127.0.0.1", "::1"], ports.one(), timeout=5, health="/health", configured=[])
        assert await prober.probe() == NotReady("its port is closed")


async def test_an_open_port_alone_is_not_ready(ports: Ports) -> None:
    """Defect: "Ready" is assumed after 30 s. Defect: No HTTP timeouts."""
    port = ports.one()
    closing = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closing.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", port)
    async with aiohttp.ClientSession() as session:
        prober = Prober(session, ["127.0.0.1"], port, timeout=0.2, health="/health", configured=[{"id": "m"}])
        assert await prober.probe() == NotReady("no answer within 0.2 s")
    closing.set()
    server.close()
    await server.wait_closed()


async def test_a_list_that_drips_is_bounded_by_the_timeout(ask: Ask) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    assert await ask({"/v1/models": (200, drip)}, timeout=0.3) == NotReady("no answer within 0.3 s")


async def test_a_port_that_does_not_speak_http_is_not_ready(ports: Ports) -> None:
    port = ports.one()

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", port)
    async with aiohttp.ClientSession() as session:
        prober = Prober(session, ["127.0.0.1"], port, timeout=5, health="/health", configured=[{"id": "m"}])
        answer = await prober.probe()
    assert isinstance(answer, NotReady)
    assert answer.reason.startswith("no HTTP answer")
    server.close()
    await server.wait_closed()


async def test_the_address_that_listens_is_found(ask: Ask) -> None:
    answer = await ask({"/v1/models": (200, LIST)}, hosts=("::1", "127.0.0.9", "127.0.0.1"))
    assert answer[0] == LIST["data"]


@pytest.mark.parametrize(
    ("body", "models"),
    [
        (b'{"data": [{"id": "a"}, {"id": "b", "x": 1}]}', [{"id": "a"}, {"id": "b", "x": 1}]),
        (b'{"data": []}', []),
        (b'[{"id": "a"}]', [{"id": "a"}]),
        (b'{"data": [{"id": 7}, {"id": ""}, {}, "a", null, {"id": "ok"}]}', [{"id": "ok"}]),
        (b'{"models": []}', None),
        (b'{"data": {"id": "a"}}', None),
        (b'"data"', None),
        (b"<html>", None),
        (b'{"data": ["\xff"]}', None),
        (b"[" * 100_000, None),
        (b"", None),
        (b" " * (MAX_BODY + 1), None),
    ],
)
def test_what_is_a_list_of_models(body: bytes, models: list[dict[str, Any]] | None) -> None:
    assert model_list(body) == models


def test_a_list_is_bounded() -> None:
    body = json.dumps({"data": [{"id": str(number)} for number in range(MAX_MODELS + 5)]}).encode()
    models = model_list(body)
    assert models is not None
    assert len(models) == MAX_MODELS


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":{"message":"Loading model","code":503}}', ": Loading model"),
        (b'{"object":"error","message":"flat"}', ": flat"),
        (b'{"error":"Unauthorized"}', ": Unauthorized"),
        (b'{"detail":"Not Found"}', ": Not Found"),
        (b'{"error":{"message":7}}', ""),
        (b'{"x":1}', ""),
        (b"plain", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_the_words_of_an_error_in_any_engines_shape(body: bytes, words: str) -> None:
    assert said(body) == words
