"""What was passed on of a stream, kept so that another engine can go on with it when its own dies.

Owns: the kept pieces of one stream and the memory that all streams of a worker share for that. Pieces are the very
objects that were read: keeping one costs a place in a list, and they are parsed only when an engine has died.
May not live here: what is done with them (`driver`, `wire.resume`).
"""

from __future__ import annotations

from typing import Final

from enginehouse.core.units import KIB
from enginehouse.wire.one_chunk import data_start

#: Of one stream at most; DESIGN of the router: replay state apart, a stream takes 12 KiB. Bytes.
LONGEST: Final = 256 * KIB
#: Memory is taken in steps of this. Bytes.
_STEP: Final = 4 * KIB
#: What a piece takes beside its data: the object, its place in the list and its framing. Bytes.
_EACH: Final = 56


class ReplayMemory:
    """The memory of one worker for this, in bytes; `dropped` counts the streams that were not kept whole."""

    __slots__ = ("dropped", "free")

    def __init__(self, size: int) -> None:
        self.free = size
        self.dropped = 0


class Replay:
    """One stream as far as it was passed on, or nothing of it where it became too long."""

    __slots__ = ("_memory", "_pieces", "_room")

    def __init__(self, memory: ReplayMemory) -> None:
        self._memory = memory
        self._pieces: list[bytes | tuple[bytes]] | None = []
        self._room = 0

    def keep(self, piece: bytes | tuple[bytes], sent: int) -> None:
        """A chunk with its framing, or data without any in a tuple. `sent`: bytes of all data, it included."""
        pieces = self._pieces
        if pieces is not None:
            pieces.append(piece)
            size = sent + _EACH * len(pieces)
            if size > self._room:
                self._grow(size)

    def _grow(self, size: int) -> None:
        more = -(-(size - self._room) // _STEP) * _STEP
        if size > LONGEST or more > self._memory.free:
            self.drop()
            self._memory.dropped += 1
        else:
            self._room += more
            self._memory.free -= more

    def raw(self) -> bytes | None:
        """The stream without its framing; None where it was not kept."""
        if self._pieces is None:
            return None
        return b"".join([p[0] if isinstance(p, tuple) else p[data_start(p) : -2] for p in self._pieces])

    def drop(self) -> None:
        """It is not needed any more: give the memory back."""
        self._pieces = None
        self._memory.free += self._room
        self._room = 0
