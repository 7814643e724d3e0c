"""`/metrics` in the formats that Prometheus reads: its own text format, and OpenMetrics for who asks for it.

Owns the two formats and choosing between them. May not live here: what is told (`gauges`, `measured`), names and
meanings (`core.metrics`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from enginehouse.core.metrics import METRICS, Labels, Metric, Values

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Samples = Mapping[str, Mapping[Labels, Values]]
"""By the metric's name in `METRICS` and the values of its labels."""


def format_for(accept: str) -> str:
    """The content type for a request with this Accept header: OpenMetrics where it is named at all."""
    return OPENMETRICS if "application/openmetrics-text" in accept else TEXT


def expose(samples: Samples, content_type: str) -> Iterator[str]:
    """The page in pieces, one for each metric of which there is something to tell, in the order of the table."""
    is_open = content_type == OPENMETRICS
    for metric in METRICS.values():
        if found := samples.get(metric.name):
            yield "".join(_family(metric, found, is_open))
    if is_open:
        yield "# EOF\n"


def _family(metric: Metric, found: Mapping[Labels, Values], is_open: bool) -> Iterator[str]:
    name = metric.full_name
    family = name.removesuffix("_total") if is_open else name
    yield f"# HELP {family} {_escaped(metric.help) if is_open else metric.help}\n# TYPE {family} {metric.kind}\n"
    if is_open and (unit := unit_of(family)):
        yield f"# UNIT {family} {unit}\n"
    if metric.buckets is None:
        for labels, (value,) in sorted(found.items()):
            yield f"{name}{_braces(_pairs(metric, labels))} {_number(value)}\n"
        return
    bounds = [f'le="{bound!r}"' for bound in metric.buckets.bounds] + ['le="+Inf"']
    for labels, values in sorted(found.items()):
        pairs = _pairs(metric, labels)
        before = f"{name}_bucket{{{pairs}," if pairs else f"{name}_bucket{{"
        count: int | float = 0
        for bound, in_bucket in zip(bounds, values, strict=False):
            count += in_bucket
            yield f"{before}{bound}}} {count}\n"
        yield f"{name}_count{_braces(pairs)} {count}\n{name}_sum{_braces(pairs)} {_number(values[-1])}\n"


def unit_of(family: str) -> str:
    """The unit that a name ends in, "" for none."""
    return next((unit for unit in ("seconds", "bytes", "tokens") if family.endswith("_" + unit)), "")


def _pairs(metric: Metric, labels: Labels) -> str:
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in zip(metric.labels, labels, strict=True)])


def _braces(pairs: str) -> str:
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    """As short as it is exact; floats never without a point or an exponent."""
    return repr(value)
