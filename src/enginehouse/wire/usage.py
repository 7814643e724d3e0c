"""How many tokens a request took, as the engine tells at the end of its answer.

Owns `Usage` and `usage`, and with them what each API calls these counts. Only the last few KB of an answer are looked
at, once, when it is over: nothing of a stream is parsed. May not live here: keeping these bytes (`tail`), what follows
from the counts (`policy.learning`).

| API | where |
|---|---|
| completions, chat | `usage`: `prompt_tokens`, `completion_tokens`, `prompt_tokens_details.cached_tokens` |
| responses | `usage`: `input_tokens`, `output_tokens`, `input_tokens_details.cached_tokens` |
| messages | `usage` of `message_delta`, and for what it lacks of `message_start`: `output_tokens`, |
| | `input_tokens` (without what was cached), `cache_read_input_tokens`, `cache_creation_input_tokens` |
| SGLang's /generate | `meta_info`: `prompt_tokens`, `completion_tokens`, `cached_tokens` |
| llama.cpp | `timings`, also beside `usage`: `prompt_n` (without what was cached), `predicted_n`, `cache_n` |

Within the text of an answer these names cannot be: quotes are escaped there.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec


class Usage(NamedTuple):
    """Tokens of one request."""

    prompt: int
    """Of the whole prompt, cached or not."""
    completion: int
    cached: int | None
    """How many of the prompt were found in the cache; None where the engine does not tell."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Counts(msgspec.Struct):
    """`usage` or `meta_info` of any API. Of other types they are none that we know."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    cached_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Timings(msgspec.Struct):
    prompt_n: int
    predicted_n: int
    cache_n: int | None = None


_COUNTS: Final = msgspec.json.Decoder(_Counts)
_TIMINGS: Final = msgspec.json.Decoder(_Timings)
#: The value of a member: an object with objects in it, but none in those.
_OBJECT: Final = re.compile(rb'"[a-z_]++"\s*+:\s*+(\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\})')
#: Streams may tell `"usage": null` after it, as often as this.
_LOOKS: Final = 3


def usage(last: bytes, first: bytes = b"") -> Usage | None:
    """The counts in the last bytes of an answer, and in the `first` of a stream of messages. None where there are none
    that can be trusted: it may have been cut. Costs about 2 µs."""
    try:
        found = _last_object(last, b'"usage"') or _last_object(last, b'"meta_info"')
        if found is None:
            timings = _last_object(last, b'"timings"')
            return _timed(timings) if timings is not None else None
        told = _counted(_COUNTS.decode(found[1]), first)
        if told is None or told.cached is not None:
            return told
        at = last.find(b'"timings"', found.end())
        timings = _OBJECT.match(last, at) if at >= 0 else None
        timed = _timed(timings) if timings is not None else None
        return told if timed is None else told._replace(cached=timed.cached)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _last_object(data: bytes, name: bytes) -> re.Match[bytes] | None:
    """The last object that is the value of the member `name` (with quotes)."""
    end = len(data)
    for _ in range(_LOOKS):
        end = data.rfind(name, 0, end)
        if end < 0:
            break
        found = _OBJECT.match(data, end)
        if found is not None:
            return found
    return None


def _counted(counts: _Counts, first: bytes) -> Usage | None:
    if counts.prompt_tokens is not None:
        details = counts.prompt_tokens_details
        cached = details.cached_tokens if details is not None else counts.cached_tokens
        return _usage(counts.prompt_tokens, counts.completion_tokens or 0, cached)
    output = counts.output_tokens or 0
    if counts.input_tokens is None and first:
        found = _last_object(first, b'"usage"')
        counts = _COUNTS.decode(found[1]) if found is not None else counts
    taken, cached = counts.input_tokens, counts.cache_read_input_tokens
    if taken is None:
        return None
    if cached is not None:
        return _usage(taken + cached + (counts.cache_creation_input_tokens or 0), output, cached)
    details = counts.input_tokens_details
    return _usage(taken, output, details.cached_tokens if details is not None else None)


def _timed(found: re.Match[bytes]) -> Usage | None:
    timings = _TIMINGS.decode(found[1])
    cached = timings.cache_n
    return _usage(timings.prompt_n + (cached or 0), timings.predicted_n, cached)


def _usage(prompt: int, completion: int, cached: int | None) -> Usage | None:
    """None for counts that cannot be."""
    possible = 0 <= (cached or 0) <= prompt <= _MOST and 0 <= completion <= _MOST
    return Usage(prompt, completion, cached) if possible else None


#: More tokens than any model takes.
_MOST: Final = 1 << 40
