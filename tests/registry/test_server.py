"""The registry as a process and as a server: starting, stopping, bad and slow clients."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest

from enginehouse.registry import server
from tests.registry.running import MAIN, RegistryProcess, running, service

WAIT = 20.0


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def exchange(url: str, data: bytes) -> tuple[int, bytes]:
    """Send bytes, read until the server closes; status (0 for no answer) and body."""
    reader, writer = await connect(url)
    writer.write(data)
    async with asyncio.timeout(WAIT):
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]), body) if head else (0, b"")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with running() as url:
        yield url


POST = b"POST /services HTTP/1.1\r\nhost: x\r\n"
GET = b"GET /services HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
MALFORMED = {
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "a bad request line": b"GET  /services HTTP/1.1\r\n\r\n",
    "a blank in the target": b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
    "non-ASCII in the target": "GET /ä HTTP/1.1\r\nhost: x\r\n\r\n".encode(),
    "no host": b"GET /services HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"host: y\r\n\r\n",
    "NUL in a value": GET + b"a: b\0c\r\n\r\n",
    "a blank before the colon": GET + b"a : b\r\n\r\n",
    "two lengths": POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "a bad length": POST + b"content-length: 2x\r\n\r\n{}",
    "a negative length": POST + b"content-length: -2\r\n\r\n{}",
    "length and chunks": POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding that is not chunked": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk size": POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a huge chunk size": POST + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n{}\r\n0\r\n\r\n",
    "a huge head": GET + b"a: " + b"x" * 200_000 + b"\r\n\r\n",
    "a head of many lines": GET + b"".join(b"h%d: x\r\n" % n for n in range(20_000)) + b"\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_request_is_a_4xx_in_openais_shape_and_others_notice_nothing(url: str, data: bytes) -> None:
    async with aiohttp.ClientSession(url) as session, session.get("/services?watch=0") as other:
        status, body = await exchange(url, data)
        assert 400 <= status < 500
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        async with session.post("/services", json=service()) as answer:
            assert answer.status == 201
        async with asyncio.timeout(WAIT):
            assert b"engine-1" in await other.content.readuntil(b"event: put\ndata: {") + await other.content.readline()


async def test_an_endless_head_is_cut(url: str) -> None:
    _, writer = await connect(url)
    sent = 0
    with pytest.raises(ConnectionError):  # noqa: PT012
        async with asyncio.timeout(WAIT):
            while True:
                writer.write(b"x" * 65536)
                sent += 65536
                await writer.drain()
    assert sent < 50_000_000
    writer.close()


async def test_a_post_that_offers_an_upgrade_to_http2_keeps_its_body(url: str) -> None:
    body = json.dumps(service()).encode()
    offer = b"connection: Upgrade, HTTP2-Settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
    status, answer = await exchange(url, POST + offer + b"content-length: %d\r\n\r\n%b" % (len(body), body))
    assert status == 201
    assert json.loads(answer)["service"]["name"] == "engine-1"


async def test_requests_may_be_pipelined(url: str) -> None:
    head = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
    reader, writer = await connect(url)
    writer.write(head * 3)
    async with asyncio.timeout(WAIT):
        for _ in range(3):
            assert b"200 OK" in await reader.readuntil(b'{"status":"alive"}')
    writer.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", 408), (b"GET /ser", 408), (GET, 408), (POST + b"content-length: 100\r\n\r\n{", 408)],
    ids=["nothing", "half a line", "half a head", "half a body"],
)
async def test_a_client_that_is_too_slow_is_cut(monkeypatch: pytest.MonkeyPatch, sent: bytes, status: int) -> None:
    monkeypatch.setattr(server, "REQUEST_DEADLINE", 0.3)
    async with running() as url:
        assert (await exchange(url, sent))[0] == status


async def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_error_of_ours(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    for sent in (b"GET /ser", GET, POST + b"content-length: 100\r\n\r\n{"):
        _, writer = await connect(url)
        writer.write(sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    async with aiohttp.ClientSession(url) as session, session.get("/livez") as answer:
        assert answer.status == 200
    assert [record for record in caplog.records if record.name == "enginehouse.registry"] == []


async def test_a_client_that_drips_is_cut_although_it_is_never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_DEADLINE", 0.5)
    async with running() as url:
        reader, writer = await connect(url)

        async def drip() -> None:
            for _ in range(400):
                writer.write(b"a")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(WAIT):
            assert b" 408 " in await reader.readline()
        dripping.cancel()
        writer.close()


async def test_a_client_between_two_requests_is_not_cut_by_the_deadline_of_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "REQUEST_DEADLINE", 0.2)
    async with running() as url:
        reader, writer = await connect(url)
        for _ in range(2):
            writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(WAIT):
                await reader.readuntil(b'{"status":"alive"}')
            await asyncio.sleep(0.5)  # longer than the deadline
        writer.close()


async def test_the_number_of_connections_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("enginehouse.registry.main.MAX_CONNECTIONS", 2)
    async with running(max_watchers=1) as url:
        open_ones = [await connect(url) for _ in range(3)]
        for reader, writer in open_ones:
            writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(WAIT):
                await reader.readuntil(b'{"status":"alive"}')
        assert (await exchange(url, b""))[0] == 503
        for _, writer in open_ones:
            writer.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_it_stops_within_seconds_on_sigterm_and_sigint_although_followers_are_connected(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Defect: Stops only on SIGINT."""
    with RegistryProcess(journal=str(tmp_path / "journal.db")) as registry:
        async with (
            aiohttp.ClientSession(registry.url) as session,
            session.get("/services?watch=0") as one,
            session.get("/services?watch=0") as other,
        ):
            await one.content.readuntil(b"\n\n")
            began = time.monotonic()
            registry.process.send_signal(number)
            async with asyncio.timeout(WAIT):
                await one.content.read()  # to a regular end: a broken one would raise
                await other.content.read()
        assert registry.finish() == 0
        assert time.monotonic() - began < 5
        assert "Traceback" not in registry.errors
    assert {path.name for path in tmp_path.iterdir()} == {"journal.db"}  # noqa: ASYNC240


