"""The answers that an engine writes: each grows by a token in every step, so many steps are one sum.

Owns how many they are, what they read and which blocks they will need, and the agenda of what is to be told after which
step. May not live here: time, the cache, requests that are not yet or no longer growing.

Nothing is counted per step and answer. An answer knows the step at which it joined; the rest follows.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from enginehouse.sim.batched import Request

COMPACT_AFTER = 1024
"""Forgotten entries of the agenda after which it is tidied up."""


class Growing:
    """All answers that are being written, in blocks of `size` tokens."""

    __slots__ = ("_agenda", "_entries", "_forgotten", "_needy", "context", "count", "size", "steps")

    def __init__(self, size: int) -> None:
        self.size = size
        self.count = 0
        self.context = 0
        """Tokens of theirs that are in the cache."""
        self.steps = 0
        """Steps in which answers grew, since the beginning."""
        self._needy = [0] * size  # how many need a new block in step i, modulo the block's size
        self._agenda: list[tuple[int, int, Request]] = []  # (step, number of the entry, request)
        self._entries = 0
        self._forgotten = 0

    def join(self, request: Request) -> None:
        """`target` tokens of a request are in the cache, one more is generated: it grows from the next step on."""
        request.joined = self.steps
        request.base = request.generated
        self.count += 1
        self.context += request.target
        self._needy[(self.steps - request.target) % self.size] += 1

    def leave(self, request: Request) -> int:
        """It grows no more. Returns its tokens that are in the cache."""
        grown = self.steps - request.joined
        known = request.target + grown
        request.generated = request.base + grown
        self.count -= 1
        self.context -= known
        self._needy[(request.joined - request.target) % self.size] -= 1
        if request.entry:
            request.entry = 0
            self._forgotten += 1
        return known

    def step(self, steps: int) -> None:
        """So many steps are done."""
        self.steps += steps
        self.context += steps * self.count

    # blocks

    def blocks_for(self, steps: int) -> int:
        """New blocks that the next `steps` steps need."""
        needy, size = self._needy, self.size
        start = self.steps % size
        if steps == 1:
            return needy[start]
        rounds, rest = divmod(steps, size)
        end = start + rest
        return rounds * self.count + sum(needy[start:end]) + (sum(needy[: end - size]) if end > size else 0)

    def that_fit(self, steps: int, free: int) -> int:
        """The most of the next `steps` steps that need no more than `free` blocks; the first one does not."""
        if self.count * (steps // self.size + 1) <= free or self.blocks_for(steps) <= free:
            return steps
        low, high = 1, steps - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.blocks_for(middle) <= free:
                low = middle
            else:
                high = middle - 1
        return low

    # agenda

    def note(self, request: Request) -> None:
        """Put on the agenda when something is to be told of a request that has just been told of."""
        tokens = request.output_tokens
        if request.every:
            tokens = min(tokens, request.generated + request.every)
        self._entries += 1
        request.entry = self._entries
        heappush(self._agenda, (request.joined + tokens - request.base, self._entries, request))

    def until_due(self) -> int:
        """Steps until there is something to tell; there is an answer."""
        agenda = self._agenda
        if self._forgotten > COMPACT_AFTER and self._forgotten * 2 > len(agenda):
            agenda[:] = [each for each in agenda if each[2].entry == each[1]]
            heapify(agenda)
            self._forgotten = 0
        while agenda[0][2].entry != agenda[0][1]:
            heappop(agenda)
            self._forgotten -= 1
        return agenda[0][0] - self.steps

    def due(self) -> Request | None:
        """One of those of which something is to be told now, with its tokens counted; it is off the agenda."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= self.steps:
            _, entry, request = heappop(agenda)
            if request.entry == entry:
                request.entry = 0
                request.generated = request.base + self.steps - request.joined
                return request
            self._forgotten -= 1
        return None
