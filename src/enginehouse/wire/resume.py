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

from typing import Any

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
    """Those of them that make up `pending`."""
    limit_reached: bool = False
    """No further token may come, though no finish reason was sent."""
    usage: dict[str, Any] | None = None
    """The last one told."""
    usage_sent: bool = False
    """The event that ends a stream with the usage was sent."""

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
    plain text, or has ended; and where `raw` ends within an event, which nobody could complete.
    A stream of nothing but comments can always be begun anew.
    """
    whole, rest = events.split(raw)
    if rest:
        return None
    read = [data for data in map(events.data_of, whole) if data is not None]
    partial = Partial()
    if not read:
        return partial
    try:
        found = terms(kind, body)
        if found is None:
            return None
        for data in read:
            _take(kind, partial, data)
    except (_Inexact, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if any(mark in partial.text for mark in _REASONING):
        return None
    if kind is Kind.CHAT:
        partial.pending = partial.text[len(partial.text.rstrip()) :]
    else:
        partial.pending_tokens = 0
    partial.wants_usage = found.wants_usage
    partial.limit_reached = not partial.finish_reason and found.limit is not None and partial.tokens >= found.limit
    return partial


def _take(kind: Kind, partial: Partial, data: bytes) -> None:
    """Add an event to what is known."""
    if data.strip() == DONE:
        raise _Inexact
    event: Any = msgspec.json.decode(data)
    choice = choice_of(event, kind)
    if not partial.envelope:
        partial.envelope = {name: event[name] for name in ENVELOPE if name in event}
    usage = event.get("usage")
    if choice is None:
        partial.usage_sent = usage is not None
    else:
        _take_choice(partial, choice)
    if usage is not None:
        partial.usage = usage
        if type(usage.get("completion_tokens")) is int:
            partial.tokens = usage["completion_tokens"]
            partial.pending_tokens = min(partial.pending_tokens, partial.tokens)


def _take_choice(partial: Partial, choice: dict[str, Any]) -> None:
    if partial.finish_reason:
        raise _Inexact
    delta = choice.get("delta") or {}
    piece = text_of(choice)
    reason = choice.get("finish_reason")
    if piece or (piece == "" and reason is None and "role" not in delta):
        partial.text += piece
        partial.tokens += 1
        partial.pending_tokens = 0 if piece.strip() else partial.pending_tokens + 1
    if delta.get("role") is not None:
        partial.role_sent = True
    if reason is not None:
        partial.finish_reason = reason


def text_of(choice: dict[str, Any]) -> str | None:
    """The piece of text in a choice; None where it has none."""
    piece: str | None = choice["text"] if "text" in choice else (choice.get("delta") or {}).get("content")
    return piece


def choice_of(event: Any, kind: Kind) -> dict[str, Any] | None:
    """The one choice of an event of plain text, None in one that tells the usage only. Raises for all others."""
    if not isinstance(event, dict) or _beyond(event, _TOP) or not isinstance(event.get("usage") or {}, dict):
        raise _Inexact
    choices = event.get("choices")
    if choices == []:
        return None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise _Inexact
    choice: dict[str, Any] = choices[0]
    if choice.get("index", 0) != 0 or _beyond(choice, _CHOICE):
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
