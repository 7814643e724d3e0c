"""What a client has of a streamed answer whose engine broke off, read so that another engine can go on with it.

Owns `read_partial`. The bytes that were passed on are all that is known; they are parsed here for the first time, and
only when an engine has failed. What is not understood wholly is not continued: `read_partial` gives None.
May not live here: the request that goes on (`continued`), what becomes of the answer to it (`resumed`).

The text is told to the next engine as the beginning of the assistant's turn. White space at its end is not: chat
templates that trim messages (Llama 3, Gemma) would lose it without a word, so the next engine is to say it again, and
what it repeats is dropped. A prompt is passed on exactly, so the text of a completion is told whole.

How many tokens were delivered is counted in events, or taken from the engine's count where every event tells it
(`continuous_usage_stats`). Engines that put several tokens into one event make that count too small.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from enginehouse.wire import events
from enginehouse.wire.continuable import Kind, kind_of, terms

__all__ = ["Kind", "Partial", "kind_of", "read_partial"]

DONE = b"[DONE]"
#: What every event of a stream repeats: the continued stream keeps that of the first one.
ENVELOPE = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
_TOP = frozenset((*ENVELOPE, "choices", "usage", "timings"))
_CHOICE = frozenset(("index", "delta", "text", "finish_reason", "stop_reason", "matched_stop"))
#: Marks of reasoning in the text: templates cut it out of earlier turns, so the prompt would not be the same.
_REASONING = ("<think>", "</think>")
#: What engines say that stop in the middle, in place of a reason why the text is complete.
BROKEN = ("abort", "error")


class Partial(msgspec.Struct):
    """An answer as far as it came."""

    wants_usage: bool = False
    envelope: dict[str, Any] = {}
    """What all events of the stream say alike; empty where none came but comments."""
    text: str = ""
    pending: str = ""
    """The end of `text` that the next engine is not told: it will say it again."""
    role_sent: bool = False
    finish_reason: str = ""
    """As it was sent: nothing but the usage can be missing. "" where it was not."""
    tokens: int = 0
    """Tokens of `text`."""
    pending_tokens: int = 0
    """Those at their end that the next engine will count: what makes up `pending`, and tokens without a text (a part of
    a character, or the mark of the end)."""
    limit_reached: bool = False
    """No further token may come, though no finish reason was sent."""
    usage: dict[str, Any] | None = None
    """The last one told."""
    counted: bool = False
    """It was told behind the last of the text."""
    usage_sent: bool = False
    """The usage of the whole answer was told."""

    @property
    def known(self) -> str:
        """The text that the next engine is told."""
        return self.text.removesuffix(self.pending)

    @property
    def known_tokens(self) -> int:
        """Tokens of `known`."""
        return self.tokens - self.pending_tokens

    @property
    def ended(self) -> bool:
        """The text is complete; what may be missing is its end."""
        return bool(self.finish_reason) or self.limit_reached


class _Inexact(Exception):
    """Something in the stream that cannot be continued, or that is not known here."""


def read_partial(kind: Kind, body: bytes, raw: bytes) -> Partial | None:
    """What the client has of the answer to `body`: `raw` is all that was passed on to it of the stream.

    None where going on would not be exact: by the request (see `continuable`); where the stream holds anything but
    plain text, or has ended; and where `raw` ends within an event, which nobody could complete: whoever passes a stream
    on does well to hold the beginning of an event back until the rest of it is there.
    A stream of nothing but comments can always be begun anew.
    """
    whole, rest = events.split(raw)
    if rest:
        return None
    told = [event for event in whole if event.startswith(b"data:") or events.data_of(event) is not None]
    if not told:
        return Partial()
    try:
        found = terms(kind, body)
        if found is None:
            return None
        partial = _Reading(kind, found.always_usage).all(told)
    except (_Inexact, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if any(mark in partial.text for mark in _REASONING) or partial.text.endswith("\ufffd"):
        return None  # the latter stands for a part of a character
    if kind is Kind.CHAT:
        partial.pending = partial.text[len(partial.text.rstrip()) :]
    partial.wants_usage = found.wants_usage
    partial.limit_reached = not partial.finish_reason and found.limit is not None and partial.tokens >= found.limit
    return partial


class _Frame(NamedTuple):
    """What stands around the text in an event. Most events of a stream differ in their text only."""

    before: bytes
    after: bytes


#: The name of the text; within a text its quotes would be escaped.
_NAME = re.compile(rb'"(?:content|text)"')
#: The text of an event, without its quotes.
_TEXT = re.compile(rb'"(?:content|text)": ?"((?:[^"\\]|\\.)*+)"')
#: What may stand between the quotes of a JSON string.
_INSIDE = re.compile(rb'(?:[^"\\\x00-\x1f]|\\.)*+')
_STRING = msgspec.json.Decoder(str)


class _Reading:
    """Reads the events of one stream, the many that are alike without parsing them."""

    def __init__(self, kind: Kind, always: bool) -> None:
        """`always`: engines were asked to tell the usage with every event."""
        self._kind = kind
        self._always = always
        self._partial = Partial()
        self._pieces: list[str] = []
        self._frame: _Frame | None = None

    def all(self, told: list[bytes]) -> Partial:
        """What these events say together."""
        for event in told:
            if piece := self._piece(event):
                self._add(piece)
            else:
                self._frame = _frame(event) if self._take(event) else None
        self._partial.text = "".join(self._pieces)
        return self._partial

    def _piece(self, event: bytes) -> str:
        """The text of an event that differs from the last one in nothing else; "" where it differs otherwise."""
        if self._frame is None:
            return ""
        before, after = self._frame
        end = len(event) - len(after)
        if not event.startswith(before) or not event.endswith(after):
            return ""
        inside = event[len(before) : end]
        return _STRING.decode(b'"%b"' % inside) if _INSIDE.fullmatch(inside) else ""

    def _take(self, event: bytes) -> bool:
        """Add an event to what is known. True if it tells some text and nothing else."""
        data = events.data_of(event)
        if data is None or data.strip() == DONE:
            raise _Inexact
        value: Any = msgspec.json.decode(data)
        choice = choice_of(value, self._kind)
        partial, usage = self._partial, value.get("usage")
        if not partial.envelope:
            partial.envelope = {name: value[name] for name in ENVELOPE if name in value}
        plain = False
        if choice is None:
            partial.usage_sent |= usage is not None
        else:
            plain = self._take_choice(choice)
        if usage is not None:
            # Unless asked to tell it always, an engine that tells it with the reason has no event of its own for it.
            partial.usage_sent |= bool(partial.finish_reason) and not self._always
            partial.usage, partial.counted = usage, True
            if type(usage.get("completion_tokens")) is int:
                partial.tokens = usage["completion_tokens"]
                partial.pending_tokens = min(partial.pending_tokens, partial.tokens)
        return plain and usage is None

    def _take_choice(self, choice: dict[str, Any]) -> bool:
        """Add a choice. True if it tells some text and nothing else."""
        partial = self._partial
        if partial.finish_reason:
            raise _Inexact
        partial.counted = False
        reason, role = choice.get("finish_reason"), (choice.get("delta") or {}).get("role")
        piece = text_of(choice)
        if piece or (piece == "" and reason is None and role is None):
            self._add(piece)
        if role is not None:
            partial.role_sent = True
        if reason is not None:
            partial.finish_reason = reason
        return bool(piece) and reason is None

    def _add(self, piece: str) -> None:
        """Add a piece of text, which is one token as far as is known."""
        self._pieces.append(piece)
        self._partial.tokens += 1
        self._partial.counted = False
        again = not piece.strip() if self._kind is Kind.CHAT else not piece
        self._partial.pending_tokens = self._partial.pending_tokens + 1 if again else 0


def _frame(event: bytes) -> _Frame | None:
    """What stands around the text of an event; None where it cannot be told for sure."""
    found = _TEXT.search(event)
    if found is None or len(_NAME.findall(event)) != 1:
        return None
    return _Frame(event[: found.start(1)], event[found.end(1) :])


def text_of(choice: dict[str, Any]) -> str | None:
    """The piece of text in a choice; None where it has none."""
    piece: str | None = choice["text"] if "text" in choice else (choice.get("delta") or {}).get("content")
    return piece


def choice_of(event: Any, kind: Kind) -> dict[str, Any] | None:
    """The one choice of an event of plain text, None in one that tells the usage only. Raises for all others."""
    if not isinstance(event, dict) or _beyond(event, _TOP) or not isinstance(event.get("usage"), dict | None):
        raise _Inexact
    choices = event.get("choices")
    if choices == []:
        return None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise _Inexact
    choice: dict[str, Any] = choices[0]
    if choice.get("index", 0) != 0 or _beyond(choice, _CHOICE) or choice.get("finish_reason") in BROKEN:
        raise _Inexact
    if kind is Kind.CHAT:
        delta = choice.get("delta") or {}
        if "text" in choice or not isinstance(delta, dict) or _beyond(delta, ("role", "content")):
            raise _Inexact
    elif "delta" in choice or "text" not in choice:
        raise _Inexact
    if not isinstance(text_of(choice), str | None) or not isinstance(choice.get("finish_reason"), str | None):
        raise _Inexact
    return choice


def _beyond(found: dict[str, Any], known: Any) -> bool:
    """Whether something is there that is not known: nulls and empty lists say nothing."""
    return any(name not in known and value is not None and value != [] for name, value in found.items())
