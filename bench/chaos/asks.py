"""What is asked, and what an undisturbed engine answers.

Owns the requests of a load, in all the ways in which text is asked for, and `Expected`: the answer that an engine gave
directly, nothing wrong and nobody between. May not live here: sending them (`load`), comparing (`verdict`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from bench.chaos.client import End, connect, request
from bench.common.processes import BenchError

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
#: Seconds that an undisturbed engine may take for one answer.
PATIENCE = 120.0
#: Members of an answer that differ from one generation to the next.
OWN = ("id", "created", "system_fingerprint")


class Ask(NamedTuple):
    """One request."""

    path: str
    body: bytes
    stream: bool


class Expected(NamedTuple):
    """An undisturbed answer. `events` of a stream; a whole answer has one. Without what differs every time (`OWN`)."""

    events: tuple[dict[str, Any], ...]
    text: str
    ends: tuple[str, ...]
    """The reasons for which it finished: one."""
    wire: bytes
    """The body as bytes, with placeholders for what differs every time."""


def mixed(model: str, count: int, tokens: int, extra: dict[str, Any] | None = None) -> list[Ask]:
    """`count` different prompts, in turn as a stream, a whole answer, a stream with usage, and completions of both."""
    asks = []
    for number in range(count):
        stream, chat = number % 2 == 0, number % 5 < 3
        fields: dict[str, Any] = {"model": model, "stream": stream, **(extra or {})}
        fields["max_tokens"] = tokens - number % 3
        if stream and number % 4 == 0:
            fields["stream_options"] = {"include_usage": True}
        asks.append(_ask(chat, stream, f"Tell me story number {number}, as it is told at the café.", fields))
    return asks


def streams(model: str, count: int, tokens: int, extra: dict[str, Any] | None = None) -> list[Ask]:
    """The same, streams only."""
    asks = []
    for number in range(count):
        fields: dict[str, Any] = {"model": model, "stream": True, "max_tokens": tokens - number % 5, **(extra or {})}
        if number % 2:
            fields["stream_options"] = {"include_usage": True}
        asks.append(_ask(number % 4 != 3, True, f"Tell me the long story number {number} of the naïve guest.", fields))
    return asks


def _ask(chat: bool, stream: bool, prompt: str, fields: dict[str, Any]) -> Ask:
    if chat:
        said = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]}
    else:
        said = {"prompt": prompt}  # type: ignore[dict-item]
    return Ask(CHAT if chat else COMPLETION, msgspec.json.encode({**fields, **said}), stream)


async def undisturbed(port: int, asks: Sequence[Ask]) -> list[Expected]:
    """Ask an engine directly, one after another. Raises `BenchError` where it does not answer as it should."""
    found = []
    for ask in asks:
        line = await connect(port)
        got = await line.exchange(request(ask.path, ask.body), PATIENCE)
        line.close()
        if got.end is not End.WHOLE or got.status != 200:
            raise BenchError(f"the undisturbed engine did not answer: {got.end.value} {got.status} {got.body[:200]!r}")
        found.append(expected(got.body, ask.stream))
        await asyncio.sleep(0)
    return found


def expected(body: bytes, stream: bool) -> Expected:
    """A body that is right by definition. Raises `BenchError` where it is not even complete."""
    try:
        told = events(body) if stream else [msgspec.json.decode(body)]
        if stream and told.pop() is not None:
            raise BenchError("the undisturbed stream has no [DONE]")
        return Expected(tuple(map(plain, told)), text(told), ends(told), wire(body, told))
    except (msgspec.DecodeError, KeyError, IndexError, TypeError) as wrong:
        raise BenchError(f"the undisturbed engine answered nonsense: {wrong}: {body[:200]!r}") from None


def events(body: bytes) -> list[Any]:
    """The data of each whole event of a stream, None for `[DONE]`; comments are left out. Raises `DecodeError`."""
    found: list[Any] = []
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]:
        data = b"\n".join(row[5:].strip() for row in block.split(b"\n") if row.startswith(b"data:"))
        if data:
            found.append(None if data == b"[DONE]" else msgspec.json.decode(data))
    return found


def plain(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what differs every time."""
    return {name: value for name, value in event.items() if name not in OWN}


def text(told: Sequence[dict[str, Any]]) -> str:
    """The text of an answer, from its events or its whole."""
    pieces = []
    for event in told:
        for choice in event["choices"]:
            said = choice.get("delta") or choice.get("message") or {}
            pieces.append(said.get("content") or choice.get("text") or "")
    return "".join(pieces)


def ends(told: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Every reason for which it finished."""
    return tuple(
        choice["finish_reason"] for event in told for choice in event["choices"] if choice.get("finish_reason")
    )


def wire(body: bytes, told: Sequence[dict[str, Any]]) -> bytes:
    """The bytes, with placeholders for what differs every time, and without comments."""
    for name in OWN:
        for value in {msgspec.json.encode(event[name]) for event in told if name in event}:
            body = body.replace(b'"%b":%b' % (name.encode(), value), b'"%b":0' % name.encode())
    blocks = [block for block in body.split(b"\n\n") if not block.lstrip(b"\n").startswith(b":")]
    return b"\n\n".join(blocks)
