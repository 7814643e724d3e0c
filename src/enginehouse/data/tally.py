"""What a worker counts beside its services: how often it mended something.

Owns `Tally`. May not live here: counts of services (`counters`), showing them (control).
"""

from __future__ import annotations


class Tally:
    """Counts since the worker started."""

    __slots__ = ("resumed",)

    def __init__(self) -> None:
        self.resumed = 0
        """Streams that another service went on with."""
