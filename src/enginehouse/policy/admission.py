"""How many requests a service gets at once: its cap, stated by its owner or learned, and who is below it.

Owns `cap_of`, `with_room` and the rule by which caps are learned. May not live here: where loads and learned caps
stand (`core.shared`), who waits for room (`line`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome

#: Learned caps are kept as whole numbers of this fraction of a request, so that they can grow by less than one.
FRACTION = 256
#: What is left of the load at which an engine had too much to do. TCP takes a half; engines say no sooner than routers.
LESS = 0.7
#: A learned cap grows no further.
MOST = 1 << 20
#: Ends of an attempt which say that the engine had too much to do.
_TOO_MUCH: Final = frozenset((Outcome.REJECTED, Outcome.FIRST_BYTE_TIMEOUT))
_ANSWERED: Final = Outcome.ANSWERED


def cap_of(stated: int, word: int, generation: int) -> int:
    """Most requests at once for a service; 0: any number.

    `stated`: by its owner or the configuration, 0 by nobody. `word`: what was learned (`packed`), 0 for nothing; it
    lowers what is stated, and never raises it.
    """
    found = unpacked(word, generation) // FRACTION if word else 0
    return found if found and (not stated or found < stated) else stated


def with_room(
    services: Sequence[Service], loads: Sequence[memoryview[int]], default: int, learned: memoryview[int] | None
) -> Sequence[Service]:
    """Those below their cap, loads of all workers summed; the very same sequence where that is all of them.

    `default` is for services that state no capacity; `learned` has a word for each slot, None: nothing is learned.
    """
    free: list[Service] = []
    for service in services:
        slot = service.slot
        cap = cap_of(service.capacity or default, 0 if learned is None else learned[slot], service.generation)
        if cap:
            total = 0
            for row in loads:
                total += row[slot]
            if total >= cap:
                continue
        free.append(service)
    return services if len(free) == len(services) else free


def packed(cap: int, generation: int) -> int:
    """A learned cap (in `FRACTION`s) with the incarnation that it is of, in one word, so that it is never torn."""
    return (generation & 0x7FFFFFFF) << 32 | cap


def unpacked(word: int, generation: int) -> int:
    """The cap in `FRACTION`s; 0, nothing learned yet, where the word is of another incarnation."""
    return word & 0xFFFFFFFF if word >> 32 == generation & 0x7FFFFFFF else 0


def learned_from(word: int, generation: int, load: int, outcome: Outcome) -> int:
    """What is known of a service after one more of its requests has ended; `word` is what was known before (`packed`).

    `load`: its requests in flight up to then, this one among them.
    """
    cap = unpacked(word, generation)
    if outcome is _ANSWERED:
        return packed(grown(cap), generation) if cap and load >= cap // FRACTION else word
    return packed(shrunk(cap, load), generation) if outcome in _TOO_MUCH else word


def grown(cap: int) -> int:
    """After a request that went well while the service was at its cap: one more after as many as the cap.

    Additive increase (D.-M. Chiu and R. Jain, "Analysis of the increase and decrease algorithms", 1989). 0 stays 0:
    without a limit there is nothing to raise.
    """
    return min(cap + FRACTION * FRACTION // cap, MOST * FRACTION) if cap else 0


def shrunk(cap: int, load: int) -> int:
    """After an engine that had `load` requests had too much to do: a share of that load, never more than before.

    A burst of refusals counts once: each of them would leave a share of what is still there, not of what is left.
    """
    less = max(FRACTION, int(load * LESS * FRACTION))
    return min(cap, less) if cap else less
