"""The reference page of metrics, from their table.

Owns what the table does not say: what labels mean, and how the page is laid out. May not live here: any name or meaning
of a metric.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from enginehouse.core.metrics import METRICS, OTHER, Buckets, Metric

HEAD = f"""# Metrics

`GET /metrics` tells them in Prometheus' text format, or in OpenMetrics' where the request accepts
`application/openmetrics-text`. They are those of all workers together, pushed to control, so that a scrape waits for
nobody; they are a quarter of a second old, in houses of a thousand services a second. No restart of a worker or of
control makes a counter fall; all begin anew when the router as a whole does. [Read them](../how-to/metrics.md) with the
dashboard and the alerts that come with Enginehouse.

Labels are bounded, whatever clients send:

- `model`: the name after aliases; `{OTHER}` for one that the house never had, empty where a request names none.
- `service`: its name; empty where no service was found. A service that has left is told for five more minutes.
- `outcome`: how it ended, one of [these](errors.md#outcomes). `status`: `2xx`, `4xx` and so on, of what was sent to the
  client; `none` where nothing was.
- `state`: of a service, as in [its machine](machines.md). `worker`: a number from 0; `process`: `control`, or `worker-`
  and that number.
"""


def metrics_page() -> str:
    """All of them, counters first."""
    return "\n".join([HEAD, *_tables()]) + "\n"


_TITLES: Final = {"counter": "Counters", "histogram": "Histograms", "gauge": "Gauges"}


def _tables() -> Iterator[str]:
    for kind, title in _TITLES.items():
        last = " | buckets" if kind == "histogram" else ""
        yield f"## {title}\n\n| metric | labels | meaning{last} |\n|---|---|---|{'---|' if last else ''}"
        for metric in METRICS.values():
            if metric.kind == kind:
                yield _row(metric)
        yield ""


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    buckets = f" {_buckets(metric.buckets)} |" if metric.buckets is not None else ""
    return f"| `{metric.full_name}` | {labels} | {metric.help} |{buckets}"


def _buckets(buckets: Buckets) -> str:
    first, second, *_, last = [_time(bound) for bound in buckets.bounds]
    return f"{first}, {second}, … {last}"


def _time(seconds: float) -> str:
    """In the unit that makes it a plain number, exact."""
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1e3:g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:g} µs"
