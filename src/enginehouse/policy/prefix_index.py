"""What is warm where: for each service a small table of the chunks it has computed lately, in the shared memory.

Owns `PrefixIndex` and `Touch`: who has how much of a prompt, what a service learns by getting one, and how that is
undone or forgotten. May not live here: what follows for a choice (`prefix`), how sizes are learned (`learning`).

A clock of bytes stands in place of a list in order of use. A service's clock counts the KiB it had to learn; each
chunk bears the time at which it was last paid for, and is warm for one *span* of that clock. When a prompt comes, those
of its chunks that are new, or older than a third of the span, are paid for again: the clock moves on by their size.

- Warm chunks never hold more than a span: the times at which they were paid for lie within it, and each has moved the
  clock on by its own size since the one before.
- A chunk stays warm for at least two thirds of a span after its last use, for by then it was at most a third old.

A span is 1.5 times what a service can keep: what was used within the last `capacity` counts as warm, and at most half
as much besides. That is a list in order of use with an error, held in one word a chunk. The deeper chunks of a prompt
are paid for first, so that they are forgotten before those they build on, as engines do it.

Words are tag << 40 | time. Workers write without a lock: an update of the clock that is lost makes a few KiB stay
longer, a chunk that is overwritten is a hole, and holes are looked over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from enginehouse.core.ask import Prompt
from enginehouse.core.fleet import Service
from enginehouse.core.shared import CHUNKS, Shared
from enginehouse.core.units import MAX_SERVICES
from enginehouse.policy.learning import doubtful, rate_after, room_after, token_bytes_after
from enginehouse.policy.shortlist import Learners
from enginehouse.policy.table import SCORED

#: Tokens in the KV cache of a service that does not say (ROUTING: 8B parameters on one H100).
KV_TOKENS: Final = 400_000
#: Prompt tokens a second of a service that has not shown it (the same).
RATE: Final = 30_000.0
#: Bytes of JSON for each token, as long as nothing is learned: English text.
TOKEN_BYTES: Final = 4.0
#: How much longer than its capacity says a service's chunks count as warm; see above.
SPAN: Final = 1.5
#: Part of the span after which a chunk that is used is paid for again.
RENEW: Final = 1.0 / 3.0
#: Times a service had nothing of what should have been warm, one after the other, until all of it is forgotten.
DOUBTS: Final = 2

_TIME: Final = (1 << 40) - 1
_PLACE: Final = CHUNKS - 1
#: KiB that make everything too old, whatever the span becomes.
_LONG: Final = 1 << 28


class Touch:
    """What giving a prompt to a service changed, and what was expected of it: to be undone, or learned from."""

    __slots__ = ("age", "changed", "idle", "known", "matched", "seconds", "service", "size", "uncached", "waited")

    def __init__(self, service: Service, size: int) -> None:
        self.service = service
        self.size = size
        """Bytes of the prompt."""
        self.matched = 0
        """Bytes of it that were warm."""
        self.known = 0
        """Bytes of it that the service has ever seen, as far as is remembered: at least `matched`."""
        self.age = 0
        """KiB of the service's clock since the last of these was paid for."""
        self.uncached = 0
        """Tokens that had to be computed."""
        self.waited = 0
        """KiB of other prompts that the service was still to compute."""
        self.idle = False
        """It had nothing else to do."""
        self.seconds = 0.0
        """How long its first byte took, where the end will tell what was computed in that time; else 0."""
        self.changed: list[int] = []
        """Places in the table, each with the word that stood there before and the one that was put there."""


class Figures:
    """What is known of a service beside what is warm there: read from the shared memory now and then, not each time."""

    __slots__ = ("base", "kv_tokens", "rate", "service", "slot", "span", "token_bytes")

    def __init__(self, service: Service) -> None:
        self.service = service
        self.slot: int = service.slot
        self.base = self.slot * CHUNKS
        self.rate = RATE
        """Prompt tokens that it computes in a second."""
        self.token_bytes = TOKEN_BYTES
        """Bytes of a prompt's JSON for each of its tokens."""
        self.kv_tokens = float(service.kv_tokens or KV_TOKENS)
        """Tokens that its KV cache holds."""
        self.span = 0
        """KiB of its clock for which a chunk is warm."""


