"""Server-sent events in passing: is the stream between two events, has its last one come, which id did it name?

Owns `Scanner`, `begins_output`, `whole_events` and `find_id`. Chunks are looked at in passing and passed on untouched:
no events are built.
May not live here: events of our own (`errors.stream_break`).
"""

from __future__ import annotations

import re

_TAIL = 64
#: A chunk of this size holds a whole tail, whatever its framing (a size line has four digits at most, see `one_chunk`).
_WHOLE_TAIL = _TAIL + 8
_BLANK_LINE = (b"\n\n", b"\r\r", b"\n\r\n", b"\n\r", b"\r\r\n")
#: The end of a stream: chat completions, messages (both short, so that they stand in the tail), responses (whose last
#: event holds the whole answer: its name is looked for as it passes).
_LAST = re.compile(rb"data: ?\[DONE\]\s*\Z|\"type\": ?\"message_stop\"\s*\}\s*\Z|event: ?message_stop[\r\n]")
_RESPONSES_LAST = re.compile(
    rb"event: ?response\.(?:completed|failed|incomplete)[\r\n]|\"type\": ?\"response\.(?:completed|failed|incomplete)\""
)
_MARK = b"response."


class Scanner:
    """Fed with every chunk of a stream; answers when asked. Keeps 64 bytes, or the last chunk.

    `named`: the stream's last event is known by its name (the Responses API), which is looked for in passing.
    """

    __slots__ = ("_chunk", "_last_named", "_named", "_start", "_tail")

    def __init__(self, named: bool) -> None:
        self._tail = b""
        self._chunk = b""
        self._start = 0
        self._named = named
        self._last_named = False

    def feed_chunk(self, chunk: bytes, start: int) -> None:
        """A chunk with its framing: the bytes of the stream are `chunk[start:-2]`."""
        if self._named or len(chunk) < _WHOLE_TAIL:
            self.feed(chunk[start:-2])
        else:
            # Longer than a tail: nothing before it matters, and the next one will make it not matter either.
            self._chunk, self._start = chunk, start

    def feed(self, data: bytes) -> None:
        """Some bytes of the stream, cut anywhere."""
        tail = self._settle()
        if self._named and not self._last_named:
            seen = tail + data
            self._last_named = _MARK in seen and _RESPONSES_LAST.search(seen) is not None
        self._tail = data[-_TAIL:] if len(data) >= _TAIL else (tail + data)[-_TAIL:]

    def _settle(self) -> bytes:
        """The last bytes of the stream."""
        if self._chunk:
            self._tail = self._chunk[self._start : -2][-_TAIL:]
            self._chunk = b""
        return self._tail

    @property
    def at_boundary(self) -> bool:
        """Between two events (or before the first): an event of our own can be put here."""
        tail = self._settle()
        return not tail or tail.endswith(_BLANK_LINE)

    @property
    def finished(self) -> bool:
        """The event after which nothing comes has been seen whole."""
        return (self._last_named and self.at_boundary) or _LAST.search(self._settle()) is not None


_OUTPUT = re.compile(rb"response\.(?:output|content_part|completed|failed|incomplete)|\.delta")


def begins_output(data: bytes, named: bool) -> bool:
    """Do these first bytes of a stream hold any of what the model wrote, so that it has read its prompt?

    Comments are sent while one waits, and by the Responses API (`named`) events that the response was created.
    """
    return not data.startswith(b":") and (not named or _OUTPUT.search(data) is not None)


#: A beginning of an event that grows longer than this is passed on as it is.
_LONGEST_HALF = 16 * 1024
_AT_END = (b"\n\n", b"\r\n\r\n", b"[DONE]", b"[DONE]\n")


def whole_events(data: bytes) -> int:
    """How many bytes of `data` can be passed on so that what was passed on ends between two events.

    Behind half an event nothing of ours could be said, and no other engine could go on.
    """
    if data.endswith(_AT_END):
        return len(data)
    end, other = data.rfind(b"\n\n"), data.rfind(b"\r\n\r\n")
    end = max(end + 2 if end >= 0 else 0, other + 4 if other >= 0 else 0)
    return end if len(data) - end <= _LONGEST_HALF else len(data)


_ID = re.compile(rb'"id"\s*:\s*"((?:resp|video|vid|stream)[_-][^"\\]{1,120})"')
_ANY_ID = re.compile(rb'"id"\s*:\s*"([^"\\]{1,128})"')


def find_id(prefix: bytes) -> str | None:
    """The id that an engine gave to a response or a video, in the first bytes of its answer (JSON or events)."""
    found = _ID.search(prefix) or _ANY_ID.search(prefix)
    return found[1].decode("utf-8", "replace") if found else None
