"""What clients send: the requests of the openai SDK, as data.

Owns the headers, the bodies and the model names of a case. May not live here: sending them.

The headers are what openai 3.54.0 sent to a socket that printed them, on Linux with CPython 3.11. Bodies differ from
each other in length and model, as they do in life, so that nobody gains from having seen the last one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import NamedTuple

PATH = "/v1/chat/completions"

HEADERS = {
    "Accept-Encoding": "gzip, deflate",
    "authorization": "Bearer sk-bench-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL",
    "accept": "application/json",
    "content-type": "application/json",
    "user-agent": "OpenAI/Python 3.54.0",
    "x-stainless-lang": "python",
    "x-stainless-package-version": "3.54.0",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "CPython",
    "x-stainless-runtime-version": "3.11.7",
    "x-stainless-async": "false",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}

_TEXT = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one
you were all her she there would their we him been has when who will no more if out so up said what its about than
into them can only other time new some could these two may first then do any like my now over such our man me even
most made after also did many off before must well back through years much where your way down should because long
token prompt model context answer question please explain summarise translate function return value number list
"""
_WORDS = _TEXT.split()


class Service(NamedTuple):
    """An engine as every contestant is told of it: one listening socket answers on all of 127.0.0.0/8."""

    name: str
    host: str
    port: int
    models: tuple[str, ...]

    @property
    def url(self) -> str:
        """Base URL, without a path."""
        return f"http://{self.host}:{self.port}"


def models(count: int) -> tuple[str, ...]:
    """Names as long as real ones are, but nobody's: LiteLLM fetches a tokenizer for some that it knows."""
    return tuple(f"bench-house/Chat-2.1-8B-Instruct-{index:03}" for index in range(count))


def services(count: int, port: int, names: Sequence[str]) -> tuple[Service, ...]:
    """`count` services over which the models are spread: with fewer services than models each service has several,
    with more each model has several services.
    """
    made = []
    for index in range(count):
        mine = names[index % count :: count] if count < len(names) else [names[index % len(names)]]
        made.append(Service(f"engine-{index:04}", f"127.0.{index // 250}.{index % 250 + 2}", port, tuple(mine)))
    return tuple(made)


def bodies(size: int, names: Sequence[str], count: int, seed: int) -> list[bytes]:
    """`count` chats of about `size` bytes each, over the models in turn; lengths differ by up to a tenth."""
    rng = random.Random(seed)
    return [chat(names[index % len(names)], round(size * rng.uniform(0.9, 1.1)), rng) for index in range(count)]


def chat(model: str, size: int, rng: random.Random) -> bytes:
    """A conversation in which the text makes up what is missing to `size` bytes."""
    messages = [{"role": "system", "content": "You are a helpful assistant."}]
    missing = size - 180
    while missing > 0 or messages[-1]["role"] != "user":
        text = " ".join(rng.choices(_WORDS, k=min(max(missing // 5, 4), 400)))[: max(missing - 30, 8)]
        messages.append({"role": ("assistant", "user")[len(messages) % 2], "content": text})
        missing -= len(text) + 30
    frame = {"model": model, "messages": messages, "max_tokens": 256, "temperature": 0.7}
    return json.dumps(frame, separators=(",", ":")).encode()
