"""Noticing what belongs in the journal though nobody says so: workers that are new, drains that are over.

Owns `Notices`. May not live here: the journal (`events`), what the roster tells of by itself.
"""

from __future__ import annotations

from collections.abc import Collection

from enginehouse.control.events import Journal, Kind
from enginehouse.control.roster import Entry
from enginehouse.core.fleet import Report
from enginehouse.core.shared import Shared
from enginehouse.machines.health import TOO_MANY


class Notices:
    """Writes to the journal. The first that it writes is that control was started."""

    def __init__(self, journal: Journal, shared: Shared, now: float, wall_ns: int) -> None:
        """`now`: monotonic seconds; `wall_ns`: Unix nanoseconds."""
        first = not shared.watched[0]  # memory that no control has written to
        shared.watched[0] = now
        self._journal = journal
        self._began = 0 if first else wall_ns
        """Workers from before are not new, though this control hears of them for the first time."""
        self._epochs: dict[int, int] = {}
        self._drained: set[Entry] = set()
        journal.add(Kind.CONTROL_STARTED, "", "" if first else "in place of one before it")

    def worker(self, report: Report) -> None:
        """A worker reports. Its epoch is when it started, in Unix nanoseconds."""
        before = self._epochs.get(report.worker)
        if before == report.epoch:
            return
        self._epochs[report.worker] = report.epoch
        if before is not None:
            self._journal.add(Kind.WORKER_RESTARTED, "", f"worker {report.worker}")
        elif report.epoch > self._began:
            self._journal.add(Kind.WORKER_STARTED, "", f"worker {report.worker}")

    def ejected(self, entry: Entry, seconds: float) -> None:
        """It gets no requests for so long; also where it was ejected already, for less."""
        self._journal.add(Kind.EJECTED, entry.name, f"{TOO_MANY}; for {seconds:.0f} s")

    def drained(self, entries: Collection[Entry]) -> None:
        """Nothing is in flight on these, and they get nothing more."""
        for entry in entries:
            if entry not in self._drained:
                self._journal.add(Kind.DRAINED, entry.name, "nothing is in flight on it")
        self._drained = set(entries)
