"""Requests of this worker that are over, on their way to all who want to know of them.

Owns `Ended`: the list they are noted in, and handing it in batches to its takers. May not live here: what is told of a
request (`wire.access_line.Record`, put together by `log_entries`), what becomes of it (the takers).

Noting a request is one `append`, whoever listens: all other work is done in batches, at the beats of the worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from enginehouse.wire.access_line import Entry

#: So many are handed over at once, without waiting for a beat: more would keep the loop from others for too long.
BATCH: Final = 256


class Taker(Protocol):
    """Somebody who is told of every request that is over."""

    def take(self, entries: list[Entry], now: float) -> None:
        """Those since the last time, in the order in which they ended. The list is emptied afterwards and used again.

        `now`: monotonic seconds. Called at every beat, also without any, on the loop's thread: it may not wait.
        """


class Ended:
    """`takers` are told in this order. `report_bug` is told of one that fails, which costs neither requests nor others.

    One more taker is added with `ended.takers.append`, before the worker serves.
    """

    def __init__(self, takers: list[Taker], report_bug: Callable[[BaseException], None]) -> None:
        self.takers = takers
        self._report_bug = report_bug
        self._waiting: list[Entry] = []

    def add(self, entry: Entry, now: float) -> None:
        """A request is over. `now`: monotonic seconds."""
        self._waiting.append(entry)
        if len(self._waiting) >= BATCH:
            self.flush(now)

    def flush(self, now: float) -> None:
        """Hand over what there is. Called at every beat, and when the worker ends."""
        for taker in self.takers:
            try:
                taker.take(self._waiting, now)
            except Exception as error:
                self._report_bug(error)
        self._waiting.clear()
