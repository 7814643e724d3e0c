"""Spans of requests on their way to an OpenTelemetry collector, over OTLP/HTTP.

Owns the thread that makes spans of what the workers sent and exports them, what waits for it (bounded; what does not
fit is dropped and counted), and telling once that a collector does not take them. May not live here: which requests are
traced (`data.traces`), what a span says (`wire.span`).

OpenTelemetry's own exporter does the sending: it retries what a collector says may be retried, for 10 s a batch, and
reads the usual `OTEL_EXPORTER_OTLP_*` variables (certificate, compression, timeout). It is an extra of the package.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from enginehouse import __version__
from enginehouse.wire.access_line import Record
from enginehouse.wire.span import ATTEMPT, attributes_of, attributes_of_try, decode_batch, error_type, name_of

Address = tuple[str, int]
#: Spans that wait to be exported; with more, those that came last are dropped.
MAX_WAITING: Final = 8192
#: Spans in one request to the collector.
BATCH: Final = 512
#: Seconds for which spans are collected before they are sent.
DELAY: Final = 0.5
#: Seconds that `close` waits for what has not been sent.
CLOSE: Final = 2.0
TRACES_PATH: Final = "/v1/traces"

log = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    record: Record
    address: Address | None
    offset: float
    """Seconds from monotonic to Unix time."""


class Traces:
    """`endpoint`: the collector's URL, with or without `/v1/traces`. `headers` go with every batch.

    `timeout`: seconds for which one batch is tried; None for the exporter's own, 10. `tell` takes messages for people.
    All methods are for the thread of the event loop, and none of them waits, except for `close`.
    """

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        *,
        timeout: float | None = None,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        base = endpoint.rstrip("/")
        url = base if base.endswith(TRACES_PATH) else base + TRACES_PATH
        self._exporter = OTLPSpanExporter(endpoint=url, headers=dict(headers), timeout=timeout)
        ours = Resource({SERVICE_NAME: "enginehouse", SERVICE_VERSION: __version__})
        self._resource = ours.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
        self._scope = InstrumentationScope("enginehouse", __version__)
        self._told = _Told()
        self._tell = tell
        self._failing = False
        self.exported = 0
        self.dropped = 0
        """For want of room, here or in a worker."""
        self.failed = 0
        """Not taken by the collector."""
        self._changed = threading.Condition()
        self._spans: deque[_Waiting] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def take(self, batch: bytes, address: Callable[[str], Address | None]) -> None:
        """What a worker sent. `address(service)`: where it is, None where it is gone."""
        dropped, records = decode_batch(batch)
        offset = time.time() - time.monotonic()
        with self._changed:
            room = MAX_WAITING - len(self._spans)
            self.dropped += dropped + max(0, len(records) - room)
            self._spans += [_Waiting(record, address(record.service), offset) for record in records[:room]]
            if len(self._spans) >= BATCH:
                self._changed.notify()

    def results(self) -> dict[str, int]:
        """How many spans there were, by what became of them."""
        return {"exported": self.exported, "failed": self.failed, "dropped": self.dropped}

    def close(self, timeout: float = CLOSE) -> None:
        """Send what waits, for at most `timeout` seconds. Blocks."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]
        self._thread.join(1.0)
        self._told.close()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._next():
            spans = [self._span(waiting) for waiting in batch]
            taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
            if taken:
                self.exported += len(spans)
            else:
                self.failed += len(spans)
            if taken is self._failing:
                self._failing = not taken
                self._tell(
                    "traces: exported again" if taken else f"traces: {self._told.last}; spans are lost meanwhile"
                )

    def _next(self) -> list[_Waiting]:
        """The next batch; none at the end."""
        with self._changed:
            while not self._closing and len(self._spans) < BATCH:
                if not self._changed.wait(DELAY) and self._spans:
                    break
            return [self._spans.popleft() for _ in range(min(BATCH, len(self._spans)))]

    def _span(self, waiting: _Waiting) -> ReadableSpan:
        record, address, offset = waiting
        trace = record.trace
        assert trace is not None
        trace_id = int(trace.trace_id, 16)
        error = error_type(record)
        return ReadableSpan(
            name=name_of(record),
            context=SpanContext(trace_id, int(trace.span_id, 16), False, _SAMPLED),
            parent=SpanContext(trace_id, int(trace.parent_id, 16), True, _SAMPLED) if trace.parent_id else None,
            resource=self._resource,
            attributes=attributes_of(record, address),
            events=[Event(ATTEMPT, attributes_of_try(each), _ns(each.ended + offset)) for each in trace.tries],
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.ERROR) if error else Status(),
            start_time=_ns(record.begun + offset),
            end_time=_ns(record.ended + offset),
            instrumentation_scope=self._scope,
        )


class _Told(logging.Handler):
    """What the exporter logs of a failure, every time: we tell it once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = "the collector does not take them"
        self._logger = logging.getLogger("opentelemetry")
        self._before = self._logger.propagate
        self._logger.addHandler(self)
        self._logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.last = record.getMessage()

    def close(self) -> None:
        """Leave logging as it was."""
        self._logger.removeHandler(self)
        self._logger.propagate = self._before
        super().close()


_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
