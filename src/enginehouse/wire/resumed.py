"""The stream of an engine that goes on with an answer, made one with what the client has already.

Owns `Splicer` and `closing`. May not live here: what the client has (`resume`), how the engine was asked (`continued`),
when to give up (`data`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from enginehouse.wire import events
from enginehouse.wire.resume import BROKEN, DONE, ENVELOPE, Kind, Partial

#: Said first, so that a reader of the raw stream can tell; SDKs skip comments.
COMMENT = b": enginehouse: continued by another service\n\n"
_END = b"data: [DONE]\n\n"
#: Parts of a delta that cannot follow a text: the engine has not understood that it is to go on.
_REASONING = ("reasoning_content", "reasoning")
#: An event larger than this is none.
_MAX_EVENT = 1024 * 1024


def closing(kind: Kind, partial: Partial) -> bytes:
    """What is missing at the end of an answer that is complete, where no engine has to be asked; else nothing."""
    if not partial.ended or (partial.wants_usage and not partial.counted):
        return b""
    parts = [] if partial.finish_reason else [_last(kind, partial)]
    if partial.wants_usage and not partial.usage_sent:
        parts.append(_event({**partial.envelope, "choices": [], "usage": partial.usage}))
    return b"".join([*parts, _END])


def _last(kind: Kind, partial: Partial) -> bytes:
    """The event that ends a text which has as many tokens as it may."""
    content: dict[str, Any] = {"delta": {}} if kind is Kind.CHAT else {"text": ""}
    choice = {"index": 0, **content, "logprobs": None, "finish_reason": "length"}
    return _event({**partial.envelope, "choices": [choice]})


def _event(value: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(value)


class _Misshapen(Exception):
    """The stream is not one of the kind that was asked for."""


class Splicer:
    """Fed with the stream of the engine that goes on, gives what to pass on to the client.

    The envelope stays that of the first events, the role is not said again, usage is told for the whole answer.
    Where the client has no event yet the stream is passed on as it is.
    """

    __slots__ = (
        "_begun",
        "_buffer",
        "_ends_alike",
        "_kind",
        "_partial",
        "_pending",
        "_reason",
        "_role",
        "_usage",
        "failed",
        "finished",
    )

    def __init__(self, kind: Kind, partial: Partial) -> None:
        self._kind = kind
        self._partial = partial
        self._buffer = b""
        self._begun = False
        self._pending = partial.pending
        self._reason = partial.finish_reason
        self._role = partial.role_sent
        self._ends_alike = False
        self._usage: dict[str, Any] | None = None
        self.finished = False
        """The stream's last event was passed on."""
        self.failed = False
        """The new stream is not of this kind, or says that it failed: nothing of it is passed on from here."""

    def feed(self, data: bytes) -> bytes:
        """What the client gets for some bytes of the new stream, cut anywhere: whole events only."""
        over = self.failed or self.finished
        if over:
            return b""
        whole, self._buffer = events.split(self._buffer + data)
        out = [] if self._begun else self._opening()
        try:
            for event in whole:
                out.append(self._spliced(event))
                if self.finished:
                    break
        except (_Misshapen, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.failed = True
        self.failed = self.failed or len(self._buffer) > _MAX_EVENT
        return b"".join(out)

    def _opening(self) -> list[bytes]:
        """What is said before anything of the new stream."""
        self._begun = True
        if not self._partial.limit_reached:
            return [COMMENT]
        self._reason = "length"
        return [COMMENT, _last(self._kind, self._partial)]

    def _spliced(self, event: bytes) -> bytes:
        """An event as the client gets it, or nothing."""
        data = events.data_of(event)
        if data is None:
            return event
        if data.strip() == DONE:
            if self._partial.envelope and not self._reason:
                raise _Misshapen
            self.finished = True
            return self._owed() + event
        return self._whole(data) if self._partial.envelope else event

    def _whole(self, data: bytes) -> bytes:
        """An event with the data as it belongs to the whole answer; nothing where all of it is known."""
        value: Any = msgspec.json.decode(data)
        if not isinstance(value, dict) or value.get("error") is not None or not isinstance(value.get("choices"), list):
            raise _Misshapen
        choices = [kept for choice in value["choices"] if (kept := self._choice(choice)) is not None]
        others = {name: part for name, part in value.items() if name not in ENVELOPE}
        if value.get("usage") is not None:
            others["usage"] = self._usage = self._summed(value["usage"])
        elif not choices:
            return b""
        if value["choices"] and not choices:
            return b""
        if self._partial.ended:
            self._usage = None
        return _event({**self._partial.envelope, **others, "choices": choices})

    def _owed(self) -> bytes:
        """The usage that an answer lacked, where the engine told it together with a choice."""
        if not self._partial.ended or not self._partial.wants_usage or self._usage is None:
            return b""
        return _event({**self._partial.envelope, "choices": [], "usage": self._usage})

    def _choice(self, choice: Any) -> dict[str, Any] | None:
        """A choice as the client gets it, None where nothing of it is left."""
        if not isinstance(choice, dict) or choice.get("index", 0) != 0:
            raise _Misshapen
        reason = choice.get("finish_reason")
        if self._reason:
            self._ends_alike = self._ends_alike or reason == "stop" == self._reason
            return None  # the text is complete, whatever the engine would add
        if reason in BROKEN:
            raise _Misshapen
        if self._kind is Kind.CHAT:
            delta = choice.get("delta") or {}
            if not isinstance(delta, dict) or (self._partial.known and any(delta.get(name) for name in _REASONING)):
                raise _Misshapen
            delta = self._delta(delta)
            says, choice = any(part not in (None, "", []) for part in delta.values()), {**choice, "delta": delta}
        else:
            says = bool(choice.get("text"))
        if reason is not None:
            self._reason = reason
        return choice if says or reason is not None else None

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        """A delta without what the client has."""
        kept = {name: part for name, part in delta.items() if name != "role" or not self._role}
        self._role = self._role or kept.get("role") is not None
        text = kept.get("content")
        if self._pending and isinstance(text, str) and text:
            same = _common(self._pending, text)
            kept["content"] = text[same:]
            self._pending = self._pending[same:] if same == len(text) else ""
        return kept

    def _summed(self, usage: Any) -> dict[str, Any]:
        """The usage of the whole answer: what the next engine was told as a prompt was answered before."""
        partial = self._partial
        try:
            before = partial.usage["prompt_tokens"] if partial.usage else usage["prompt_tokens"] - partial.known_tokens
            answered = partial.known_tokens + usage["completion_tokens"]
            if partial.ended and not self._ends_alike:
                answered = partial.tokens  # what was said once more was not the mark of the end, which counts
            whole = {"prompt_tokens": before, "completion_tokens": answered, "total_tokens": before + answered}
            details = usage.get("prompt_tokens_details")
            if isinstance(details, dict) and (details.get("cached_tokens") or 0) > before:
                whole["prompt_tokens_details"] = {**details, "cached_tokens": before}
        except (KeyError, TypeError, AttributeError):
            raise _Misshapen from None
        return {**usage, **whole}


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)
