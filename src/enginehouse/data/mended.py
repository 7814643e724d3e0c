"""What a worker counts beside its services: how often it did something so that clients did not see a failure.

Owns `Mended`. May not live here: counts of services (`counters`), summing over workers and showing (control).
"""

from __future__ import annotations


class Mended:
    """Counts of requests since the worker started."""

    __slots__ = ("hedged", "late", "repeated", "resumed", "turned_away", "waited")

    def __init__(self) -> None:
        self.repeated = 0
        """Attempts after the first."""
        self.resumed = 0
        """Streams that another service went on with."""
        self.hedged = 0
        """Second attempts made because the first was slow."""
        self.waited = 0
        """Requests that waited for a service."""
        self.turned_away = 0
        """Those that found the line full."""
        self.late = 0
        """Those that waited in vain."""

    def told(self) -> dict[str, int]:
        """By name."""
        return {
            "repeated": self.repeated,
            "resumed": self.resumed,
            "hedged": self.hedged,
            "waited": self.waited,
            "turned_away": self.turned_away,
            "late": self.late,
        }
