"""What the streaming backend and the streaming client of the proxy bench say to each other.

Owns the mark every chunk carries, the words of a prompt that order a stream, and the bytes of requests and events. May
not live here: sockets, clocks and figures.

A mark stands in the *text* of a chunk and an order in the *text* of a prompt, because text is what every router passes
on: some drop unknown members and headers, or write the JSON anew.
"""

import json
import random
import re
from typing import Final

from bench.common.traffic import HEADERS, PATH, chat

ORDER: Final = re.compile(rb"@(\d{8})(?: every (\d+\.\d+) s)?")
"""In a prompt: the stream's number, chosen by the client, and the seconds between its chunks."""

MARK: Final = re.compile(rb"@(\d{8})\.(\d{6})\.(\d{19})")
"""In a chunk: the stream's number, the chunk's place in the stream from 0, the monotonic nanoseconds of its sending."""

NUMBER_AT: Final = len(b"@00000000.")
"""Where in a mark the chunk's place begins; what stands before is the same in all chunks of a stream."""
NUMBER_END: Final = NUMBER_AT + 6
STAMP_AT: Final = NUMBER_END + 1
STAMP_END: Final = STAMP_AT + 19
MOST_CHUNKS: Final = 999_999

DONE: Final = b"data: [DONE]"
BLANK_LINES: Final = (b"\n\n", b"\r\n\r\n")
"""Between two server-sent events; engines write the short form, some routers the long one."""

PROMPT_SIZE: Final = 600
"""Bytes of a request's body."""

STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 02 Nov 2026 10:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
"""As vLLM's server begins a stream."""
STREAM_END: Final = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def request(host: str, model: str, stream: int, chunks: int, interval: float, rng: random.Random) -> bytes:
    """A request for stream number `stream` of `chunks` chunks, `interval` seconds apart (0: the backend's pace)."""
    body = json.loads(chat(model, PROMPT_SIZE, rng)) | {"max_tokens": chunks, "stream": True}
    body["messages"][-1]["content"] += f" @{stream:08d} every {interval:f} s"
    text = json.dumps(body, separators=(",", ":"))
    headers = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    return f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {len(text)}\r\n\r\n{text}".encode()


def framed(event: bytes) -> bytes:
    """`event` as one chunk of HTTP/1.1."""
    return b"%x\r\n%b\r\n" % (len(event), event)


def template(model: str, stream: int, *, first: bool = False, last: bool = False) -> tuple[bytes, bytes]:
    """What stands before and after `NUMBER.STAMP` in a chunk of this stream: framed, about 260 bytes, as vLLM's."""
    role = '"role":"assistant",' if first else ""
    finish = '"length"' if last else "null"
    event = (
        f'data: {{"id":"chatcmpl-{stream:016x}","object":"chat.completion.chunk","created":1793613600,'
        f'"model":{json.dumps(model)},"choices":[{{"index":0,"delta":{{{role}"content":"@{stream:08d}.{{}}"}},'
        f'"logprobs":null,"finish_reason":{finish}}}]}}\n\n'
    )
    blank = f"{0:06d}.{0:019d}"
    before, _, after = framed(event.replace("{}", blank).encode()).partition(blank.encode())
    return before, after


def completion(model: str) -> bytes:
    """The body of an answer that is not streamed."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1793613600, "model": model}
    return json.dumps(answer | {"choices": [choice], "usage": usage}).encode()
