"""The babysitter's endpoints under clients that behave badly. Their shapes are tested with the contract."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from enginehouse.core.proof import logs_of, proof
from tests.babysitter.conftest import Start
from tests.babysitter.house import get

BAD = {
    "a NUL": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "both lengths": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk size": b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a folded header": b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "a huge header": b"GET /health HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "an escape": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "another method": b"DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n",
}


def exchanged(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(data)
        return client.recv(65536)


async def test_malformed_requests_are_refused_and_fill_no_log(start: Start) -> None:
    async with start() as sitter:
        await sitter.becomes("healthy")
        before = len(sitter.lines)
        for name, data in BAD.items():
            answer = await asyncio.to_thread(exchanged, sitter.config["port"] + 1, data)
            assert answer.split()[1].startswith(b"4"), name
        assert (await sitter.health())[0] == 200
        assert sitter.lines[before:] == []


@pytest.mark.parametrize("begin", [b"", b"GET /health HTTP/1.1\r\nHost:"], ids=["silent", "half a head"])
async def test_clients_that_stay_and_ask_nothing_do_not_keep_others_out(start: Start, begin: bytes) -> None:
    async with start() as sitter:
        await sitter.becomes("healthy")
        clients = []
        for _ in range(200):
            clients.append(socket.create_connection(("127.0.0.1", sitter.config["port"] + 1), timeout=10))
            clients[-1].sendall(begin)
        for _ in range(5):
            assert (await get(f"{sitter.url}/health"))[0] == 200
        clients[0].settimeout(10)
        assert await asyncio.to_thread(received, clients[0]) == b""  # the first ones were cut
        for client in clients:
            client.close()
        assert await sitter.stop() == 0


def received(client: socket.socket) -> bytes:
    try:
        return client.recv(100)
    except ConnectionResetError:
        return b""


TOKEN = "a-token-of-sixteen-or-more"


async def ask(url: str, authorization: str = "") -> tuple[int, Any]:
    headers = {"authorization": authorization} if authorization else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, await response.json()


async def test_without_a_token_of_its_own_a_babysitter_shows_no_output_to_anybody(start: Start) -> None:
    async with start() as sitter:
        await sitter.becomes("healthy")
        for given in ("", "Bearer ", f"Bearer {TOKEN}"):
            status, told = await ask(f"{sitter.url}/logs", given)
            assert status == 403
            assert "give it admin_token_file" in told["error"]["message"]


async def test_output_is_for_who_has_the_token_or_a_proof_of_it_for_this_very_engine(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    async with start(more={"admin_token_file": str(tmp_path / "token")}, words="hello") as sitter:
        await sitter.becomes("healthy")
        port = sitter.config["port"]
        good = proof(TOKEN, logs_of("demo-server", port), time.time())
        for given in (f"Bearer {TOKEN}", good):
            status, told = await ask(f"{sitter.url}/logs", given)
            assert (status, told["lines"][-1], told["next"]) == (200, "hello", len(told["lines"]))
            assert await ask(f"{sitter.url}/logs?since={told['next'] - 1}", given) == (
                200,
                {"lines": ["hello"], "next": told["next"]},
            )
        of_another = proof(TOKEN, logs_of("other-server", port), time.time())
        for given in ("", "Bearer wrong", f"bearer {TOKEN}x", of_another):
            status, told = await ask(f"{sitter.url}/logs", given)
            assert (status, told["error"]["code"]) == (401, "invalid_api_key")
        for query in ("since=x", "limit=1e3", "since=--1"):
            assert (await ask(f"{sitter.url}/logs?{query}", good))[0] == 400
        assert (await ask(f"{sitter.url}/logs?limit=-5", good))[1]["lines"] == []


async def test_a_token_that_could_be_guessed_is_refused_at_the_start(start: Start, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short")
    async with start(more={"admin_token_file": str(tmp_path / "token")}) as sitter:
        assert await sitter.process.wait() == 2