def test_it_takes_a_bound_socket_instead_of_host_and_port() -> None:
    code = MAIN.replace("type=RegistryConfig)", "type=RegistryConfig), socket.socket(fileno=int(sys.argv[2]))")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        command = [sys.executable, "-c", "import socket; " + code, '{"journal": ""}', str(bound.fileno())]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=[bound.fileno()])
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url == f"http://127.0.0.1:{bound.getsockname()[1]}"
            with urllib.request.urlopen(url + "/livez", timeout=WAIT) as answer:
                assert answer.status == 200
            process.terminate()
            assert process.wait(WAIT) == 0
        finally:
            process.kill()
            process.communicate()


def test_the_first_line_is_the_url() -> None:
    with RegistryProcess() as registry:
        parts = urlsplit(registry.url)
        assert (parts.scheme, parts.hostname) == ("http", "127.0.0.1")
        assert registry.stop() == 0
        assert registry.errors == ""


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "::1")])
def test_open_to_the_network_without_a_token_it_warns(tmp_path: Path, host: str, shown: str) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    with RegistryProcess(host=host) as registry:
        assert urlsplit(registry.url).hostname == shown
        registry.stop()
        assert "warning: anybody on the network can register" in registry.errors
    with RegistryProcess(host=host, token_file=str(token)) as registry:
        registry.stop()
        assert registry.errors == ""


def test_a_port_in_use_is_named_and_no_traceback_shown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with RegistryProcess(port=port) as registry:
            assert registry.finish() == 2
            assert f"cannot listen on 127.0.0.1 port {port}" in registry.errors
            assert "Traceback" not in registry.errors


def test_a_block_that_is_no_network_is_named() -> None:
    with RegistryProcess(allow_networks=["10.0.0.0/99"]) as registry:
        assert registry.finish() == 2
        assert "10.0.0.0/99" in registry.errors


async def test_it_listens_on_ipv6_too() -> None:
    record = {"name": "six", "host": "::1", "port": 8000}
    async with (
        running(host="::1") as url,
        aiohttp.ClientSession(url) as session,
        session.post("/services", json=record) as answer,
    ):
        assert (await answer.json())["service"]["url"] == "http://[::1]:8000"


def test_an_idle_registry_costs_little_to_start_and_to_hold() -> None:
    with RegistryProcess() as registry:
        process = psutil.Process(registry.process.pid)
        spent = process.cpu_times()
        assert spent.user + spent.system < 1.5, "about 0.2 s on an idle machine"
        assert process.memory_info().rss < 120 * 2**20
