"""What `enginehouse top` knows of the house: objects of the feed put together, and the last minute of a few numbers.

Owns `House`. May not live here: terminals, how anything looks (`top_screen`), the connection (`follow`).
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

#: Seconds of history: one value an object.
HISTORY: Final = 60
MOST_RECENT: Final = 200
MOST_EVENTS: Final = 200
#: States by how much they need somebody.
URGENT: Final = ("down", "ejected", "trial", "unknown", "withdrawn", "draining", "drained", "returning", "up")
#: States in which a service takes requests.
WELL: Final = ("up", "returning")

Row = dict[str, Any]


class House:
    """Everything the screen shows. `take` takes one object of the feed."""

    def __init__(self) -> None:
        self.head: Row = {}
        self.totals: Row = {}
        self.services: dict[str, Row] = {}
        self.models: list[Row] = []
        self.under_way: list[Row] = []
        self.recent: deque[Row] = deque(maxlen=MOST_RECENT)
        """The newest first, as `events`."""
        self.events: deque[Row] = deque(maxlen=MOST_EVENTS)
        self.rates: deque[float] = deque(maxlen=HISTORY)
        self.first_bytes: deque[float] = deque(maxlen=HISTORY)
        self.tokens: deque[float] = deque(maxlen=HISTORY)
        self.lost = ""
        """Why nothing comes just now, "" while it does."""

    def take(self, told: Row) -> None:
        """One object more."""
        self.lost = ""
        for row in [] if self.head else told["history"]["rows"]:
            self._note(row, round(told["history"]["step"]))
        self.head, self.totals = told, told["totals"]
        if told["full"]:
            self.services = {}
        self.services.update({row["name"]: row for row in told["services"]})
        self.models, self.under_way = told["models"], told["under_way"]
        known = {event["id"] for event in self.events}
        self.events.extendleft(event for event in told["events"] if event["id"] not in known)
        seen = {(each["id"], each["time"]) for each in self.recent}
        self.recent.extendleft(each for each in told["recent"] if (each["id"], each["time"]) not in seen)
        self._note(self.totals, 1)

    def _note(self, row: Row, seconds: int) -> None:
        """A row that holds for so many seconds."""
        self.rates.extend([row["rate"]] * seconds)
        self.tokens.extend([row["tokens_out_rate"]] * seconds)
        self.first_bytes.extend([(row["ttft"] or {}).get("p50") or 0.0] * seconds)

    @property
    def healthy(self) -> int:
        """Services that take requests."""
        return sum(row["state"] in WELL for row in self.services.values())

    def sorted(self, by: str) -> list[Row]:
        """The services in the order of a column."""
        rows = sorted(self.services.values(), key=lambda row: str(row["name"]))
        if by == "state":
            return sorted(rows, key=lambda row: URGENT.index(row["state"]) if row["state"] in URGENT else 3)
        if by == "load":
            return sorted(rows, key=lambda row: -row["in_flight"] / (row["capacity"] or 1_000_000))
        return rows if by == "name" else sorted(rows, key=lambda row: -row["rate"])
