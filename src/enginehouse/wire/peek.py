"""What routing reads out of a JSON body, without building it: the model, the keys of affinity, where the prompt is.

Owns `peek`, `members`, `text_bytes` and `rename_model`. Bodies are never parsed into objects nor written anew: of a
megabyte only the few members asked for are looked at, everything else is skipped by msgspec's scanner.
May not live here: multipart bodies (`multipart`), where on which path the model is (`paths`), the answer to bad input
(`errors`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from enginehouse.core.outcome import Outcome
from enginehouse.core.units import KIB, MAX_MODEL_ID
from enginehouse.policy.chunks import ENDS
from enginehouse.wire.errors import NOT_JSON, Unreadable
from enginehouse.wire.prompt import NAMES, PromptMembers

__all__ = ["Peek", "Unreadable", "checked_model", "members", "peek", "rename_model", "text_bytes"]

#: A body below this has no whole chunk that another one could share: its prompt is not looked at. Bytes.
SHORT: Final = ENDS[0]
#: Up to this size counting the key is cheaper than walking the members.
SMALL = 8 * KIB
#: Members of the top level that are looked at; a body with more is refused.
MAX_MEMBERS = 1024


class _Few(msgspec.Struct, gc=False):
    """The members wanted, of any type: typed more tightly one would fail the whole body (`"stream": null`)."""

    model: Any = None
    prompt_cache_key: Any = None
    previous_response_id: Any = None
    stream: Any = None


class _Members(PromptMembers, gc=False):
    """The same, and the prompt's."""

    model: Any = None
    prompt_cache_key: Any = None
    previous_response_id: Any = None
    stream: Any = None


class Peek(msgspec.Struct, frozen=True, gc=False):
    """What a body says. `model` is None where it names none (or null)."""

    model: str | None = None
    prompt_cache_key: str = ""
    previous_response_id: str = ""
    stream: bool = False
    prompt: PromptMembers | None = None
    """What the model gets to see; None in a body below `SHORT`."""


_FEW = msgspec.json.Decoder(_Few)
_MEMBERS = msgspec.json.Decoder(_Members)
_FIELDS = frozenset(_Members.__struct_fields__)
_RAW = msgspec.json.Decoder(msgspec.Raw)
_STRING = msgspec.json.Decoder(str)
#: A value short enough to be skipped here (RFC 8259 6 and 7).
_SHORT = re.compile(
    rb'(?:"[^"\\\x00-\x1f]{0,128}+"|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?|true|false|null)'
    rb"[ \t\r\n]*(?=[,}])"
)
_OPEN = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*")
_CLOSE = re.compile(rb"\}[ \t\r\n]*\Z")
_KEY = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.){0,1024}+")[ \t\r\n]*:[ \t\r\n]*')
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")


