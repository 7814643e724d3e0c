"""Requests: where they go, and that they are what OpenAI's clients send."""

from __future__ import annotations

import msgspec
import pytest

from enginehouse.replay.asking import COMPLETIONS, Asking, Target, TargetError, target


def test_a_url_is_taken_apart() -> None:
    assert target("http://127.0.0.1:8080/v1") == Target("127.0.0.1", 8080, False, "/v1")
    assert target("https://api.example.org/x/v1/") == Target("api.example.org", 443, True, "/x/v1")
    assert target("http://[::1]:8080") == Target("::1", 8080, False, "")


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://h:8080/v1", "h:8080"),
        ("http://h/v1", "h"),
        ("https://h:443/v1", "h"),
        ("https://h:80/v1", "h:80"),
        ("http://[::1]:9/v1", "[::1]:9"),
    ],
)
def test_a_port_that_goes_without_saying_is_not_said(url: str, authority: str) -> None:
    assert target(url).authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8080",
        "ftp://h/v1",
        "http://",
        "http://h:port/v1",
        "http://h:99999",
        "http://u:p@h/v1",
        "http://h/v1?x=1",
        "http://h/v1#x",
        "http://[::1",
        "http://h/v1\r\nx: y",
        "http://h/a b\x00",
    ],
)
def test_what_is_no_url_of_an_api_is_refused_with_one_that_is(url: str) -> None:
    with pytest.raises(TargetError, match=r"like http://127.0.0.1:8080/v1"):
        target(url)


def split(request: bytes) -> tuple[list[str], dict[str, object]]:
    head, _, body = request.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), msgspec.json.decode(body)


MESSAGES = [{"role": "user", "content": 'say "hi"'}]


def test_a_chat_asks_for_a_stream_with_usage_and_for_exactly_as_many_tokens() -> None:
    lines, body = split(Asking(target("http://h:1/v1"), "m").request(MESSAGES, 17, 3))
    assert lines[0] == "POST /v1/chat/completions HTTP/1.1"
    assert "host: h:1" in lines
    assert "content-type: application/json" in lines
    assert not any(line.startswith("authorization") for line in lines)
    assert body == {
        "model": "m",
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 17,
        "min_tokens": 17,
        "ignore_eos": True,
    }


def test_the_length_that_is_told_is_that_of_the_body() -> None:
    request = Asking(target("http://h:1/v1"), "mödel").request([{"role": "user", "content": "naïve 日本"}], 1, 0)
    head, _, body = request.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head.split(b"\r\n")


def test_completions_a_key_a_session_header_and_nothing_that_openai_does_not_know() -> None:
    asking = Asking(
        target("http://h/v1"), "m", api=COMPLETIONS, exact=False, key="secret", session_header="x-session-id"
    )
    lines, body = split(asking.request([*MESSAGES, {"role": "assistant", "content": "hi"}], 2, 41))
    assert lines[0] == "POST /v1/completions HTTP/1.1"
    assert "authorization: Bearer secret" in lines
    assert "x-session-id: 41" in lines
    assert body["prompt"] == 'say "hi"\nhi'
    assert body.keys() == {"model", "prompt", "stream", "stream_options", "max_tokens"}
