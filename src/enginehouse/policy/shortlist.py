"""Of many services, those worth looking at: who was given what the prompt begins with, and some others.

Owns `Learners`, a table in shared memory of who was given a chunk last, and `shortlist`. May not live here: what is
warm at those (`prefix_index` says it exactly), what they would cost (`prefix`), who is a candidate (`candidates`).

To ask a thousand services what they have of a prompt takes longer than all the rest of a request. So each chunk that a
service is given is noted in one table for all: a word of tag << 48 | the last four services, twelve bits each. Nothing
relies on it: that one who is named has forgotten the chunk is found out by looking, and one who has it and is not named
goes without a request. Others are looked at so that work spreads: those to which the first chunk points that nobody was
given yet, the same ones in every router; where nothing is new, the next ones in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from enginehouse.core.fleet import Service
from enginehouse.core.shared import LEARNERS
from enginehouse.policy.affinity import SHARDS
from enginehouse.policy.table import Entry

#: So many services are looked at beside those that may have something warm.
WINDOW: Final = 8

_PLACE: Final = LEARNERS - 1
_BITS: Final = 12
_ONE: Final = (1 << _BITS) - 1
_FOUR: Final = (1 << 4 * _BITS) - 1
_TAG: Final = 4 * _BITS


class Learners:
    """Who was given a chunk last. Workers write without a lock: what is lost is a hint."""

    __slots__ = ("_words",)

    def __init__(self, words: memoryview[int]) -> None:
        self._words = words

    def note(self, digest: int, slot: int) -> None:
        """The service in `slot` was given the chunk."""
        place, mark = digest & _PLACE, slot + 1
        word = self._words[place]
        if word >> _TAG != digest >> _TAG:
            self._words[place] = digest >> _TAG << _TAG | mark
            return
        slots = word & _FOUR
        while slots:
            if slots & _ONE == mark:
                return
            slots >>= _BITS
        self._words[place] = digest >> _TAG << _TAG | word << _BITS & _FOUR | mark

    def of(self, digest: int) -> int:
        """The last services that were given the chunk, the latest lowest: 12 bits each, slot + 1. 0: nobody."""
        word = self._words[digest & _PLACE]
        return word & _FOUR if word >> _TAG == digest >> _TAG else 0

    def known(self, hashes: Sequence[int]) -> int:
        """Leading chunks that anybody was given, found by halving: who was given a chunk was given all before it."""
        low, high = 0, len(hashes)
        while low < high:
            middle = (low + high) >> 1
            if self.of(hashes[middle]):
                low = middle + 1
            else:
                high = middle
        return low


def shortlist(hashes: Sequence[int], entry: Entry, learners: Learners, turn: int) -> list[Service]:
    """Some of the services of `entry`, each once: for a prompt with these chunks, in this turn of its worker.

    They may be out or full, as any others.
    """
    known = learners.known(hashes)
    found: dict[int, Service] = {}
    at = known
    while at:
        slots = learners.of(hashes[at - 1])
        while slots:
            slot = (slots & _ONE) - 1
            service = entry.by_slot.get(slot)
            if service is not None:
                found[slot] = service
            slots >>= _BITS
        at >>= 1
    if known == len(hashes):
        for service in window(entry.rotation, turn):
            found[service.slot] = service
        return list(found.values())
    shard, enough = hashes[known] % SHARDS, len(found) + WINDOW
    while len(found) < enough:
        for service in entry.shards[shard]:
            found[service.slot] = service
        shard = (shard + 1) % SHARDS
    return list(found.values())


def window(rotation: tuple[Service, ...], turn: int) -> tuple[Service, ...]:
    """The places of the rotation that are looked at in this turn: the place `turn` itself lies `turn % WINDOW` in."""
    start = (turn - turn % WINDOW) % len(rotation)
    part = rotation[start : start + WINDOW]
    return part if len(part) == WINDOW else part + rotation[: WINDOW - len(part)]
