"""The KV cache of a simulated engine: blocks that requests hold, and blocks kept in case they are asked for again.

Owns who holds what, what can be found again, and what is forgotten first. May not live here: time, or whose turn it is.

As in vLLM a block of tokens is known by a hash that stands for all tokens up to its end; blocks found are shared; a
block that nobody holds stays until its place is needed, the least recently used one going first and, of one request,
the last one before those that it follows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import takewhile


class Holding:
    """The blocks that one request holds: those others may find, by hash, and the number of all."""

    __slots__ = ("_table", "blocks", "hashes")

    def __init__(self, table: dict[int, int]) -> None:
        self.hashes: list[int] = []
        self.blocks = 0
        self._table = table

    @property
    def table(self) -> dict[int, int]:
        """Where its hashes are counted: that of another life if the cache was dropped since."""
        return self._table


class PrefixCache:
    """`capacity` blocks. At any time `used` are held and `len(idle)` are kept; never more than `capacity` together."""

    __slots__ = ("capacity", "idle", "table", "used")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self.table: dict[int, int] = {}
        """Hash → requests that hold the block; 0 for one that is only kept."""
        self.idle: OrderedDict[int, None] = OrderedDict()
        """Hashes of blocks that nobody holds, the least recently used one first."""

    @property
    def free(self) -> int:
        """Blocks that nobody holds, those kept included."""
        return self.capacity - self.used

    def found(self, hashes: Sequence[int], most: int) -> list[int]:
        """The leading hashes that are here, `most` at most."""
        return list(takewhile(self.table.__contains__, hashes[:most] if len(hashes) > most else hashes))

    def price(self, found: list[int], blocks: int) -> int:
        """Free blocks that it takes to hold `blocks` blocks, the first of them `found`."""
        table = self.table
        return blocks - len(found) + sum(1 for each in found if not table[each])

    def hold(self, found: list[int], blocks: int) -> Holding:
        """Hold `blocks` blocks for a request, the first of them `found`. There has to be room: see `price`."""
        table, idle = self.table, self.idle
        holding = Holding(table)
        revived = 0
        for each in found:
            holders = table[each]
            if not holders:
                del idle[each]
                revived += 1
            table[each] = holders + 1
        self.used += revived
        holding.hashes = found
        holding.blocks = blocks
        self.grow(blocks - len(found))
        return holding

    def grow(self, blocks: int) -> None:
        """So many more blocks are held, by whomever; what was kept in their place is forgotten."""
        self.used += blocks
        surplus = self.used + len(self.idle) - self.capacity
        for _ in range(surplus):
            del self.table[self.idle.popitem(last=False)[0]]

    def learn(self, holding: Holding, hashes: Sequence[int]) -> None:
        """These blocks of a request are computed: others may find them. One that is there already stays unshared."""
        table, held = self.table, holding.hashes
        if holding.table is not table:
            return
        for each in hashes:
            if each not in table:
                table[each] = 1
                held.append(each)

    def release(self, holding: Holding) -> None:
        """A request is gone. What it alone held is kept, the end of its text to be forgotten first."""
        table = holding.table
        current = table is self.table
        self.used -= holding.blocks - len(holding.hashes)
        for each in reversed(holding.hashes):
            holders = table[each] - 1
            table[each] = holders
            if not holders:
                self.used -= 1
                if current:
                    self.idle[each] = None
        holding.hashes = []
        holding.blocks = 0

    def drop(self) -> None:
        """Forget everything; what is held goes on being held, and nobody finds it any more."""
        self.table = {}
        self.idle.clear()
