"""The workers' metrics, summed over all of them and over everybody's deaths.

Owns `Measured`: sums of counters and histograms, the newest gauges of each worker, forgetting services that are gone,
and keeping the sums in memory that outlives this process. May not live here: what is measured (`data.measures`), the
transport (`publisher`), a format (`exposition`).

Workers tell cumulative values, so a lost report loses nothing, and what one adds is what it tells less what it told
before. What was shown once is kept before it is shown: a control that is restarted goes on with these sums, and no
counter ever falls, which Prometheus would take for a new beginning and count everything twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import msgspec

from enginehouse.core.fleet import Report
from enginehouse.core.metrics import METRICS, Labels, Series, Values

#: Seconds that a service's sums are shown after it has left, so that a scrape gets the last of them, too.
KEEP = 300.0

log = logging.getLogger(__name__)

Key = tuple[str, Labels]


class _Told(msgspec.Struct, array_like=True):
    """What one worker process has told so far."""

    epoch: int
    values: dict[Key, Values] = {}


class _State(msgspec.Struct, array_like=True):
    """All that has to outlive this process."""

    sums: dict[str, dict[Labels, Values]]
    told: dict[int, _Told]


class Measured:
    """`recall()` gives what `keep(state)` was given last, b"" for nothing."""

    def __init__(
        self, keep: Callable[[bytes], object] = lambda _: None, recall: Callable[[], bytes] = lambda: b""
    ) -> None:
        self._keep = keep
        self._recall = recall
        self._state = _State(sums={}, told={})
        self._gauges: dict[int, tuple[Series, ...]] = {}
        self._pids: dict[int, int] = {}
        self._missing: dict[str, float] = {}
        self._changed = False

    def recall(self) -> None:
        """Go on where the control before this one was. To be called before a worker tells anything."""
        if known := self._recall():
            try:
                self._state = msgspec.msgpack.decode(known, type=_State)
            except (ValueError, msgspec.DecodeError) as error:
                log.warning("the metrics begin anew: %s", error)

    @property
    def sums(self) -> dict[str, dict[Labels, Values]]:
        """Counters and histograms by name and labels: values as in `core.metrics.Series`. Not to be changed."""
        return self._state.sums

    def add(self, report: Report) -> None:
        """Take what a worker tells."""
        told = self._state.told.get(report.worker)
        if told is None or told.epoch != report.epoch:
            told = self._state.told[report.worker] = _Told(report.epoch)
        for name, labels, values in report.measures:
            metric = METRICS.get(name)
            if metric is None or len(values) != metric.size or len(labels) != len(metric.labels):
                continue  # of another version of the worker
            self._add(name, labels, values, told.values.get((name, labels)))
            told.values[name, labels] = values
        self._pids[report.worker] = report.pid
        if report.gauges:
            self._gauges[report.worker] = report.gauges

    def _add(self, name: str, labels: Labels, values: Values, before: Values | None) -> None:
        if values == before:
            return
        self._changed = True
        if before is not None and all(new >= old for new, old in zip(values, before, strict=True)):
            values = tuple([new - old for new, old in zip(values, before, strict=True)])
        sums = self._state.sums.setdefault(name, {})
        known = sums.get(labels)
        sums[labels] = values if known is None else tuple([a + b for a, b in zip(known, values, strict=True)])

    def gauges(self, workers: Collection[int]) -> dict[Key, float]:
        """The gauges that these workers told, summed where their labels are the same."""
        found: dict[Key, float] = {}
        for worker in workers:
            for name, labels, values in self._gauges.get(worker, ()):
                if name in METRICS:
                    found[name, labels] = found.get((name, labels), 0) + values[0]
        return found

    def pid(self, worker: int) -> int:
        """Of the process that is this worker, 0 where it has not told."""
        return self._pids.get(worker, 0)

    def forget_except(self, services: Collection[str], now: float) -> None:
        """Forget what concerns services that are none any more, a while later. `now`: monotonic seconds."""
        named = {labels[at] for name, at in _SERVICE_AT for labels in self._state.sums.get(name, ())}
        missing = named.difference(services, ("",))
        self._missing = {name: self._missing.get(name, now) for name in missing}
        gone = {name for name, since in self._missing.items() if now - since >= KEEP}
        if not gone:
            return
        self._changed = True
        for name, at in _SERVICE_AT:
            if (sums := self._state.sums.get(name)) is not None:
                for labels in [labels for labels in sums if labels[at] in gone]:
                    del sums[labels]
        for told in self._state.told.values():
            for name, labels in [key for key in told.values if key[0] in _AT and key[1][_AT[key[0]]] in gone]:
                del told.values[name, labels]

    def keep(self) -> None:
        """To be called before the sums are shown to anybody."""
        if self._changed:
            self._changed = False
            self._keep(msgspec.msgpack.encode(self._state))


#: Where the label `service` stands, of each metric that workers tell and that has it.
_AT = {
    name: metric.labels.index("service")
    for name, metric in METRICS.items()
    if metric.kind != "gauge" and "service" in metric.labels
}
_SERVICE_AT = tuple(_AT.items())
