"""The counts of tokens that engines tell at the end of an answer, as each API names them.

Owns their shapes and decoders. May not live here: finding them in an answer, and what they come to (`usage`).

| API | where |
|---|---|
| completions, chat | `usage`: `prompt_tokens`, `completion_tokens`, `prompt_tokens_details.cached_tokens` |
| responses | `usage`: `input_tokens`, `output_tokens`, `input_tokens_details.cached_tokens` |
| messages | `usage` of `message_delta`, and for what it lacks of `message_start`: `output_tokens`, |
| | `input_tokens` (without what was cached), `cache_read_input_tokens`, `cache_creation_input_tokens` |
| SGLang's /generate | `meta_info`: `prompt_tokens`, `completion_tokens`, `cached_tokens` |
| llama.cpp | `timings`, also beside `usage`: `prompt_n` (without what was cached), `predicted_n`, `cache_n` |

"""

from __future__ import annotations

from typing import Final

import msgspec


class Details(msgspec.Struct, gc=False):
    """What there is to say of the prompt's tokens."""

    cached_tokens: int | None = None


class Counts(msgspec.Struct, gc=False):
    """`usage` or `meta_info` of any API. Of other types they are none that we know."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Details | None = None
    cached_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class Timings(msgspec.Struct, gc=False):
    """`timings` of llama.cpp."""

    prompt_n: int
    predicted_n: int
    cache_n: int | None = None


COUNTS: Final = msgspec.json.Decoder(Counts)
TIMINGS: Final = msgspec.json.Decoder(Timings)
