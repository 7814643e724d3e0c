"""The tables of headers say what the router does."""

from __future__ import annotations

import pytest

from enginehouse.cli.reference_headers import headers_page
from enginehouse.data.replies import our_lines
from enginehouse.supervisor.router import STOPPING_ANSWER
from enginehouse.wire.answer_head import AnswerHead
from enginehouse.wire.headers import ANSWER, EVERY, QUEUED, REQUEST, TOLD, Fate, Header
from enginehouse.wire.request_head import RequestHead

OURS = [line.name for line in (*EVERY, QUEUED)]


def request_head(*headers: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"POST", b"/v1/x", "1.1", True, list(headers))


def noted(head: RequestHead) -> dict[str, object]:
    """What a head knows, but for the lines themselves."""
    hidden = {"headers", "lines", "unauthorized_lines"}
    told = {name: getattr(head, name) for name in dir(head) if not name.startswith("_") and name not in hidden}
    return {name: value for name, value in told.items() if not callable(value)}


def names(lines: bytes) -> list[bytes]:
    return [line.partition(b":")[0] for line in lines.removesuffix(b"\r\n").split(b"\r\n")]


@pytest.mark.parametrize("header", REQUEST, ids=lambda header: header.name.decode())
def test_every_header_in_the_table_is_read_in_requests_and_passed_on_as_the_table_says(header: Header) -> None:
    head = request_head((header.name.title(), b"some"), (b"A", b"1"))
    assert noted(head) != noted(request_head())
    passed = header.name.title() + b": some\r\n" if header.fate is Fate.PASSED else b""
    assert head.lines == passed + b"A: 1\r\n"


@pytest.mark.parametrize("header", ANSWER, ids=lambda header: header.name.decode())
def test_every_header_in_the_table_is_passed_on_in_answers_as_the_table_says(header: Header) -> None:
    head = AnswerHead(200, True, [(header.name.title(), b"some")])
    assert (header.name.title() + b": some\r\n" in head.lines) is (header.fate is Fate.PASSED)


@pytest.mark.parametrize("name", OURS)
def test_an_engine_cannot_speak_for_the_router(name: bytes) -> None:
    """Its place in a queue could be told by an engine once."""
    assert AnswerHead(200, True, [(name, b"spoofed"), (b"A", b"1")]).lines == b"HTTP/1.1 200 OK\r\nA: 1\r\n"


def test_every_answer_has_our_lines_in_the_order_of_the_table() -> None:
    assert names(our_lines(b"id", None, 2, 0.001, "why")) == OURS[:-1]
    assert our_lines(b"id", None, 2, 0.0015, "why", 0.25, 3) == (
        b"x-request-id: id\r\nx-enginehouse-service: -\r\nx-enginehouse-attempts: 2\r\nx-enginehouse-queue-ms: 250\r\n"
        b"x-enginehouse-overhead-ms: 1.500\r\nx-enginehouse-reason: why\r\nx-enginehouse-queue-position: 3\r\n"
    )


def test_the_last_answer_of_a_router_that_stops_has_them_too() -> None:
    """The supervisor writes it with nothing but the standard library."""
    assert {line.name for line in EVERY} <= set(names(STOPPING_ANSWER.partition(b"\r\n\r\n")[0]))


def test_the_page_has_every_header_of_the_tables() -> None:
    page = headers_page()
    for row in (*TOLD, *REQUEST, *ANSWER):
        assert f"| `{row.name.decode()}` | " in page
