"""What a request for text asks for, read from its body.

Owns the fields that matter of the four text endpoints, and how each becomes one `Work`. Every other field is ignored,
as engines do. May not live here: the shape of the answers (`shapes`).

A last message of the assistant is the beginning of the answer where real engines take it for that: on vLLM only where
`continue_final_message` asks for it and `add_generation_prompt` is false, on llama.cpp without that, too. A prompt that
ends with the beginning of its own answer is gone on with anyway, as by anything that predicts text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import msgspec

from enginehouse.sim.model import parted


class Work(NamedTuple):
    """One piece of text to generate.

    `partial` is the beginning of the answer where the client already has one; `cue` is what stands between prompt and
    answer when a later turn of the conversation has both in its prompt.
    """

    model: str
    prompt: str
    partial: str
    limit: int | None
    stream: bool
    usage: bool
    ignore_eos: bool
    cue: str = ""


class Part(msgspec.Struct):
    """A piece of a message."""

    text: str | None = None


class Message(msgspec.Struct):
    """One turn of a conversation."""

    role: str = ""
    content: str | list[Part] | None = None


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None


NO_TOOLS = msgspec.Raw()


class _Ask(msgspec.Struct):
    cue: ClassVar[str] = "\nassistant: "
    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None
    tools: msgspec.Raw = NO_TOOLS

    @property
    def preamble(self) -> str:
        """What a template writes before everything else: the tools as they came."""
        tools = bytes(self.tools)
        return "" if tools == b"null" else tools.decode("utf-8", "replace")

    def work(self, prompt: str, partial: str, limit: int | None) -> Work:
        usage = bool(self.stream_options and self.stream_options.include_usage)
        return Work(self.model, prompt, partial, limit, bool(self.stream), usage, bool(self.ignore_eos), self.cue)


class _Chat(_Ask, kw_only=True):
    messages: list[Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    continue_final_message: bool = False
    add_generation_prompt: bool | None = None


class _Completion(_Ask, kw_only=True):
    cue = ""
    prompt: str | list[str | int | list[int]]
    max_tokens: int | None = None


class _Responses(_Ask, kw_only=True):
    input: str | list[Message]
    instructions: str | None = None
    max_output_tokens: int | None = None


class _Messages(_Ask, kw_only=True):
    messages: list[Message]
    max_tokens: int
    system: str | list[Part] | None = None


_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_responses = msgspec.json.Decoder(_Responses).decode
_decode_messages = msgspec.json.Decoder(_Messages).decode


def chat(body: bytes, prefills: bool = False) -> Work:
    """`/v1/chat/completions`. `prefills`: a last message of the assistant is continued without being asked to.

    Raises `msgspec.DecodeError` for a body that is not one, `ValueError` for what engines refuse.
    """
    ask = _decode_chat(body)
    limit = ask.max_tokens if ask.max_completion_tokens is None else ask.max_completion_tokens
    return ask.work(*_conversation(ask.preamble, ask.messages, _goes_on(ask, prefills)), limit)


def _goes_on(ask: _Chat, prefills: bool) -> bool:
    """Whether the last message is to be continued."""
    roles = [turn.role for turn in ask.messages[-2:]]
    if ask.continue_final_message and ask.add_generation_prompt is not False:  # true unless given
        raise ValueError("Cannot set both add_generation_prompt and continue_final_message to true.")
    if ask.continue_final_message and roles[-1:] != ["assistant"]:
        raise ValueError("There is no last message of the assistant to continue.")
    if prefills and not ask.continue_final_message and roles == ["assistant", "assistant"]:
        raise ValueError("Cannot have 2 or more assistant messages at the end of the list.")
    return ask.continue_final_message or prefills


def completion(body: bytes) -> Work:
    """`/v1/completions`; a prompt of token ids is a prompt like any other."""
    ask = _decode_completion(body)
    limit = 16 if ask.max_tokens is None else ask.max_tokens
    prompt = parted(ask.prompt) if isinstance(ask.prompt, str) else (prompt_text(ask.prompt), "")
    return ask.work(*prompt, limit)


def responses(body: bytes) -> Work:
    """`/v1/responses`."""
    ask = _decode_responses(body)
    turns = [Message("user", ask.input)] if isinstance(ask.input, str) else ask.input
    return ask.work(*_conversation(ask.preamble + (ask.instructions or ""), turns, False), ask.max_output_tokens)


def messages(body: bytes) -> Work:
    """`/v1/messages` (Anthropic's)."""
    ask = _decode_messages(body)
    return ask.work(*_conversation(ask.preamble + _plain(ask.system), ask.messages, True), ask.max_tokens)


_CHAT = "/v1/chat/completions"
_READERS: dict[str, Callable[[bytes], Work]] = {
    "/v1/completions": completion,
    "/v1/responses": responses,
    "/v1/messages": messages,
}


def read(path: str, body: bytes, prefills: bool) -> Work:
    """What a request to one of the four endpoints asks for; see `chat` for `prefills` and for what is raised."""
    return chat(body, prefills) if path == _CHAT else _READERS[path](body)


def prompt_text(prompt: str | list[Any]) -> str:
    """A prompt in any form as text: a string, strings, token ids, or lists of them."""
    if isinstance(prompt, str):
        return prompt
    return " ".join(prompt_text(each) if isinstance(each, list) else str(each) for each in prompt)


def _conversation(system: str, turns: list[Message], goes_on: bool) -> tuple[str, str]:
    """The prompt, and the beginning of the answer where the last turn is the assistant's and it `goes_on`."""
    partial = _plain(turns[-1].content) if goes_on and turns and turns[-1].role == "assistant" else ""
    before = turns[:-1] if partial else turns
    return "\n".join([system, *(f"{turn.role}: {_plain(turn.content)}" for turn in before)]), partial


def _plain(content: str | list[Part] | None) -> str:
    if isinstance(content, list):
        return "".join(part.text or "" for part in content)
    return content or ""
