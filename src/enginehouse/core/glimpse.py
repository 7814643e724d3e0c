"""What a worker shows of its requests while somebody watches: what is under way, and what has just ended.

Owns the shapes that cross from worker to control, and their bounds. Nothing of a prompt, an answer or a key is in them.
May not live here: gathering them (`data.glimpses`), showing them (`control.live`).
"""

from __future__ import annotations

from typing import Final

import msgspec

#: Requests under way that one glimpse tells of; more are only counted.
MAX_UNDER_WAY: Final = 256
#: Requests that ended since the last glimpse; the newest are told, the others only counted.
MAX_ENDED: Final = 64
#: Seconds between two glimpses of a worker.
GLIMPSE_INTERVAL: Final = 0.75

#: Where a request under way is: in a line for a service; its connection is made; the engine has it and has not answered
#: yet; its answer is passed on.
WAITING: Final = "waiting"
CONNECTING: Final = "connecting"
SENT: Final = "sent"
ANSWERING: Final = "answering"


class UnderWay(msgspec.Struct, frozen=True, array_like=True):
    """One request that is not over."""

    id: str
    model: str
    """The model asked for, aliases resolved; "" where none is named."""
    service: str
    """Who has it, or had it last; "" for nobody yet."""
    since: float
    """When it was there, monotonic seconds (the same clock in all processes of a host)."""
    stream: bool
    """Whether its answer is an event stream; False before the answer has begun."""
    phase: str


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """One request that is over."""

    id: str
    ended: float
    """Monotonic seconds."""
    model: str
    service: str
    status: int
    outcome: str
    termination: str
    seconds: float
    first_byte_seconds: float | None
    tokens_in: int | None
    tokens_out: int | None
    reason: str
    """Why its service was chosen; "" where none was."""


class Glimpse(msgspec.Struct, frozen=True, array_like=True):
    """What one worker shows."""

    under_way: tuple[UnderWay, ...] = ()
    ended: tuple[Ended, ...] = ()
    """Since the last glimpse, oldest first."""
    waiting: dict[str, int] = {}
    """Requests that wait, by model ("" where none is named)."""
