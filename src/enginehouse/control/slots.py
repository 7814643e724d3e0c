"""Rows of the shared memory for services: which one a service gets, and by which number a late count is recognised.

Owns `Slots` and `generation_of`. May not live here: what stands in the rows (`core.shared`).

Control keeps nothing on disk, yet after a restart of it the workers still hold loads, counts and remembered ids by slot
and generation. So both are worked out of what the service is, not counted up: the slot from its name (the next free one
on a collision), the generation from name and place. A restarted control therefore arrives at the same numbers and takes
the workers' counts up again, while another service in the same slot, or the same name at another place, has another
generation.
"""

from __future__ import annotations

import hashlib

from enginehouse.core.shared import CONTROL_SLOT

#: Slots that services may have: all but that of control's own API.
CAPACITY = CONTROL_SLOT


class Slots:
    """Slots by service name; each belongs to one name at a time."""

    def __init__(self) -> None:
        self._by_name: dict[str, int] = {}
        self._taken: set[int] = set()

    def take(self, name: str) -> int | None:
        """The name's slot, the same every time until it is freed; None when all are taken."""
        if (known := self._by_name.get(name)) is not None:
            return known
        if len(self._taken) >= CAPACITY:
            return None
        slot = _hash(name) % CAPACITY
        while slot in self._taken:
            slot = (slot + 1) % CAPACITY
        self._by_name[name] = slot
        self._taken.add(slot)
        return slot

    def free(self, name: str) -> None:
        """The name is gone."""
        self._taken.discard(self._by_name.pop(name, -1))


def generation_of(*identity: str) -> int:
    """32 bits that stand for one service at one place; never 0."""
    return _hash("\0".join(identity)) & 0xFFFFFFFF or 1


def _hash(text: str) -> int:
    """64 bits, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
