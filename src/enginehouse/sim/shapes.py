"""The answers of the four text endpoints, as JSON and as server-sent events.

Owns their bytes. May not live here: when they are sent (`generate`), which tokens they carry (`model`).
A shape is made for one request; `delta` runs once a token, so what does not change is put together before.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from enginehouse.sim.asks import Work
from enginehouse.sim.state import Sim

DONE = b"data: [DONE]\n\n"


class Counted(NamedTuple):
    """How an answer ended: the reason (`stop` or `length`) and the tokens it took.

    `cached`: tokens of the prompt that the engine still had; None where it has no cache to speak of.
    """

    reason: str
    prompt: int
    completion: int
    cached: int | None = None

    def openai(self) -> dict[str, Any]:
        total = self.prompt + self.completion
        usage = {"prompt_tokens": self.prompt, "completion_tokens": self.completion, "total_tokens": total}
        details = {} if self.cached is None else {"prompt_tokens_details": {"cached_tokens": self.cached}}
        return {**usage, **details}

    def openai_responses(self) -> dict[str, Any]:
        return {
            "input_tokens": self.prompt,
            "input_tokens_details": {"cached_tokens": self.cached or 0},
            "output_tokens": self.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt + self.completion,
        }

    def anthropic(self) -> dict[str, int]:
        if self.cached is None:
            return {"input_tokens": self.prompt, "output_tokens": self.completion}
        return {
            "input_tokens": self.prompt - self.cached,
            "cache_read_input_tokens": self.cached,
            "output_tokens": self.completion,
        }


def dump(value: object) -> bytes:
    """JSON as the engines write it."""
    return msgspec.json.encode(value)


def event(data: object, name: str = "") -> bytes:
    """One server-sent event."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + dump(data) + b"\n\n"


class Shape(ABC):
    """An endpoint's answer to one request."""

    def __init__(self, sim: Sim, work: Work) -> None:
        self.sim = sim
        self.work = work
        self.created = int(time.time())

    @abstractmethod
    def frame(self) -> bytes:
        """An event for a token, with `@@` where the token goes."""

    @cached_property
    def _halves(self) -> tuple[bytes, bytes]:
        before, after = self.frame().split(b"@@")
        return before, after

    def delta(self, word: bytes) -> bytes:
        """The event for one token. Tokens hold nothing that JSON escapes."""
        before, after = self._halves
        return before + word + after

    @abstractmethod
    def opening(self, counted: Counted) -> list[bytes]:
        """The events before the first token; none is counted yet."""

    @abstractmethod
    def closing(self, text: str, counted: Counted) -> list[bytes]:
        """The events after the last token."""

    @abstractmethod
    def whole(self, text: str, counted: Counted) -> bytes:
        """The answer that is not streamed."""


class Chat(Shape):
    """`/v1/chat/completions`."""

    id_prefix, stream_object, whole_object = "chatcmpl-", "chat.completion.chunk", "chat.completion"

    def __init__(self, sim: Sim, work: Work) -> None:
        self.id = sim.new_id(self.id_prefix)
        super().__init__(sim, work)

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.work.model,
            "system_fingerprint": self.sim.name,
            "choices": choices,
        }

    def _event(self, content: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": reason}
        return event(self._envelope(self.stream_object, [choice]))

    def frame(self) -> bytes:
        return self._event({"delta": {"content": "@@"}})

    def opening(self, counted: Counted) -> list[bytes]:
        return [self._event({"delta": {"role": "assistant", "content": None if self.sim.llama_style else ""}})]

    def closing(self, text: str, counted: Counted) -> list[bytes]:
        events = [self._event(self._last(), counted.reason)]
        if self.work.usage:
            events.append(event({**self._envelope(self.stream_object, []), "usage": counted.openai()}))
        return [*events, DONE]

    def _last(self) -> dict[str, Any]:
        return {"delta": {}}

    def whole(self, text: str, counted: Counted) -> bytes:
        choice = {"index": 0, **self._content(text), "logprobs": None, "finish_reason": counted.reason}
        return dump({**self._envelope(self.whole_object, [choice]), "usage": counted.openai()})

    def _content(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}}


class Completion(Chat):
    """`/v1/completions`."""

    id_prefix, stream_object, whole_object = "cmpl-", "text_completion", "text_completion"

    def frame(self) -> bytes:
        return self._event({"text": "@@"})

    def opening(self, counted: Counted) -> list[bytes]:
        return []

    def _last(self) -> dict[str, Any]:
        return {"text": ""}

    def _content(self, text: str) -> dict[str, Any]:
        return {"text": text}


class Messages(Shape):
    """`/v1/messages`, Anthropic's."""

    def frame(self) -> bytes:
        delta = {"type": "text_delta", "text": "@@"}
        return event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")

    def _message(self, content: list[dict[str, str]], reason: str | None, usage: dict[str, int]) -> dict[str, Any]:
        return {
            "id": self.sim.new_id("msg_"),
            "type": "message",
            "role": "assistant",
            "model": self.work.model,
            "system_fingerprint": self.sim.name,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": usage,
        }

    def opening(self, counted: Counted) -> list[bytes]:
        message = self._message([], None, counted.anthropic())
        block = {"type": "text", "text": ""}
        return [
            event({"type": "message_start", "message": message}, "message_start"),
            event({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start"),
        ]

    def closing(self, text: str, counted: Counted) -> list[bytes]:
        delta = {"stop_reason": _anthropic(counted.reason), "stop_sequence": None}
        return [
            event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
            event({"type": "message_delta", "delta": delta, "usage": counted.anthropic()}, "message_delta"),
            event({"type": "message_stop"}, "message_stop"),
        ]

    def whole(self, text: str, counted: Counted) -> bytes:
        content = [{"type": "text", "text": text}]
        return dump(self._message(content, _anthropic(counted.reason), counted.anthropic()))


def _anthropic(reason: str) -> str:
    return "max_tokens" if reason == "length" else "end_turn"