def peek(body: bytes, strict: bool) -> Peek:
    """Read the members that routing needs out of `body`.

    With `strict` a body that is not a JSON object in UTF-8 raises `Unreadable` (BAD_JSON), without it such a body
    says nothing. A model that is no string, empty, too long or given twice raises `Unreadable` (BAD_MODEL) always:
    engines disagree which of two counts, so the request could be served by another model than the one routed by.
    """
    try:
        if not body.isascii():
            str(body, "utf-8")  # what msgspec skips it does not check
        found: _Few | _Members
        if len(body) <= SMALL and body.count(b'"model"') <= 1 and (b"\\" not in body or b"\\u006" not in body):
            found = _FEW.decode(body) if len(body) < SHORT else _MEMBERS.decode(body)
        else:
            found = _walk(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if strict:
            raise _not_json(error) from None
        return Peek()
    model, key, earlier = found.model, found.prompt_cache_key, found.previous_response_id
    if model is not None:
        if not isinstance(model, str):
            raise Unreadable(Outcome.BAD_MODEL, "`model` must be a string.", "model")
        checked_model(model)
    return Peek(
        model,
        key if isinstance(key, str) else "",
        earlier if isinstance(earlier, str) else "",
        found.stream is True,
        found if isinstance(found, _Members) and len(body) >= SHORT else None,
    )


def _walk(body: bytes) -> _Members:
    """The wanted members, found by walking the top level from member to member.

    Exact where counting is not: a `"model"` inside a tool's schema is none of ours, `"mod\\u0065l"` is.
    """
    found = _Members()
    seen = False
    for name, start, end in members(body):
        if name == "model":
            if seen:
                raise Unreadable(Outcome.BAD_MODEL, "The body gives `model` more than once; give it once.", "model")
            seen = True
        if name in NAMES:
            setattr(found, name, msgspec.Raw(memoryview(body)[start : _stripped(body, end)]))
        elif name in _FIELDS:
            setattr(found, name, _value(body, start, end))
    return found


def _stripped(body: bytes, end: int) -> int:
    """Where the value ends after which only blanks come before `end`."""
    while body[end - 1] in b" \t\r\n":
        end -= 1
    return end


def _value(body: bytes, start: int, end: int) -> object:
    """The value of a wanted member: a string, true, None, or for all else, which none of them may be, False."""
    if body[start] == 0x22:
        return _STRING.decode(memoryview(body)[start:end])
    return {b"true": True, b"null": None}.get(body[start : start + 4], False)


def members(body: bytes) -> Iterator[tuple[str, int, int]]:
    """Name, start and end of value of each member of the object `body`, in order, duplicates included.

    Linear in the size, and nothing but names is built. Raises `msgspec.DecodeError` for anything but one object.
    """
    opening = _OPEN.match(body)
    if opening is None:
        raise msgspec.DecodeError("expected an object")
    view = memoryview(body)
    at = opening.end()
    if _CLOSE.match(body, at):
        return
    for _ in range(MAX_MEMBERS):
        key = _KEY.match(body, at)
        if key is None:
            raise msgspec.DecodeError(f"expected a member at byte {at}")
        start = key.end()
        short = _SHORT.match(body, start)
        end = short.end() if short is not None else _value_end(view, start)
        yield _STRING.decode(key[1]), start, end
        if body[end] != 0x2C:  # a comma
            break
        at = end + 1
    if not _CLOSE.match(body, end):
        raise msgspec.DecodeError(f"expected the end of the object at byte {end}")


def _value_end(view: memoryview, start: int) -> int:
    """Where the first thing after the value at `start` is (the value itself may end some blanks before).

    msgspec checks and skips one value and then complains about what follows, saying where: the only scanner within
    reach that is as fast as memory and builds nothing.
    """
    try:
        _RAW.decode(view[start:])
    except msgspec.DecodeError as error:
        after = _TRAILING.search(str(error))
        if after is None:
            raise
        return start + int(after[1]) - 1
    raise msgspec.DecodeError("the object does not end")


def _not_json(error: Exception) -> Unreadable:
    if isinstance(error, RecursionError):
        return Unreadable(Outcome.BAD_JSON, f"{NOT_JSON} (It is nested too deeply.)")
    if isinstance(error, UnicodeDecodeError):
        return Unreadable(Outcome.BAD_JSON, f"{NOT_JSON} (Byte {error.start} is not UTF-8.)")
    return Unreadable(Outcome.BAD_JSON, f"{NOT_JSON} ({error})")


def checked_model(name: str) -> str:
    """`name` if it can be a model's. Raises `Unreadable` (BAD_MODEL) where it is empty or too long."""
    if not 0 < len(name) <= MAX_MODEL_ID:
        raise Unreadable(Outcome.BAD_MODEL, f"`model` must have 1 to {MAX_MODEL_ID} characters.", "model")
    return name


def rename_model(body: bytes, new: str) -> bytes:
    """The same body with another model: only the bytes of the top-level model's value change.

    `body` is one that `peek` read a model from.
    """
    for name, start, end in members(body):
        if name == "model":
            value = body[start:end].rstrip()
            return body[:start] + msgspec.json.encode(new) + body[start + len(value) :]
    return body


_NOTHING = msgspec.Raw(b"")


class _Message(msgspec.Struct, gc=False):
    """A message, or a part of one."""

    content: msgspec.Raw = _NOTHING
    text: msgspec.Raw = _NOTHING


class _Texts(msgspec.Struct, gc=False):
    messages: msgspec.Raw = _NOTHING
    prompt: msgspec.Raw = _NOTHING
    input: msgspec.Raw = _NOTHING
    text: msgspec.Raw = _NOTHING


_TEXTS = msgspec.json.Decoder(_Texts)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGES = msgspec.json.Decoder(list[_Message])
_TOKENS = re.compile(rb"\[[ \t\r\n]*-?[0-9]")
#: Bytes of text that a token stands for, where a prompt comes as tokens: the usual figure for English.
_BYTES_PER_TOKEN = 4
#: Lists in lists that are followed: messages, their contents, their parts, and one to spare.
_MAX_DEPTH = 4


def text_bytes(body: bytes) -> int:
    """Bytes of text (UTF-8) in `messages`, `prompt`, `input` and `text`: contents and text parts, no images or tools.

    For size routing only; a body that cannot be read has none. Prompts of token ids count four bytes a token.
    """
    try:
        texts = _TEXTS.decode(body)
        return sum(_weigh(raw, 0) for raw in (texts.messages, texts.prompt, texts.input, texts.text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


def _weigh(raw: msgspec.Raw, depth: int) -> int:
    """Bytes of text in a string, or in a list of strings, messages, parts or token ids."""
    value = bytes(raw)
    if value.startswith(b'"'):
        return len(value) - 2 if b"\\" not in value else len(_STRING.decode(value).encode("utf-8", "surrogatepass"))
    if not value.startswith(b"[") or depth == _MAX_DEPTH:
        return 0
    if _TOKENS.match(value):
        return (value.count(b",") + 1) * _BYTES_PER_TOKEN
    try:
        items = [raw for message in _MESSAGES.decode(value) for raw in (message.content, message.text)]
    except msgspec.ValidationError:
        items = _LIST.decode(value)
    return sum(_weigh(item, depth + 1) for item in items)
