"""The last bytes of an answer on its way through, by reference.

Owns `Tail`. May not live here: what is read out of it at the end (`usage`).
"""

from __future__ import annotations

from typing import Final

#: Bytes at the end of an answer in which something is looked for.
TAIL: Final = 4096
#: A piece below this size is put to the one before: `data: [DONE]` must not push out what came before it.
_SMALL: Final = 64


class Tail:
    """Fed with every piece of an answer, in any cut; keeps two of them (and the first, where asked for), at most
    `TAIL` bytes of each, and mostly copies nothing.

    Pieces may come with the framing of chunks around them: it stands between events, where it is in nobody's way.
    """

    __slots__ = ("_before", "_last", "_wants_first", "first")

    def __init__(self, wants_first: bool) -> None:
        self._wants_first = wants_first
        self._before = b""
        self._last = b""
        self.first = b""
        """The first piece: some streams tell at their beginning what others tell at their end."""

    def add(self, piece: bytes) -> None:
        """The next bytes of the answer."""
        if self._wants_first:
            self._wants_first = False
            self.first = piece[:TAIL]
        size = len(piece)
        if size < _SMALL and len(self._last) < TAIL:
            self._last += piece
            return
        self._before = self._last
        self._last = piece if size <= TAIL else piece[-TAIL:]

    def last(self) -> bytes:
        """The last bytes of the answer: its last two pieces, of each the end."""
        return self._before + self._last