class PrefixIndex:
    """Reads and writes the part of the shared memory that tells what is warm where; keeps nothing but `Figures`."""

    def __init__(self, shared: Shared) -> None:
        self._figures: list[Figures | None] = [None] * MAX_SERVICES
        self._words = shared.chunks
        self._owners = shared.owners
        self._clocks = shared.clocks
        self._doubts = shared.doubts
        self._rates = shared.rates
        self._token_bytes = shared.token_bytes
        self._rooms = shared.rooms
        self.learners = Learners(shared.learners)
        self._wide = False
        """There are so many services that it is worth knowing who was given a chunk last."""

    # -- what is known of a service ------------------------------------------------------------------------------------

    def use(self, services: Sequence[Service]) -> None:
        """A new fleet. Where a slot has another incarnation, all that was known in it is forgotten."""
        for service in services:
            slot = service.slot
            if self._owners[slot] != service.generation:
                self.forget(service)
                self._rates[slot] = 0.0
                self._token_bytes[slot] = 0.0
                self._rooms[slot] = 0.0
                self._owners[slot] = service.generation
        self._wide = len(services) > SCORED
        self.look()

    def look(self) -> None:
        """What other workers have learned is to be seen here, too. Called with every sweep."""
        self._figures = [None] * MAX_SERVICES

    def figures(self, service: Service) -> Figures:
        """What is known of the service."""
        found = self._figures[service.slot]
        return found if found is not None and found.service is service else self._read(service)

    def _read(self, service: Service) -> Figures:
        figures = self._figures[service.slot] = Figures(service)
        slot = figures.slot
        figures.rate = self._rates[slot] or RATE
        figures.token_bytes = self._token_bytes[slot] or TOKEN_BYTES
        figures.span = int(SPAN * self.capacity(service)) + 1
        return figures

    def capacity(self, service: Service) -> int:
        """KiB of prompts that it keeps warm."""
        slot = service.slot
        token_bytes = self._token_bytes[slot] or TOKEN_BYTES
        return int((service.kv_tokens or KV_TOKENS) * token_bytes * (self._rooms[slot] or 1.0) / 1024)

    # -- what is warm --------------------------------------------------------------------------------------------------

    def matched(self, service: Service, prompt: Prompt) -> int:
        """Bytes at the beginning of the prompt that are warm there."""
        depth = self.depth(self.figures(service), prompt.chunks)
        return prompt.ends[depth - 1] if depth else 0

    def depth(self, figures: Figures, hashes: Sequence[int]) -> int:
        """The same in chunks."""
        clock = self._clocks[figures.slot]
        return self._depth(figures.base, hashes, clock - figures.span) if clock else 0

    def _depth(self, base: int, hashes: Sequence[int], since: int) -> int:
        """Leading chunks of which the last was paid for after `since`.

        A chunk that is warm says the same of all before it, so the last warm one is found by halving; one that is
        missing in between is a hole if the next is there.
        """
        last = len(hashes) - 1
        if last < 0:
            return 0
        low, high = 0, last
        if self._time(base, hashes[0]) <= since:
            if not last or self._time(base, hashes[1]) <= since:
                return 0
            low = 1
        if self._time(base, hashes[last]) > since:
            return last + 1
        while high - low > 1:
            middle = (low + high) >> 1
            if self._time(base, hashes[middle]) > since:
                low = middle
            elif middle + 1 < high and self._time(base, hashes[middle + 1]) > since:
                low = middle + 1
            else:
                high = middle
        return low + 1

    def _time(self, base: int, digest: int) -> int:
        """When the chunk was paid for; before all times, where it is not there."""
        word = self._words[base + (digest & _PLACE)]
        return word & _TIME if word >> 40 == digest >> 40 | 1 else -_LONG

    # -- what a request changes ----------------------------------------------------------------------------------------

    def touch(self, service: Service, prompt: Prompt, running: int = 0, queued: int = 0) -> Touch:
        """The service gets the prompt: from now on it is warm there, and a request that comes now had better follow.

        `running` requests and `queued` tokens were there before.
        """
        figures, hashes, ends = self.figures(service), prompt.chunks, prompt.ends
        words, base, span, clock = self._words, figures.base, figures.span, self._clocks[figures.slot]
        token_bytes = figures.token_bytes
        touch = Touch(service, prompt.size)
        depth = self._depth(base, hashes, clock - span) if clock else 0
        known = self._depth(base, hashes, clock - _LONG) if clock else 0
        touch.matched = ends[depth - 1] if depth else 0
        touch.known = ends[known - 1] if known else 0
        touch.age = clock - self._time(base, hashes[known - 1]) if known else 0
        touch.uncached = uncached(prompt.size, touch.matched, token_bytes)
        touch.waited = int(queued * token_bytes) >> 10
        touch.idle = running == 0
        due, changed, before = clock - int(span * RENEW), touch.changed, clock
        wide = self._wide
        for k in range(len(hashes) - 1, -1, -1):
            digest = hashes[k]
            place, tag = base + (digest & _PLACE), digest >> 40 | 1
            word = words[place]
            if word >> 40 != tag or word & _TIME <= due:
                clock += (ends[k] - (ends[k - 1] if k else 0)) >> 10
                words[place] = tag << 40 | clock
                changed += (place, word, tag << 40 | clock)
                if wide:
                    self.learners.note(digest, figures.slot)
        if clock != before:
            self._clocks[figures.slot] = clock
        return touch

    def undo(self, touch: Touch) -> None:
        """The service never got it. What the clock has moved on stays: it is a time like any other."""
        changed, words = touch.changed, self._words
        for at in range(len(changed) - 3, -1, -3):
            if words[changed[at]] == changed[at + 2]:
                words[changed[at]] = changed[at + 1]
        touch.changed = []

    def forget(self, service: Service) -> None:
        """Nothing is warm there any more."""
        slot = service.slot
        if self._clocks[slot]:  # else nobody has written to the service's words yet: they do not exist
            self._clocks[slot] += _LONG
        self._doubts[slot] = 0

    # -- what an answer teaches ----------------------------------------------------------------------------------------

    def answered(self, touch: Touch, seconds: float) -> None:
        """The first byte came so long after the request was sent."""
        if not touch.idle:
            return  # what came before it took a part of that
        if touch.matched:
            touch.seconds = seconds
        else:
            self._computed(touch.service, touch.uncached, seconds)

    def _computed(self, service: Service, tokens: int, seconds: float) -> None:
        slot = service.slot
        if self._owners[slot] == service.generation:
            self._rates[slot] = rate_after(self._rates[slot] or RATE, tokens, seconds)
            self._figures[slot] = None

    def learn(self, touch: Touch, tokens: int, cached: int = -1) -> None:
        """What the engine says at the end: tokens of the prompt, and how many of them it had already; -1: not said."""
        service, slot = touch.service, touch.service.slot
        if tokens <= 0 or self._owners[slot] != service.generation:
            return
        self._token_bytes[slot] = token_bytes_after(self._token_bytes[slot] or TOKEN_BYTES, touch.size, tokens)
        self._figures[slot] = None
        if touch.seconds and cached >= 0:
            self._computed(service, tokens - cached, touch.seconds)
        if cached < 0 or not touch.known or touch.age <= touch.waited:
            return
        share = cached / tokens
        self._rooms[slot] = room_after(
            self._rooms[slot] or 1.0, touch.age / self.figures(service).span, share * touch.size >= touch.known / 2
        )
        if not doubtful(share, touch.matched / touch.size):
            self._doubts[slot] = 0
        elif self._doubts[slot] + 1 < DOUBTS:
            self._doubts[slot] += 1
        else:
            self.forget(service)


def uncached(size: int, matched: int, token_bytes: float) -> int:
    """Tokens of a prompt of `size` bytes that a service has to compute when `matched` bytes are warm there."""
    return int((size - matched) / token_bytes) + 1
