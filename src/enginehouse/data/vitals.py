"""How a worker itself is at the moment, and counts of its parts that are metrics, too.

Owns the gauges that it tells control of, and how often. May not live here: what is measured of requests (`measures`);
gauges of services and processes, which control sees for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginehouse.core.metrics import OTHER, Series
from enginehouse.policy.line import model_of

if TYPE_CHECKING:
    from enginehouse.data.worker import Worker

#: Seconds between two looks. Idle connections need no request to come and go.
INTERVAL: Final = 1.0
#: Models whose lines are told apart.
MAX_LINES: Final = 256


class Vitals:
    """Of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._index = str(worker.index)
        self._looked_at = 0.0
        self._told: tuple[Series, ...] = ()
        self._news: tuple[Series, ...] = ()

    def look(self, now: float) -> bool:
        """Now and then see how things are; whether control is to be told of it. `now`: monotonic seconds."""
        if now - self._looked_at >= INTERVAL:
            self._looked_at = now
            found = self._gauges()
            self._news = found if found != self._told else ()
        return bool(self._news)

    def tell(self) -> tuple[Series, ...]:
        """The gauges; none, where they are as they were told."""
        news, self._news = self._news, ()
        self._told = news or self._told
        return news

    def _gauges(self) -> tuple[Series, ...]:
        worker, own = self._worker, (self._index,)
        lines: dict[str, int] = {}
        for name, line in worker.room.waiting.items():
            model = model_of(name) if len(lines) < MAX_LINES else OTHER
            lines[model] = lines.get(model, 0) + line.size
        return (
            ("connections", own, (len(worker.clients),)),
            ("idle_engine_connections", own, (worker.pool.idle_count(),)),
            *[("queue_length", (model,), (size,)) for model, size in lines.items()],
        )

    def forget_told(self) -> None:
        """Control knows nothing."""
        self._news = self._gauges()

    def count(self) -> None:
        """Put what other parts have counted among the measures."""
        worker = self._worker
        put, mended = worker.measures.plain.put, worker.mended
        put("retries_total", (), mended.repeated)
        put("failovers_total", (), mended.resumed)
        put("hedges_total", (), mended.hedged)
        put("access_log_dropped_total", (), worker.access_log.lost)
