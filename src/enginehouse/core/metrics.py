"""The metrics of the router: the one table of their names, kinds, labels and meanings.

Owns `METRICS` and the buckets of histograms. `/metrics`, the reference, and the checks of the dashboard and the alerts
read it. May not live here: measuring (`data.measures`), summing (`control.measured`), a format (`control.exposition`).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]

#: Before every name, so that nobody takes them for somebody else's.
PREFIX: Final = "enginehouse_"
#: The label `model` of requests for models that the house has never had: clients may invent as many as they like.
OTHER: Final = "_other"

Labels = tuple[str, ...]
Values = tuple[int | float, ...]
#: What a worker tells of one series: the metric's name in `METRICS`, the values of its labels in the order given there,
#: and a counter's or gauge's value as (value,), a histogram's as the counts in its buckets, the last one without bound,
#: and then their sum: all of them of the same kind of number, and all of them cumulative, but for gauges.
Series = tuple[str, Labels, Values]


class Buckets(NamedTuple):
    """Bounds of a histogram, each twice the one before."""

    first: float
    """Upper bound of the first bucket, in seconds."""
    bounded: int
    """Buckets that have a bound; one more has none."""

    @property
    def bounds(self) -> tuple[float, ...]:
        """Their upper bounds: exact, since doubling is."""
        return tuple(self.first * 2**number for number in range(self.bounded))


#: 10 ms to 82 s, as OpenTelemetry has it for the durations of generative models.
DURATIONS: Final = Buckets(0.01, 14)
#: The same, and smaller ones: embeddings take a millisecond.
FIRST_BYTES: Final = Buckets(0.01 / 16, 18)
#: 1 ms to 4.1 s: engines generate tokens every 5 to 100 ms, and a stall shows.
GAPS: Final = Buckets(0.001, 13)
#: 20 µs to 82 ms: what a router may add without anybody noticing, up to what everybody notices.
SMALL: Final = Buckets(0.00002, 13)


class Metric(NamedTuple):
    """One line of the table."""

    name: str
    """Without `PREFIX`."""
    kind: Kind
    labels: Labels
    help: str
    buckets: Buckets | None = None

    @property
    def full_name(self) -> str:
        """As it is exposed."""
        return PREFIX + self.name

    @property
    def size(self) -> int:
        """How many values a series of it has (see `Series`)."""
        return 1 if self.buckets is None else self.buckets.bounded + 2


_BY_SERVICE: Final = ("model", "service")

_TABLE: tuple[Metric, ...] = (
    # requests
    Metric(
        "requests_total",
        "counter",
        ("model", "service", "outcome", "status"),
        "Requests that are over, for engines; by how they ended, and the class of the status sent or none.",
    ),
    Metric(
        "own_requests_total",
        "counter",
        ("outcome", "status"),
        "Requests that are over, for the router's own paths, such as /health and /metrics.",
    ),
    Metric(
        "request_duration_seconds",
        "histogram",
        _BY_SERVICE,
        "From the whole request being there to the end of its answer, of requests that were sent to a service.",
        DURATIONS,
    ),
    Metric(
        "time_to_first_byte_seconds",
        "histogram",
        _BY_SERVICE,
        "From the whole request being there to the first byte of the engine's answer, waiting included; of an event "
        "stream to the first byte of its body, which comes with the first token.",
        FIRST_BYTES,
    ),
    Metric(
        "time_between_chunks_seconds",
        "histogram",
        _BY_SERVICE,
        "Between two reads that brought a part of a streamed answer.",
        GAPS,
    ),
    Metric(
        "queue_seconds", "histogram", ("model",), "How long requests waited for a service; most do not wait.", DURATIONS
    ),
    Metric(
        "overhead_seconds",
        "histogram",
        (),
        "What the router itself added before a request was sent to a service, waiting left out.",
        SMALL,
    ),
    Metric(
        "tokens_total",
        "counter",
        (*_BY_SERVICE, "kind"),
        "Tokens, where engines tell them: input (the whole prompt), output, and cached (the part of input that was "
        "found in the engine's cache).",
    ),
    Metric(
        "prefix_prompt_bytes_total",
        "counter",
        _BY_SERVICE,
        "Bytes of the prompts for which was looked who has their beginning in the cache (policy prefix).",
    ),
    Metric(
        "prefix_matched_bytes_total",
        "counter",
        _BY_SERVICE,
        "Those of them that were thought to be in the cache of the chosen service: their share is the hit share.",
    ),
    # what happened on the way
    Metric(
        "attempts_total",
        "counter",
        ("service", "outcome"),
        "Attempts at services that are over, by how they ended; a request may take several. Left out are those that a "
        "second one was quicker than, and connections that the engine had closed before.",
    ),
    Metric("retries_total", "counter", (), "Attempts after the first one of a request."),
    Metric("failovers_total", "counter", (), "Streams whose engine died and that another service went on with."),
    Metric("hedges_total", "counter", (), "Second attempts made because the first was slow (hedge_after)."),
    Metric(
        "cancellations_total",
        "counter",
        _BY_SERVICE,
        "Requests whose client left, or stopped reading, before the answer was complete.",
    ),
    Metric(
        "ejections_total",
        "counter",
        ("service",),
        "How often a service was taken out because requests failed there.",
    ),
    # the fleet, now
    Metric("in_flight", "gauge", ("service",), "Requests that a service is working on."),
    Metric(
        "capacity", "gauge", ("service",), "Requests at once that a service is given at most, where there is a limit."
    ),
    Metric(
        "prefill_tokens", "gauge", ("service",), "Tokens of prompts that a service still has to compute, as estimated."
    ),
    Metric("queue_length", "gauge", ("model",), "Requests that wait for a service."),
    Metric(
        "service_state",
        "gauge",
        ("service", "state"),
        "1 for the state that each service is in; the other states are not told.",
    ),
    Metric("service_healthy", "gauge", ("service",), "1 where a service may get requests, else 0."),
    Metric("model_services", "gauge", ("model",), "Healthy services of each model that the house has or had."),
    Metric("synced", "gauge", (), "1 once every source of services has answered, else 0."),
    # the router itself
    Metric("workers", "gauge", (), "Worker processes that are connected to control."),
    Metric("connections", "gauge", ("worker",), "Open connections of clients."),
    Metric("idle_engine_connections", "gauge", ("worker",), "Open connections to engines that no request uses."),
    Metric(
        "loop_lag_seconds",
        "histogram",
        ("worker",),
        "How late a worker's timer came that should come four times a second: everybody waited as long.",
        SMALL,
    ),
    Metric("resident_memory_bytes", "gauge", ("process",), "Resident memory of control and of each worker."),
    Metric("cpu_seconds_total", "counter", ("process",), "Processor seconds of control and of each worker."),
    Metric(
        "access_log_dropped_total",
        "counter",
        (),
        "Lines of the access log that came faster than they were written, and are lost.",
    ),
    Metric(
        "spans_total",
        "counter",
        ("result",),
        "Spans of requests that an OpenTelemetry collector took (exported) or did not take (failed), and those that "
        "there was no room for (dropped).",
    ),
    Metric("build_info", "gauge", ("version",), "Always 1; the version that runs."),
)

METRICS: Final[dict[str, Metric]] = {metric.name: metric for metric in _TABLE}
"""By name, in the order in which they are told."""
