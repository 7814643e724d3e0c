"""The prompt in a body: which members the model gets to see, as the very bytes that the client sent.

Owns the names of these members, the order in which they count, and `text_of`. Nothing is parsed: `peek`, which walks
the body anyway, notes where the members are.
May not live here: hashing (`policy.chunks`), for which requests a prompt matters (`data.intake`).

Two requests that begin alike here begin alike in an engine's cache. So what stands first in an engine's cache comes
first, wherever the client put it: a salt or an adapter, with which nothing else is shared; then tools, which SDKs send
after the messages and chat templates put before them; then the system prompt, and the messages last.
"""

from __future__ import annotations

from typing import Final

import msgspec

NOTHING: Final = msgspec.Raw(b"")


class PromptMembers(msgspec.Struct, gc=False):
    """The members of a body that a model gets to see, in the order in which they count. `NOTHING`: not given."""

    # vLLM: what keeps tenants' caches apart. SGLang's and llama.cpp's adapters.
    cache_salt: msgspec.Raw = NOTHING
    lora_path: msgspec.Raw = NOTHING
    lora: msgspec.Raw = NOTHING
    # Chat completions and messages; `functions` is what tools once were called.
    tools: msgspec.Raw = NOTHING
    functions: msgspec.Raw = NOTHING
    system: msgspec.Raw = NOTHING
    instructions: msgspec.Raw = NOTHING
    messages: msgspec.Raw = NOTHING
    contents: msgspec.Raw = NOTHING
    # Responses, completions, SGLang's /generate, llama.cpp's /infill.
    input: msgspec.Raw = NOTHING
    input_extra: msgspec.Raw = NOTHING
    input_prefix: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    text: msgspec.Raw = NOTHING
    input_ids: msgspec.Raw = NOTHING


NAMES: Final = frozenset(PromptMembers.__struct_fields__)
#: Of text and of a list.
_STARTS: Final = b'"['


_COUNT: Final = len(NAMES)


def text_of(found: PromptMembers, limit: int) -> tuple[int, memoryview] | None:
    """How many bytes the prompt has, and its first ones, at least `limit` where it has as many; None where there is
    none.

    Copies nothing where the prompt is one member, as nearly always. Members that are neither text nor a list are no
    part of a prompt (`"text": {"format": …}`, `"tools": null`). Token ids are a text like any other.
    """
    parts = [
        view
        for raw in msgspec.structs.astuple(found)[:_COUNT]
        if raw is not NOTHING and (view := memoryview(raw)) and view[0] in _STARTS
    ]
    if len(parts) == 1:
        return len(parts[0]), parts[0]
    return (sum([len(part) for part in parts]), _joined(parts, limit)) if parts else None


def _joined(parts: list[memoryview], limit: int) -> memoryview:
    """The first `limit` bytes of all parts together."""
    wanted: list[memoryview] = []
    for part in parts:
        wanted.append(part[:limit])
        limit -= len(wanted[-1])
    return memoryview(b"".join(wanted))
