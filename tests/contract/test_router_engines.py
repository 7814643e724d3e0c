"""Engines of every kind behind the router: plain, on IPv6, with a key, behind TLS; WebSockets; slow readers."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import trustme
from aiohttp import web

from tests.contract.router import engines, running, static, until
from tests.e2e.engines import SimProcess

GIB = 1 << 30
WS = aiohttp.ClientWSTimeout(ws_close=30)


def test_a_plain_engine_without_a_babysitter_is_served_and_its_models_are_learned(tmp_path: Path) -> None:
    """Defect: A static service without a babysitter at port+1 turns unhealthy.

    So a plain vLLM or llama.cpp cannot be used.
    """
    with (
        engines(plain={"models": ["org/a", "b"]}, llama={"models": ["c"], "style": "llama.cpp"}) as sims,
        running(tmp_path, [static(sim) for sim in sims.values()], health_interval=0.1) as router,
    ):
        router.until_healthy("plain", "llama")
        assert [model["id"] for model in router.ask("GET", "/v1/models").json["data"]] == ["b", "c", "org/a"]
        seen = sims["plain"].stats()["probes"]
        until(lambda: sims["plain"].stats()["probes"] > seen + 3, "some more probes")
        assert router.healthy() == {"plain", "llama"}
        assert router.chat("org/a").service == "plain"
        assert sims["plain"].stats()["requests"] == sum(
            count for key, count in sims["plain"].stats()["by_path"].items() if "/v1/chat" in key
        ), "a probe is never a completion"


def test_an_engine_on_ipv6_is_reached(tmp_path: Path) -> None:
    """Trap: IPv6 everywhere."""
    with engines(six={"host": "::1"}) as sims, running(tmp_path, [static(sims["six"], host="::1")]) as router:
        router.until_healthy("six")
        assert router.chat().service == "six"
        last = router.ask("GET", "/sim/stats").json["last"]
        assert dict(last["headers"])["Host"] == f"[::1]:{sims['six'].port}"
        assert router.service("six")["url"] == f"http://[::1]:{sims['six'].port}"


def test_an_engine_that_wants_a_key_gets_the_configured_one_and_no_other(tmp_path: Path) -> None:
    """Trap: engines that need an API key of their own."""
    (tmp_path / "key").write_text("sk-engine-secret\n")
    config = f'[[router.engines]]\nservices = "key*"\napi_key_file = "{tmp_path / "key"}"\n'
    with (
        engines(keyed={"api_key": "sk-engine-secret"}, open={"models": ["free"]}) as sims,
        running(tmp_path, [static(sim) for sim in sims.values()], config) as router,
    ):
        router.until_healthy("keyed", "open")
        answer = router.chat("m", {"authorization": "Bearer sk-of-the-client"})
        assert (answer.status, answer.service) == (200, "keyed")
        sent = [value for name, value in sims["keyed"].stats()["last"]["headers"] if name.lower() == "authorization"]
        assert sent == ["Bearer sk-engine-secret"]
        router.chat("free", {"authorization": "Bearer sk-of-the-client"})
        sent = [value for name, value in sims["open"].stats()["last"]["headers"] if name.lower() == "authorization"]
        assert sent == ["Bearer sk-of-the-client"]
        told = [router.ask("GET", path).body for path in ("/services", "/stats", "/health", "/models")]
        assert not any(b"sk-engine-secret" in body for body in told)
        assert "sk-engine-secret" not in router.log


@asynccontextmanager
async def behind_tls(directory: Path, seen: list[web.BaseRequest]) -> AsyncIterator[int]:
    """An engine at https://localhost:PORT/engines/one, with a certificate of an authority that nobody knows."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request)
        if request.path == "/engines/one/health":
            return web.Response()
        if request.path == "/engines/one/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "m"}]})
        if request.path == "/engines/one/v1/chat/completions":
            return web.json_response({"said": await request.text()})
        return web.json_response({"error": "nothing here"}, status=404)

    server = await asyncio.get_running_loop().create_server(web.Server(handle), "localhost", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_an_engine_behind_tls_with_a_private_authority_and_a_path_prefix_is_reached(tmp_path: Path) -> None:
    """Defect: `port+1` and `http://` are hard-wired (no TLS, no path prefix, no NAT).

    Trap: engines with a private CA.
    """
    seen: list[web.BaseRequest] = []
    async with behind_tls(tmp_path, seen) as port:
        config = f'[[router.engines]]\nservices = "tls"\nca_file = "{tmp_path / "ca.pem"}"\n'
        url = f"https://localhost:{port}/engines/one"
        item = {"name": "tls", "host": "localhost", "port": port, "url": url}
        stranger = item | {"name": "stranger"}

        def look() -> None:
            with running(tmp_path, [item, stranger], config) as router:
                until(lambda: router.healthy() == {"tls"} and router.chat().status == 200, "an answer over TLS")
                answer = router.chat(user="ä")
                assert (answer.status, answer.service) == (200, "tls")
                assert json.loads(answer.json["said"])["user"] == "ä"
                assert router.service("tls")["url"] == url
                reason = router.ask("GET", "/stats").json["details"]["stranger"]["reason"]
                assert "ca_file" in reason, "what to do is told where the authority is not known"

        await asyncio.to_thread(look)
        assert all(request.path.startswith("/engines/one/") for request in seen)
        assert {"/engines/one/health", "/engines/one/v1/chat/completions"} <= {request.path for request in seen}
        assert seen[-1].headers["Host"] == f"localhost:{port}"


async def test_a_websocket_is_tunnelled_to_the_service_of_the_model_in_its_query(tmp_path: Path) -> None:
    with (
        engines(a={"models": ["m-a"]}, b={"models": ["m-b"]}) as sims,
        running(tmp_path, [static(sim) for sim in sims.values()]) as router,
    ):
        await asyncio.to_thread(router.until_healthy, "a", "b")
        async with aiohttp.ClientSession() as session:
            for model, engine in (("m-a", "a"), ("m-b", "b"), ("m-a", "a")):
                async with session.ws_connect(f"{router.url}/v1/realtime?model={model}", timeout=WS) as socket_:
                    created = await socket_.receive_json(timeout=30)
                    assert (created["type"], created["session"]["engine"]) == ("session.created", engine)
                    for message in ("a word", "ä" * 70_000, ""):
                        await socket_.send_str(message)
                        assert await socket_.receive_str(timeout=30) == message
                    await socket_.send_bytes(b"\x00\xff")
                    assert await socket_.receive_bytes(timeout=30) == b"\x00\xff"
            async with session.get(
                f"{router.url}/v1/realtime?model=none", headers={"connection": "upgrade", "upgrade": "websocket"}
            ) as refused:
                assert refused.status in (400, 503)
                assert "error" in await refused.json()
        until(lambda: all(sim.stats()["connections_open"] <= 1 for sim in sims.values()), "the engines' ends closed")


def test_an_engine_that_is_too_slow_is_a_504_and_asked_only_once(tmp_path: Path) -> None:
    """Defect: A 30-minute timeout is retried three times, so generations are duplicated."""
    with (
        engines(a={}, b={}) as sims,
        running(tmp_path, [static(sim) for sim in sims.values()], first_byte_timeout=0.3) as router,
    ):
        router.until_healthy("a", "b")
        before = sum(sim.stats()["requests"] for sim in sims.values())
        for sim in sims.values():
            sim.set_faults("silent")
        answer = router.chat()
        assert (answer.status, answer.error["code"]) == (504, "gateway_timeout")
        assert answer.header("x-enginehouse-attempts") == "1"
        assert sum(sim.stats()["requests"] for sim in sims.values()) == before + 1


def test_a_gigabyte_to_a_reader_that_stalls_costs_the_worker_nothing_and_holds_the_engine_back(tmp_path: Path) -> None:
    with engines(a={}) as sims, running(tmp_path, [static(sims["a"])]) as router:
        router.until_healthy("a")
        assert router.ask("GET", f"/sim/bytes?n={1 << 24}").status == 200  # buffers have their usual size now
        (worker,) = router.workers()
        before = worker.memory_info().rss
        with socket.create_connection(("127.0.0.1", router.port)) as reader:
            reader.sendall(b"GET /sim/bytes?n=%d HTTP/1.1\r\nHost: house\r\n\r\n" % GIB)
            assert reader.recv(1000).startswith(b"HTTP/1.1 200 ")
            sent = standing(sims["a"])
            assert worker.memory_info().rss - before < 5_000_000
            assert sent < 64 << 20, "what fits into the kernel's buffers, no more"
            received = 0
            while received < 256 << 20:
                received += len(reader.recv(1 << 20))
            assert worker.memory_info().rss - before < 5_000_000
            assert standing(sims["a"]) > 256 << 20, "it went on as the reader did"
            assert worker.memory_info().rss - before < 5_000_000
        until(lambda: sims["a"].stats()["active"] == 0, "the reader's leaving ends it")


def standing(engine: SimProcess) -> int:
    """Bytes the engine has sent when they stand still for a while."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 0.5:
        if (sent := engine.stats()["bytes_sent"]) - last > 2000:  # more than the answer to this question
            since = time.monotonic()
        last = sent
        time.sleep(0.05)
    return last


def test_a_long_upload_to_an_engine_that_does_not_read_holds_one_body_and_no_more(tmp_path: Path) -> None:
    """The other direction: what the router takes in is bounded by the body limit, and given back."""
    with engines(a={}) as sims, running(tmp_path, [static(sims["a"])], max_body=1 << 20) as router:
        router.until_healthy("a")
        sims["a"].set_faults("slow_read:seconds=0")
        stuck = threading.Thread(target=lambda: router.ask("POST", "/sim/echo", raw=b"x" * (1 << 20)), daemon=True)
        stuck.start()
        until(lambda: sims["a"].stats()["by_path"].get("POST /sim/echo"), "the engine has the head")
        assert router.ask("POST", "/sim/echo", raw=b"x" * ((1 << 20) + 1)).status == 413
        assert router.ask("GET", "/livez").status == 200
        sims["a"].kill9()
        stuck.join(30)
        assert not stuck.is_alive()
