"""Engines that answer from a script, in the shapes of vLLM, llama.cpp and SGLang, and a client that reads streams.

Owns `Engine` (deterministic: the same request gives the same text everywhere, and a partial answer is gone on with),
and `Read`, what a client made of a stream. May not live here: what is done when an engine breaks off.
The shapes were recorded from the engines or read in their sources.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from enginehouse.wire.resume import Kind

STYLES = ("vllm", "llama.cpp", "sglang", "old-sglang")
PROMPT_TOKENS = 7
DONE = b"data: [DONE]\n\n"


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`: no name twice in any object."""
    assert len({name for name, _ in pairs}) == len(pairs), pairs
    return dict(pairs)


@dataclass
class Engine:
    """Answers every prompt with the same tokens."""

    style: str
    kind: Kind
    script: tuple[str, ...]
    id: str = "first"
    trims: bool = False
    """Its template trims the ends of messages, as Llama 3's does."""
    counts_end: bool = False
    """The mark of the end is a token in its usage, as everywhere but in the simulated engine."""
    asked: dict[str, Any] = field(default_factory=dict)

    def stream(self, body: bytes) -> list[bytes]:
        """The events that answer `body`."""
        self.asked = json.loads(body, object_pairs_hook=once)
        known = self._known()
        whole = "".join(self.script)
        assert whole.startswith(known), (known, whole)
        index, rest = self._after(known)
        limit = self.asked.get("max_tokens")
        tokens = rest[:limit] if limit is not None else rest
        reason = "stop" if len(tokens) == len(rest) and limit != len(rest) else "length"
        return list(self._events(tokens, PROMPT_TOKENS + index, reason))

    def _known(self) -> str:
        if self.kind is Kind.COMPLETION:
            prompt: str = self.asked["prompt"]
            assert prompt.startswith("Once ")
            return prompt.removeprefix("Once ")
        *_, last = self.asked["messages"]
        if not self.asked.get("continue_final_message"):
            assert last["role"] == "user"
            return ""
        assert self.asked["add_generation_prompt"] is False
        assert last["role"] == "assistant"
        return str(last["content"]).rstrip() if self.trims else str(last["content"])

    def _after(self, known: str) -> tuple[int, tuple[str, ...]]:
        """How many tokens `known` is, and the rest; where it ends in a token, the rest of that is one."""
        at = 0
        for index, token in enumerate(self.script):
            if at >= len(known):
                return index, self.script[index:]
            at += len(token)
            if at > len(known):
                return index, (token[len(known) - at :], *self.script[index + 1 :])
        return len(self.script), ()

    def _events(self, tokens: tuple[str, ...], prompt: int, reason: str) -> Iterator[bytes]:
        options = self.asked.get("stream_options") or {}
        odd = self.style == "llama.cpp" and self.kind is Kind.COMPLETION  # the usage comes with the reason, always
        every = options.get("continuous_usage_stats", False) and self.style != "llama.cpp"
        if self.kind is Kind.CHAT:
            yield self._event(self._delta(role=True), usage=_usage(prompt, 0) if every else None)
        count = 0
        for count, token in enumerate(tokens, 1):
            whole = self.style == "vllm" and reason == "length" and count == len(tokens)
            yield self._event(
                self._delta(token), reason if whole else None, usage=_usage(prompt, count) if every else None
            )
        if self.style != "vllm" or reason == "stop" or not tokens:
            count += self.counts_end and reason == "stop"
            yield self._event(self._delta(), reason, usage=_usage(prompt, count) if every or odd else None)
        if options.get("include_usage") and not odd:
            yield self._event(None, usage=_usage(prompt, count))
        yield DONE

    def _delta(self, token: str = "", role: bool = False) -> dict[str, Any]:
        if self.kind is Kind.COMPLETION:
            return {"text": token}
        if role:
            return {"delta": {"role": "assistant", "content": None if self.style == "llama.cpp" else "", **self._nulls}}
        if token or self.style == "vllm":
            return {"delta": {"content": token, **self._nulls}}
        return {"delta": {**self._nulls}}

    @property
    def _nulls(self) -> dict[str, None]:
        return {"reasoning_content": None, "tool_calls": None} if self.style == "old-sglang" else {}

    def _event(
        self, content: dict[str, Any] | None, reason: str | None = None, usage: dict[str, Any] | None = None
    ) -> bytes:
        choices = [] if content is None else [self._choice(content, reason)]
        kind = "chat.completion.chunk" if self.kind is Kind.CHAT else "text_completion"
        event = {"id": self.id, "object": kind, "created": len(self.id), "model": "m", "choices": choices}
        if self.style == "llama.cpp":
            event = {"choices": choices, "system_fingerprint": f"b-{self.id}", **event}
            if reason or usage:
                event["timings"] = {"predicted_n": 3, "predicted_ms": 1.25}
        if usage is not None or self.style == "old-sglang":
            event["usage"] = usage
        return f"data: {json.dumps(event)}\n\n".encode()

    def _choice(self, content: dict[str, Any], reason: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, **content, "finish_reason": reason}
        if self.style == "vllm":
            return {**choice, "logprobs": None, "stop_reason": None, "token_ids": None}
        if "sglang" in self.style:
            return {**choice, "logprobs": None, "matched_stop": 151645 if reason == "stop" else None}
        return choice if self.kind is Kind.CHAT else {**choice, "logprobs": None}


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


@dataclass
class Read:
    """What a client made of a stream."""

    text: str = ""
    roles: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    envelopes: set[tuple[Any, ...]] = field(default_factory=set)
    usage: dict[str, Any] | None = None
    usages: int = 0
    """Events that tell the usage only."""
    done: int = 0


def read(stream: bytes) -> Read:
    """Read a stream to its end, as a client does that knows nothing of engines."""
    found = Read()
    for event in stream.decode().split("\n\n"):
        if event == "data: [DONE]":
            found.done += 1
        if not event.startswith("data: {"):
            assert event in ("", "data: [DONE]") or event.startswith(":"), event
            continue
        assert not found.done
        value = json.loads(event.removeprefix("data: "), object_pairs_hook=once)
        found.envelopes.add(
            tuple(value.get(name) for name in ("id", "object", "created", "model", "system_fingerprint"))
        )
        found.usage = value.get("usage") or found.usage
        found.usages += not value["choices"]
        for choice in value["choices"]:
            _take(found, choice)
    return found


def _take(found: Read, choice: dict[str, Any]) -> None:
    delta = choice.get("delta", choice)
    found.text += (delta.get("text") if "text" in choice else delta.get("content")) or ""
    found.roles += [delta["role"]] if delta.get("role") else []
    found.reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
