"""Which streamed answers another engine can go on with, as far as the request tells.

Owns the two kinds of such answers, the members of a request that forbid it, and its limits (`Terms`).
May not live here: what was answered so far (`resume`), the request that goes on (`continued`).

Forbidden is what makes the rest depend on more than the text so far: several answers at once, probabilities, tool calls
that must come, grammars (their state is the engine's), penalties on tokens of the answer (they would be the prompt's),
and stop strings, for the sake of which engines hold text back, so that what was sent ends within a token.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import msgspec

from enginehouse.wire.peek import members


@enum.unique
class Kind(enum.Enum):
    """An answer that can be continued: how its text is asked for and sent."""

    CHAT = "chat"
    COMPLETION = "completion"


_KINDS = {
    "/v1/chat/completions": Kind.CHAT,
    "/chat/completions": Kind.CHAT,
    "/v1/completions": Kind.COMPLETION,
    "/completions": Kind.COMPLETION,
}


def kind_of(path: str) -> Kind | None:
    """What is answered on `path` (decoded, without query); None for all that cannot be continued."""
    return _KINDS.get(path.removesuffix("/"))


class Terms(msgspec.Struct, frozen=True):
    """What a request that may be continued says about its answer."""

    limit: int | None
    """Tokens it may have, None for as many as the engine likes."""
    wants_usage: bool
    """The stream ends with an event that tells the usage."""
    always_usage: bool = False
    """Every event tells it, as far as the engine can."""


#: Members that are the most tokens of an answer; each engine knows some of these.
LIMITS = ("max_tokens", "max_completion_tokens", "n_predict")
#: Members that must not be given: null, false, 0, "" and empty lists and objects count as not given.
_NEVER_NAMES = """
audio echo functions function_call stop suffix use_beam_search truncate_prompt_tokens prompt_embeds
logprobs top_logprobs prompt_logprobs n_probs post_sampling_probs return_hidden_states
return_token_ids return_tokens return_tokens_as_token_ids return_progress
frequency_penalty presence_penalty
grammar json_schema regex ebnf structural_tag structured_outputs
kv_transfer_params bootstrap_host session_params
"""
_NEVER = frozenset(_NEVER_NAMES.split())
#: Members that must have one of these values where they are given.
_ONLY: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "stream": (True,),
    "tool_choice": ("auto", "none"),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "repetition_penalty": (1,),  # SGLang: of the answer's tokens only
}


def terms(kind: Kind, body: bytes) -> Terms | None:
    """The terms of a request; None where its answer cannot be continued exactly.

    Raises `msgspec.DecodeError` and what decoding raises besides (`UnicodeDecodeError`, `RecursionError`).
    """
    found: dict[str, Any] = {}
    for name, start, end in members(body):
        if name in found:
            return None  # engines disagree which of two counts
        value = memoryview(body)[start:end]
        found[name] = _LARGE[name](value) if name in _LARGE else msgspec.json.decode(value)
    if found.get("stream") is not True or not all(_allowed(name, value) for name, value in found.items()):
        return None
    if found.get("logprobs") is not None and found["logprobs"] is not False:
        return None  # 0 asks for those of the chosen tokens
    if not _has_text(kind, found):
        return None
    limits = [found[name] for name in LIMITS if found.get(name) is not None]
    if limits and (type(limits[0]) is not int or any(limit != limits[0] for limit in limits)):
        return None  # engines disagree which of them counts
    options = found.get("stream_options")
    options = options if isinstance(options, dict) else {}
    usage = [options.get(name) is True for name in ("include_usage", "continuous_usage_stats")]
    return Terms(limits[0] if limits and limits[0] >= 0 else None, *usage)


class _Message(msgspec.Struct):
    """A message as far as it matters here; a content may be megabytes."""

    role: Any = None
    content: msgspec.Raw = msgspec.Raw(b"")
    tool_calls: Any = None


_RAWS = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGE = msgspec.json.Decoder(_Message)


def _last(messages: memoryview) -> _Message | None:
    """The last one of the messages; nothing else of them is read."""
    each = _RAWS.decode(messages)
    try:
        return _MESSAGE.decode(each[-1]) if each else None
    except msgspec.ValidationError:
        return None


def _is_text(value: memoryview | msgspec.Raw) -> bool:
    return bytes(memoryview(value)[:1]) == b'"'


_LARGE: dict[str, Callable[[memoryview], object]] = {"messages": _last, "prompt": _is_text}


def _allowed(name: str, value: object) -> bool:
    if value is None or name in _LARGE:
        return True
    if name in _ONLY:
        return value in _ONLY[name]
    return not value or (name not in _NEVER and not name.startswith("guided_"))


def _has_text(kind: Kind, found: dict[str, Any]) -> bool:
    """Whether the request is made of what text can be added to."""
    if kind is Kind.COMPLETION:
        # Without a limit some engines stop after 16 tokens and others never: which one it was is not known here.
        return found.get("prompt") is True and any(name in found for name in LIMITS)
    last = found.get("messages")
    goes_on, opens = found.get("continue_final_message") or False, found.get("add_generation_prompt")
    if last is None or opens is goes_on:
        return False
    if last.role == "assistant":
        # Engines disagree whether it is continued where that is not said.
        return goes_on is True and _is_text(last.content) and not last.tool_calls
    return goes_on is False
