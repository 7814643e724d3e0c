"""The fuzzer's two strict readers: what a client may get, and what an engine may be asked."""

from __future__ import annotations

import pytest

from bench.fuzz import asked, reply
from bench.fuzz.reply import WrongError

OURS = b"".join(name + b": -\r\n" for name in reply.OURS)
HOST = b"127.0.0.1:1"


def answer(*lines: bytes, body: bytes = b"", status: bytes = b"200 OK", ours: bytes = OURS) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + ours + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


ERROR = b'{"error":{"message":"no","type":"t","param":null,"code":null}}'
LENGTH = b"content-length: %d" % len(ERROR)
OF_AN_ENGINE = OURS.replace(b"service: -", b"service: e0")


def test_a_whole_answer_is_read_to_its_end_and_interim_ones_are_passed_over() -> None:
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + answer(LENGTH, body=ERROR, status=b"503 Busy") + b"HTTP/1.1 ..."
    found = reply.read(data, 0, b"POST")
    assert found is not None
    assert (found.status, found.body, found.whole) == (503, ERROR, True)
    assert data[found.end :] == b"HTTP/1.1 ..."


def test_an_answer_in_chunks_is_whole_with_its_last_chunk() -> None:
    head = answer(b"transfer-encoding: chunked", ours=OF_AN_ENGINE)
    for body, whole in (
        (b"3\r\nabc\r\n0\r\n\r\n", True),
        (b"3\r\nabc\r\n0\r\n", False),
        (b"3\r\nab", False),
        (b"", False),
    ):
        found = reply.read(head + body, 0, b"POST")
        assert found is not None
        assert found.whole is whole


def test_a_head_that_has_not_come_is_no_answer_yet() -> None:
    assert reply.read(b"HTTP/1.1 200 OK\r\nx: y\r\n", 0, b"GET") is None


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"{}\r\n\r\n",
        answer(b"content-length: 0", ours=OURS.replace(b"x-request-id: -\r\n", b"")),
        answer(b"content-length: 0", ours=OURS + b"x-request-id: again\r\n"),
        answer(b"content-length: 1", b"content-length: 1", body=b"a"),
        answer(b"content-length: 3", b"transfer-encoding: chunked", body=b"0\r\n\r\n"),
        answer(b"transfer-encoding: gzip, chunked"),
        answer(b"transfer-encoding: chunked", body=b"zz\r\n"),
        answer(b"transfer-encoding: chunked", body=b"3\r\nabcd\r\n"),
        answer(b"transfer-encoding: chunked", body=b"0\r\nX-Late: 1\r\n\r\n"),
        answer(b"content-length: +1", body=b"a"),
        answer(b"keep-alive: timeout=5", b"content-length: 0"),
        answer(b"bad\0name: 1", b"content-length: 0"),
        answer(b"x: a\rb", b"content-length: 0"),
        answer(),  # no length, and the connection stays
        answer(b"content-length: 2", body=b"no", status=b"500 Oh"),
        answer(b"transfer-encoding: chunked", status=b"204 No Content"),
    ],
)
def test_what_no_client_may_get_is_told(data: bytes) -> None:
    with pytest.raises(WrongError):
        reply.read(data, 0, b"POST")


def request(*lines: bytes, line: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    usual = (b"Host: " + HOST, b"x-request-id: 1", b"x-forwarded-for: 127.0.0.1")
    return line + b"\r\n" + b"".join(one + b"\r\n" for one in (*usual, *lines)) + b"\r\n"


def test_a_request_that_is_right_is_read_with_its_case() -> None:
    found = asked.read(request(b"X-Fuzz: 00000042", b"Content-Length: 5"), HOST)
    assert (found.problem, found.tag, found.length) == ("", 42, 5)


def test_a_probe_of_the_routers_own_is_no_request_of_a_client() -> None:
    assert asked.read(b"GET /health HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n", HOST).problem == ""


@pytest.mark.parametrize(
    "head",
    [
        request(b"Transfer-Encoding: chunked"),
        request(b"Content-Length: 1", b"Content-Length: 1"),
        request(b"Content-Length: 1,1"),
        request(b"Host: other"),
        request(b"x-request-id: 2"),
        request(b"TE: trailers"),
        request(b"Expect: 100-continue"),
        request(b"Connection: close"),
        request(b"Upgrade: h2c"),
        request(b"X: a\0"),
        request(b" folded: 1"),
        request(line=b"POST /sleep HTTP/1.1"),
        request(line=b"POST /%73leep?a HTTP/1.1"),
        request(line=b"GET /a b HTTP/1.1"),
        request(line=b"GET /v1/../sleep HTTP/1.1"),
        request(line=b"get / HTTP/1.1"),
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n",
    ],
)
def test_what_no_engine_may_be_asked_is_told(head: bytes) -> None:
    assert asked.read(head, HOST).problem
