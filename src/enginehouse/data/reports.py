"""What control is told of a worker, and when.

Owns `Reports`: the rhythm, and putting a report together of what was counted, measured and seen. May not live here: the
connection (`control_link`), anything that is told (`counters`, `measures`, `vitals`, `glimpses`, `traces`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enginehouse.core.fleet import Report
from enginehouse.core.glimpse import Glimpse
from enginehouse.data.control_link import REPORT_INTERVAL, ControlLink
from enginehouse.data.glimpses import Glimpses
from enginehouse.data.vitals import Vitals

if TYPE_CHECKING:
    from enginehouse.data.worker import Worker

#: Services of which every sweep may report; with more of them reports are rarer.
FEW: Final = 250
#: Least time between two reports made because of failures. Seconds.
FAILURE_INTERVAL: Final = 0.05


class Reports:
    """Of one worker."""

    def __init__(self, worker: Worker, glimpses: Glimpses) -> None:
        self._worker = worker
        self._glimpses = glimpses
        self._vitals = Vitals(worker)
        self.link: ControlLink | None = None
        """Set while control is there."""
        self._sent_at = 0.0
        self._interval = 0.0

    def meet(self, link: ControlLink) -> None:
        """A connection to control was made; whoever is at its other end may know nothing."""
        worker = self._worker
        worker.measures.forget_told()
        self._vitals.forget_told()
        worker.counters.changed = True
        self.link = link

    def size(self, services: int) -> None:
        """So many services are told of: with a thousand, four reports a second cost as much as hundreds of requests."""
        self._interval = REPORT_INTERVAL * (services // FEW)

    def beat(self, now: float) -> None:
        """Report if there is anything new. Called with every sweep; `now`: monotonic seconds."""
        link = self.link
        if link is None:
            return
        worker = self._worker
        changed = self._vitals.look(now) or worker.counters.changed or (worker.traces is not None and worker.traces.any)
        if self._glimpses.due(now):
            self._sent_at = now
            link.report(self._glimpses.make(worker.clients, now))
        elif changed and now - self._sent_at >= self._interval:
            self._sent_at = now
            link.report()

    def hurry(self) -> None:
        """An attempt blamed its service: control hears of it now, not with the next beat."""
        now = self._worker.now()
        if self.link is not None and now - self._sent_at > FAILURE_INTERVAL:
            self._sent_at = now
            self.link.report()

    def make(self, glimpse: Glimpse | None = None) -> Report:
        """What is new, with `glimpse` if there is one. What is told here is not told again on this connection."""
        worker = self._worker
        self._vitals.count()
        mended, gauges = worker.mended.told(), self._vitals.tell()
        traced = worker.traces.told() if worker.traces is not None else b""
        return worker.counters.report(worker.epoch, worker.fleet_version, mended, glimpse, traced, gauges)
