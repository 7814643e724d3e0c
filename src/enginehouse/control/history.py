"""The last minutes of the whole house, for those who begin to look after something has happened.

Owns `History`: a row every few seconds, whoever watches, and the rhythm. May not live here: the sums (`measured`),
rates (`rates`), whom it is shown to (`live`).

A step reads the sums that workers report anyway: with a thousand busy services it takes 15 ms.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from enginehouse.control.measured import Measured
from enginehouse.control.publisher import Publisher
from enginehouse.control.rates import Window
from enginehouse.control.roster import Roster
from enginehouse.core.shared import Shared

#: Seconds between two rows, and rows that are kept: five minutes, as many as the page shows.
STEP: Final = 5.0
KEPT: Final = 60

log = logging.getLogger(__name__)


class History:
    """Of one house. `clock` gives monotonic seconds."""

    def __init__(
        self, measured: Measured, publisher: Publisher, roster: Roster, shared: Shared, clock: Callable[[], float]
    ) -> None:
        self._measured = measured
        self._publisher = publisher
        self._roster = roster
        self._shared = shared
        self._clock = clock
        self.window = Window(1)
        self._rows: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def step(self) -> None:
        """One row more. The first call only says from where on is counted.

        The sums are kept, so that to a control that takes over little of what was before it seems to happen now.
        """
        self._measured.keep()
        added = self.window.step(self._clock(), self._measured.sums)
        if added.seconds <= 0:
            return
        gauges = self._measured.gauges({worker for worker, _ in self._publisher.workers})
        self._rows.append(
            added.rates()
            | {
                "in_flight": sum(self._shared.load(entry.slot) for entry in self._roster.entries.values()),
                "waiting": sum(value for (name, _), value in gauges.items() if name == "queue_length"),
            }
        )

    def told(self) -> dict[str, Any]:
        """As the first object of the feed has it."""
        return {"step": STEP, "rows": list(self._rows)}

    async def keep(self) -> None:
        """Go on for ever."""
        while True:
            try:
                self.step()
            except Exception:  # a bug in telling must not end what serves
                log.exception("the history could not be worked out")
            await asyncio.sleep(STEP)
