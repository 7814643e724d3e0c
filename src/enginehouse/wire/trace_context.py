"""The W3C trace context of a request: what its client sent, and what the engine gets.

Owns reading and writing `traceparent` (https://www.w3.org/TR/trace-context/, level 2), and `Trace`, what is noted of a
traced request while it runs. May not live here: which requests are traced and where ids come from (`data.traces`), what
a span says (`span`).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

from enginehouse.core.outcome import Outcome
from enginehouse.wire.headers import TRACEPARENT, TRACESTATE
from enginehouse.wire.request_head import RequestHead

#: version "-" trace-id "-" parent-id "-" trace-flags; a version to come may go on after another "-".
_TRACEPARENT: Final = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 0x01
#: Sampled, and "the trace's id is random". The others are not defined, and are to be set to zero.
_KNOWN_FLAGS: Final = 0x03


class Context(NamedTuple):
    """A valid `traceparent`. Ids are in hexadecimal."""

    trace_id: bytes
    parent_id: bytes
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether its sender records its part of the trace."""
        return bool(self.flags & _SAMPLED)


class Try(NamedTuple):
    """One attempt of a request that is over. Times are monotonic seconds."""

    service: str
    outcome: Outcome
    sent: float
    """When the request was sent; 0.0 where no connection came about."""
    ended: float


class Trace(msgspec.Struct, array_like=True):
    """The span of one request: its ids, in hexadecimal, and what came to pass."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    """The client's span; empty where the trace begins here."""
    tries: list[Try] = []


def context_of(head: RequestHead) -> Context | None:
    """The context that a request came with; None where there is none, or more than one, or none that is valid."""
    found = [value for name, value in head.headers if name.lower() == TRACEPARENT.name]
    match = _TRACEPARENT.fullmatch(found[0]) if len(found) == 1 else None
    if match is None or (match[5] is not None and match[1] == b"00"):
        return None
    trace_id, parent_id = match[2], match[3]
    if not (trace_id.strip(b"0") and parent_id.strip(b"0")):
        return None
    return Context(trace_id, parent_id, int(match[4], 16))


def carrying(head: RequestHead, trace_id: bytes, span_id: bytes, flags: int, goes_on: bool) -> RequestHead:
    """The same head with this context, in the place of the client's where it had one.

    Unless the trace `goes_on`, its `tracestate` belonged to another one, or to none, and is left out (section 3.3).
    """
    ours = b"00-%b-%b-%02x" % (trace_id, span_id, flags & _KNOWN_FLAGS)
    headers: list[tuple[bytes, bytes]] = []
    placed = False
    for name, value in head.headers:
        lower = name.lower()
        if lower == TRACEPARENT.name:
            if not placed:
                headers.append((name, ours))
            placed = True
        elif goes_on or lower != TRACESTATE.name:
            headers.append((name, value))
    if not placed:
        headers.append((TRACEPARENT.name, ours))
    found = RequestHead(head.method, head.target, head.version, head.keep_alive, headers)
    found.route = head.route
    found.length = head.length
    return found
