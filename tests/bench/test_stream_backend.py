"""The streaming backend answers as an engine does, and both programs run as the bench runs them."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from bench.proxy.stream_wire import MARK

BACKEND = [sys.executable, "-m", "bench.proxy.stream_backend"]
CLIENT = [sys.executable, "-m", "bench.proxy.stream_client"]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    command = [*BACKEND, "--models", "a/one,two", "--interval", "0.002"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as backend:
        assert backend.stdout
        try:
            yield json.loads(backend.stdout.readline())["port"]
        finally:
            backend.send_signal(signal.SIGTERM)
            assert backend.wait(10) == 0


def get(port: int, path: str) -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


def stats(port: int) -> dict[str, float]:
    status, figures = get(port, "/stats")
    assert status == 200
    assert isinstance(figures, dict)
    return figures


def client(port: int, *words: str) -> list[dict[str, float]]:
    command = [*CLIENT, "--url", f"http://127.0.0.1:{port}", "--warmup", "0", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_is_healthy_and_has_the_models_it_was_started_with(port: int) -> None:
    assert get(port, "/health") == (200, {})
    status, models = get(port, "/v1/models")
    assert status == 200
    assert isinstance(models, dict)
    assert [model["id"] for model in models["data"]] == ["a/one", "two"]
    assert get(port, "/v1/nothing")[0] == 404


def test_the_openai_client_reads_its_streams_and_its_plain_answers(port: int) -> None:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=10) as api:
        question: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
        plain = api.chat.completions.create(model="two", messages=question)
        assert (plain.model, plain.choices[0].message.content) == ("two", "Yes.")
        stream = api.chat.completions.create(model="two", messages=question, max_tokens=5, stream=True)
        chunks = list(stream)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 4 + ["length"]
    marks = [MARK.fullmatch((chunk.choices[0].delta.content or "").encode()) for chunk in chunks]
    assert [int(mark[2]) for mark in marks if mark] == [0, 1, 2, 3, 4]


def test_a_connection_serves_one_answer_after_the_other_and_bodies_may_be_chunked(port: int) -> None:
    body = (
        b'{"model":"two","max_tokens":3,"stream":true,"messages":[{"role":"user","content":"@00000042 every 0.001 s"}]}'
    )
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    plain = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        body[:5],
        len(body) - 5,
        body[5:],
    )
    with socket.create_connection(("127.0.0.1", port), timeout=10) as conn:
        for request in (plain, chunked, plain):
            conn.sendall(request)
            answer = b""
            while not answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
                answer += conn.recv(65536)
            assert [mark[:2] for mark in MARK.findall(answer)] == [
                (b"00000042", b"%06d" % number) for number in range(3)
            ]


def test_stamps_are_of_the_clock_all_processes_share(port: int) -> None:
    before = time.monotonic_ns()
    body = json.dumps({"max_tokens": 2, "stream": True})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/v1/chat/completions", body)
    stamps = [int(stamp) for _, _, stamp in MARK.findall(connection.getresponse().read())]
    connection.close()
    assert before <= stamps[0] <= stamps[1] <= time.monotonic_ns()


def test_in_the_closed_loop_every_stream_is_complete(port: int) -> None:
    ready, figures = client(port, "--connections", "8", "--chunks", "50", "--interval", "0.002", "--seconds", "0.5")
    assert ready["ready"] is True
    assert ready["streams"] == 8
    assert figures["errors"] == 0
    assert figures["chunks"] >= figures["streams"] * 50 - 8 * 50
    assert figures["bytes"] > 230 * figures["chunks"]
    assert figures["reopened"] == 0


def test_long_streams_are_all_up_before_the_figures_begin_and_stay_up(port: int) -> None:
    ready, figures = client(port, "--connections", "150", "--long", "--interval", "0.02", "--seconds", "0.5")
    assert ready["ready"] is True
    assert ready["streams"] == figures["streams"] == 150
    assert figures["errors"] == figures["reopened"] == 0
    assert figures["chunks"] > 150


def test_streams_whose_client_left_are_dropped(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as conn:
        body = b'{"max_tokens":100000,"stream":true}'
        conn.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert conn.recv(100)
    deadline = time.monotonic() + 20
    while stats(port)["streams"]:
        assert time.monotonic() < deadline


def test_a_client_that_does_not_read_loses_nothing_once_it_does(port: int) -> None:
    """A long name makes chunks of which the system buffers only some hundreds."""
    prompt = [{"role": "user", "content": "@00000001 every 0.001 s"}]
    body = json.dumps({"model": "m" * 20_000, "max_tokens": 1_000, "stream": True, "messages": prompt})
    held = stats(port)["held"]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/v1/chat/completions", body)
    deadline = time.monotonic() + 20
    while stats(port)["held"] == held:
        assert time.monotonic() < deadline
    answer = connection.getresponse().read()
    connection.close()
    assert [int(number) for _, number, _ in MARK.findall(answer)] == list(range(1_000))
    assert answer.endswith(b"data: [DONE]\n\n")


def test_it_ends_when_whoever_started_it_is_gone() -> None:
    starter = (
        "import subprocess, sys\n"
        "backend = subprocess.Popen([sys.executable, '-m', 'bench.proxy.stream_backend'], stdout=subprocess.PIPE)\n"
        "print(backend.pid, backend.stdout.readline().decode(), flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, timeout=20, check=True)
    found = re.match(r'(\d+) \{"port": (\d+)\}', done.stdout)
    assert found
    deadline = time.monotonic() + 20
    while True:
        try:
            os.kill(int(found[1]), 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)
