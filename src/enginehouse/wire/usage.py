"""How many tokens a request took, as the engine tells at the end of its answer.

Owns `Usage`, `usage` and finding the counts. Only the last few KB of an answer are looked at, once, when it is over:
nothing of a stream is parsed. May not live here: keeping these bytes (`tail`), what each API calls the counts
(`usage_shapes`), what follows from them (`policy.learning`).

Within the text of an answer these names cannot be: quotes are escaped there.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

from enginehouse.wire.usage_shapes import COUNTS, TIMINGS, Counts


class Usage(NamedTuple):
    """Tokens of one request."""

    prompt: int
    """Of the whole prompt, cached or not."""
    completion: int
    cached: int | None
    """How many of the prompt were found in the cache; None where the engine does not tell."""


#: The value of a member: an object with objects in it, but none in those.
_OBJECT: Final = re.compile(rb'"[a-z_]++"\s*+:\s*+(\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\})')
#: Streams may tell `"usage": null` after it, as often as this.
_LOOKS: Final = 3


def usage(last: bytes, first: bytes = b"") -> Usage | None:
    """The counts in the last bytes of an answer, and in the `first` of a stream of messages. None where there are none
    that can be trusted: it may have been cut."""
    try:
        found = _plain(last)
        if found is not None:
            return found
        return _any(last, first)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _plain(last: bytes) -> Usage | None:
    """The counts of nearly all: of a completion, written without blanks, with the cached ones among them; None else.

    It finds what `_any` would, in half of the time.
    """
    start = last.rfind(_USAGE) + _BEFORE
    if start < _BEFORE:
        return None
    end = last.find(b"}", start) + 1
    inner = last.find(b"{", start + 1, end)
    while inner >= 0 and end > 0:
        end = last.find(b"}", end) + 1
        inner = last.find(b"{", inner + 1, end)
    if end <= 0:
        return None
    counts = COUNTS.decode(last[start:end])
    prompt, details = counts.prompt_tokens, counts.prompt_tokens_details
    cached = details.cached_tokens if details is not None else counts.cached_tokens
    if prompt is None or (cached is None and last.find(_TIMINGS, end) >= 0):
        return None
    return _usage(prompt, counts.completion_tokens or 0, cached)


_USAGE: Final = b'"usage":{'
_BEFORE: Final = len(_USAGE) - 1
_TIMINGS: Final = b'"timings"'


def _any(last: bytes, first: bytes) -> Usage | None:
    found = _last_object(last, b'"usage"') or _last_object(last, b'"meta_info"')
    if found is None:
        timings = _last_object(last, _TIMINGS)
        return _timed(timings) if timings is not None else None
    told = _counted(COUNTS.decode(found[1]), first)
    if told is None or told.cached is not None:
        return told
    at = last.find(_TIMINGS, found.end())
    timings = _OBJECT.match(last, at) if at >= 0 else None
    timed = _timed(timings) if timings is not None else None
    return told if timed is None else told._replace(cached=timed.cached)


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


def _counted(counts: Counts, first: bytes) -> Usage | None:
    if counts.prompt_tokens is not None:
        details = counts.prompt_tokens_details
        cached = details.cached_tokens if details is not None else counts.cached_tokens
        return _usage(counts.prompt_tokens, counts.completion_tokens or 0, cached)
    output = counts.output_tokens or 0
    if counts.input_tokens is None and first:
        found = _last_object(first, b'"usage"')
        counts = COUNTS.decode(found[1]) if found is not None else counts
    taken, cached = counts.input_tokens, counts.cache_read_input_tokens
    if taken is None:
        return None
    if cached is not None:
        return _usage(taken + cached + (counts.cache_creation_input_tokens or 0), output, cached)
    details = counts.input_tokens_details
    return _usage(taken, output, details.cached_tokens if details is not None else None)


def _timed(found: re.Match[bytes]) -> Usage | None:
    timings = TIMINGS.decode(found[1])
    cached = timings.cache_n
    return _usage(timings.prompt_n + (cached or 0), timings.predicted_n, cached)


def _usage(prompt: int, completion: int, cached: int | None) -> Usage | None:
    """None for counts that cannot be."""
    possible = 0 <= (cached or 0) <= prompt <= _MOST and 0 <= completion <= _MOST
    return Usage(prompt, completion, cached) if possible else None


#: More tokens than any model takes.
_MOST: Final = 1 << 40
