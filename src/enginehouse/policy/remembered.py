"""Which service made an id that clients come back with: `/v1/responses/{id}` and `previous_response_id`.

Owns `remember` and `recall`. May not live here: the table itself (`core.shared`), finding ids in answers (`data`).
"""

from __future__ import annotations

import hashlib

from enginehouse.core.fleet import Service
from enginehouse.core.shared import Shared
from enginehouse.policy.table import Table


def remember(shared: Shared, made_id: str, service: Service) -> None:
    """A service made this id: every worker sends what is asked about it there."""
    shared.remember(_digest(made_id), service.slot, service.generation)


def recall(shared: Shared, table: Table, made_id: str) -> int:
    """Slot of the service that made the id, -1 if unknown or gone."""
    found = shared.recall(_digest(made_id))
    if found is None:
        return -1
    slot, generation = found
    service = table.by_slot.get(slot)
    return slot if service is not None and service.generation == generation else -1


def _digest(made_id: str) -> int:
    """64 bits that stand for an id, the same in every worker; never 0."""
    digest = hashlib.blake2b(made_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
