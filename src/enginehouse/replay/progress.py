"""How a replay goes on while it runs: one line on a terminal, written over and over.

Owns that line. May not live here: the report (`table`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from time import perf_counter
from typing import Final, TextIO

from enginehouse.replay.call import Call, Ending
from enginehouse.replay.figures import percentile, ttft
from enginehouse.replay.player import Player
from enginehouse.replay.table import seconds

EVERY: Final = 0.5
"""Seconds between two lines."""
RECENT: Final = 100
"""Answers over which the time to the first token is told."""
BAR: Final = 24


class Progress:
    """Writes the line until it is closed. Made in a running loop."""

    def __init__(self, player: Player, out: TextIO, time_scale: float) -> None:
        self._player = player
        self._out = out
        self._scale = time_scale
        self._planned = player.trace.requests
        self._seen = 0
        self._waiting: list[Call] = []
        self._endings: Counter[Ending] = Counter()
        self._recent: list[float] = []
        self._timer = asyncio.get_running_loop().call_soon(self._write)

    def close(self) -> None:
        """Write nothing more, and leave an empty line."""
        self._timer.cancel()
        self._out.write("\r\x1b[K")
        self._out.flush()

    def line(self) -> str:
        """What there is to say now."""
        self._count()
        done = self._endings.total()
        failed = done - self._endings[Ending.ANSWERED]
        filled = BAR * done // max(self._planned, 1)
        now = max(0.0, perf_counter() - self._player.began) * self._scale
        parts = [
            f"{'━' * filled}{'╺' * (BAR - filled)} {now:.0f} s",
            f"{len(self._player.calls)} of {self._planned} asked",
            f"{self._player.in_flight} in flight",
            f"{self._endings[Ending.ANSWERED]} answered",
        ]
        if failed:
            parts.append(f"{failed} failed")
        if self._recent:
            parts.append(f"first token {seconds(percentile(sorted(self._recent), 0.5) * self._scale)}")
        return " · ".join(parts)

    def _write(self) -> None:
        self._out.write(f"\r\x1b[K{self.line()}")
        self._out.flush()
        self._timer = asyncio.get_running_loop().call_later(EVERY, self._write)

    def _count(self) -> None:
        """Look at the calls that are new, and at those that still ran the last time: never at all of them."""
        calls = self._player.calls
        running = [*self._waiting, *calls[self._seen :]]
        self._seen = len(calls)
        self._waiting = [call for call in running if not call.end]
        for call in running:
            if call.end:
                self._endings[call.ending] += 1
                if call.ending is Ending.ANSWERED:
                    self._recent.append(ttft(call))
        del self._recent[:-RECENT]
