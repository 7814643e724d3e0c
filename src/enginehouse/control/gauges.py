"""Everything that `/metrics` tells: the workers' sums, and with them how the fleet and the processes are right now.

Owns `Gauges`, which reads that off when it is asked. Nobody is waited for: the workers have pushed what they know, the
rest stands in the shared memory. May not live here: a format (`exposition`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from enginehouse import __version__
from enginehouse.control.exposition import Samples
from enginehouse.control.measured import Measured
from enginehouse.control.process_stats import taken
from enginehouse.control.publisher import Publisher
from enginehouse.control.roster import Roster
from enginehouse.control.views import Views
from enginehouse.core.metrics import Labels, Values
from enginehouse.core.shared import Shared


class Gauges:
    """Of one router. `spans()`: how many were traced, by what became of them; nothing where traces are off."""

    def __init__(
        self,
        roster: Roster,
        views: Views,
        measured: Measured,
        publisher: Publisher,
        shared: Shared,
        spans: Callable[[], Mapping[str, int]],
    ) -> None:
        self._roster = roster
        self._views = views
        self._measured = measured
        self._publisher = publisher
        self._shared = shared
        self._spans = spans

    def samples(self) -> Samples:
        """All metrics. What has been shown stays, whatever happens to this process."""
        self._measured.keep()
        found: dict[str, dict[Labels, Values]] = {name: dict(sums) for name, sums in self._measured.sums.items()}

        def put(name: str, labels: Labels, value: float) -> None:
            found.setdefault(name, {})[labels] = (value,)

        workers = {worker for worker, _ in self._publisher.workers}
        for (name, labels), value in self._measured.gauges(workers).items():
            put(name, labels, value)
        serving = dict.fromkeys(self._roster.known_models(), 0)
        for entry in self._roster.entries.values():
            own, healthy = (entry.name,), self._views.is_healthy(entry)
            put("in_flight", own, self._shared.load(entry.slot))
            put("prefill_tokens", own, self._shared.queued_tokens(entry.slot))
            put("service_healthy", own, int(healthy))
            put("service_state", (entry.name, self._views.state(entry)[0].value), 1)
            if (capacity := self._views.capacity(entry)) is not None:
                put("capacity", own, capacity)
            if healthy:
                for model in entry.models:
                    serving[model] = serving.get(model, 0) + 1
        for model, count in serving.items():
            put("model_services", (model,), count)
            found.setdefault("queue_length", {}).setdefault((model,), (0,))
        put("synced", (), int(self._roster.synced))
        put("workers", (), len(workers))
        for result, count in self._spans().items():
            put("spans_total", (result,), count)
        put("build_info", (__version__,), 1)
        pids = {"control": os.getpid(), **{f"worker-{worker}": self._measured.pid(worker) for worker in workers}}
        for process, pid in pids.items():
            if (stats := taken(pid)) is not None:
                put("resident_memory_bytes", (process,), stats.resident_bytes)
                put("cpu_seconds_total", (process,), stats.cpu_seconds)
        return found
