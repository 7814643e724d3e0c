"""Spans of the requests of a worker, from the request's head to control, which exports them.

Owns: whether a request is traced, its ids, and what waits for the next report (bounded; what does not fit is dropped
and counted). May not live here: the form of a trace context (`wire.trace_context`), what a span says (`wire.span`),
exporting (`control.traces`). Nothing of this exists where traces are off, and no request pays for it.

Spans are exported by control, not by a thread of each worker: making one and encoding it costs 50 µs of Python, for
which the requests of a worker would have to wait.
"""

from __future__ import annotations

import random
from typing import Final, cast

from enginehouse.core.config.router import RouterConfig
from enginehouse.data.request import Request
from enginehouse.wire.access_line import KEY, TRACE, Entry
from enginehouse.wire.span import Batch, encode_batch
from enginehouse.wire.trace_context import Trace, carrying, context_of

#: Requests that wait for a report; a worker makes four a second, and more while control is away.
MAX_WAITING: Final = 4096
_SAMPLED: Final = 1
_ID: Final = (1 << 64) - 1


class Traces:
    """Of one worker. Ids need be unique, not secret: `rng` is seeded by the system."""

    def __init__(self, config: RouterConfig, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()  # noqa: S311
        self._sampled_below = round(config.trace_sample * (_ID + 1))
        self._waiting: list[Entry] = []
        self._dropped = 0

    def begin(self, request: Request) -> None:
        """A request that goes to an engine: trace it if its client does, or by chance where it says nothing.

        The engine is told of our span as its parent, in a head of its own: the client's may be that of others, too.
        """
        context = context_of(request.head)
        if context is not None:
            if context.sampled:
                span_id = self._span_id()
                request.head = carrying(request.head, context.trace_id, span_id, context.flags, True)
                request.trace = Trace(context.trace_id, span_id, context.parent_id)
            return  # else as it came: we record nothing that the engine's span could belong to
        number = self._rng.getrandbits(128) or 1
        trace_id, span_id = b"%032x" % number, self._span_id()
        # As OpenTelemetry's TraceIdRatioBased: by the id, so that all who see it would decide alike.
        sampled = number & _ID < self._sampled_below
        request.head = carrying(request.head, trace_id, span_id, _SAMPLED if sampled else 0, False)
        if sampled:
            request.trace = Trace(trace_id, span_id, b"")

    def _span_id(self) -> bytes:
        return b"%016x" % (self._rng.getrandbits(64) or 1)

    def take(self, entries: list[Entry], now: float) -> None:
        """Keep those that are traced for the next report (see `ended.Taker`)."""
        traced = [entry for entry in entries if entry[TRACE] is not None]
        fitting = traced[: MAX_WAITING - len(self._waiting)]
        # A key is a secret, and control needs none.
        self._waiting += [cast("Entry", (*entry[:KEY], b"", *entry[KEY + 1 :])) for entry in fitting]
        self._dropped += len(traced) - len(fitting)

    @property
    def any(self) -> bool:
        """Is there something to report?"""
        return bool(self._waiting)

    def told(self) -> bytes:
        """What waited, for control; it waits no longer. Empty where there is nothing."""
        if not self._waiting:
            return b""
        batch, self._waiting, self._dropped = Batch(self._dropped, self._waiting), [], 0
        return encode_batch(batch)
