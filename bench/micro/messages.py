"""What the cases send: a request of the openai SDK, an engine's answer, an event of a stream.

Owns these bytes. May not live here: bodies in several sizes (`bench.proxy.find_model`), which of it a case sends.
"""

from __future__ import annotations

import json

from bench.common.traffic import HEADERS, PATH

MODEL = "model-of-the-bench"

_LINES = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
_HEAD = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{_LINES}".encode()

BODY = json.dumps(
    {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {
                "role": "user",
                "content": "Say in one sentence what a router of requests does, and why there is one. " * 2,
            },
        ],
        "temperature": 0.7,
        "max_tokens": 128,
    }
).encode()

_ANSWER = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion",
        "created": 1763800000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "It sends each request to an engine that can take it. " * 3,
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 42, "completion_tokens": 30, "total_tokens": 72},
    },
    separators=(",", ":"),
).encode()

_EVENT = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1763800000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}],
    },
    separators=(",", ":"),
).encode()

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 02:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)


def request(extra: bytes = b"", body: bytes = BODY) -> bytes:
    """A chat request; `extra` lines make its head another one."""
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (_HEAD, extra, len(body), body)


def answer(seconds: int = 0) -> bytes:
    """An answer to it; another second makes its head another one."""
    date = b"date: Mon, 23 Nov 2026 %02d:%02d:%02d GMT\r\n" % (seconds // 3600, seconds // 60 % 60, seconds % 60)
    head = b"HTTP/1.1 200 OK\r\n%bserver: uvicorn\r\ncontent-length: %d\r\ncontent-type: application/json\r\n\r\n"
    return head % (date, len(_ANSWER)) + _ANSWER


def chunk() -> bytes:
    """One event of a stream, as one chunk."""
    event = b"data: %b\n\n" % _EVENT
    return b"%x\r\n%b\r\n" % (len(event), event)
