"""The request that lets another engine go on with an answer.

Owns `continued_body`: the client's body with the text so far, and limits lowered by what was delivered. Only the bytes
that have to be different are; nothing else is written anew.
May not live here: whether it may be done at all (`continuable`, `resume`), the answer to it (`resumed`).

vLLM, SGLang and llama.cpp go on with a last assistant message when `continue_final_message` says so; vLLM and
llama.cpp refuse it unless `add_generation_prompt` is false. None of them repeats the text when it streams; llama.cpp
says the role again. Tried with llama.cpp b10549 and greedy answers: the rest was the same at each of 74 cuts.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from enginehouse.wire.continuable import LIMITS
from enginehouse.wire.peek import members
from enginehouse.wire.resume import Kind, Partial

_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_FLAGS = {"continue_final_message": b"true", "add_generation_prompt": b"false"}
#: Members that are the least tokens of an answer.
_LEAST = ("min_tokens",)


class _Edit(NamedTuple):
    """Bytes `start` to `end` become `new`."""

    start: int
    end: int
    new: bytes


def continued_body(kind: Kind, body: bytes, partial: Partial) -> bytes:
    """The body to send to another engine: the same request, less what `partial` says was answered.

    `body` and `partial` belong together (`read_partial`). Where the text is complete and only its usage is missing
    (`partial.ended`), no more is asked for than a mark of the end, which `Splicer` drops.
    """
    if not partial.known and not partial.ended:
        return body
    spots = {name: (start, _trimmed(body, start, end)) for name, start, end in members(body)}
    edits: list[_Edit] = []
    added: dict[str, bytes] = {}
    if partial.known:
        if kind is Kind.CHAT:
            edits.append(_in_messages(body, spots, partial.known))
            _set(_FLAGS, spots, edits, added)
        else:
            end = spots["prompt"][1]
            edits.append(_Edit(end - 1, end - 1, _inside(partial.known)))
    _set(_limits(body, spots, partial), spots, edits, added)
    return _apply(body, edits, added)


def _trimmed(body: bytes, start: int, end: int) -> int:
    """Where the value between `start` and `end` ends, blanks left off."""
    return start + len(body[start:end].rstrip())


def _set(
    values: dict[str, bytes], spots: dict[str, tuple[int, int]], edits: list[_Edit], added: dict[str, bytes]
) -> None:
    """Members with other values: where they stand, or added. None is ever given twice."""
    for name, value in values.items():
        if name in spots:
            edits.append(_Edit(*spots[name], value))
        else:
            added[name] = value


def _limits(body: bytes, spots: dict[str, tuple[int, int]], partial: Partial) -> dict[str, bytes]:
    """The limits on tokens that are left."""
    given: dict[str, int] = {}
    for name in (*LIMITS, *_LEAST):
        if name in spots:
            value = msgspec.json.decode(memoryview(body)[slice(*spots[name])])
            if type(value) is int and value > 0:
                given[name] = value
    if partial.ended:
        most = [name for name in LIMITS if name in given] or ["max_tokens"]
        again = b"%d" % (partial.pending_tokens + 1)
        return {**dict.fromkeys(most, again), **{name: b"0" for name in _LEAST if name in given}}
    told = partial.known_tokens
    return {name: b"%d" % max(value - told, 0) for name, value in given.items()}


def _in_messages(body: bytes, spots: dict[str, tuple[int, int]], known: str) -> _Edit:
    """The text as a last message, or behind that of the last one where the client asked to go on with it."""
    start, end = spots["messages"]
    if not _is_true(body, spots, "continue_final_message"):
        message = b',{"role":"assistant","content":"%b"}' % _inside(known)
        return _Edit(end - 1, end - 1, message)
    at = _last_content(body, start, end)
    return _Edit(at, at, _inside(known))


def _last_content(body: bytes, start: int, end: int) -> int:
    """Where the text of the last message ends, before its closing quote."""
    last = bytes(_RAWS.decode(memoryview(body)[start:end])[-1])
    offset = start + body[start : end - 1].rindex(last)
    for name, at, after in members(last):
        if name == "content":
            return offset + _trimmed(last, at, after) - 1
    raise msgspec.DecodeError("the last message has no content")


def _is_true(body: bytes, spots: dict[str, tuple[int, int]], name: str) -> bool:
    return name in spots and body[slice(*spots[name])] == b"true"


def _inside(text: str) -> bytes:
    """The text as it stands within a JSON string."""
    return msgspec.json.encode(text)[1:-1]


def _apply(body: bytes, edits: list[_Edit], added: dict[str, bytes]) -> bytes:
    """The body with all edits made, and the members added at its end."""
    end = body.rindex(b"}")
    more = [b',"%b":%b' % (name.encode(), value) for name, value in added.items()]
    pieces: list[bytes] = []
    at = 0
    for edit in sorted([*edits, _Edit(end, end, b"".join(more))]):
        pieces += (body[at : edit.start], edit.new)
        at = edit.end
    return b"".join([*pieces, body[at:]])
