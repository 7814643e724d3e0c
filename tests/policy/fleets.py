"""Fleets for tests of the policy: small services, tables and views.

Owns the makers. May not live here: tests.
"""

from __future__ import annotations

import mmap
from typing import Any

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Fleet, Service
from enginehouse.core.shared import SIZE, Shared
from enginehouse.policy.choose import LoadView
from enginehouse.policy.table import Table, build


def service(name: str, slot: int = 0, **fields: Any) -> Service:
    """An inference service that is up and serves model "m"."""
    given: dict[str, Any] = {"generation": 1, "host": "h", "addresses": ("127.0.0.1",), "port": 1, "up": True}
    return Service(name=name, slot=slot, **(given | {"models": ("m",)} | fields))


def services(*weights: int, **fields: Any) -> tuple[Service, ...]:
    """One service per weight, called s0, s1, …, in slots 0, 1, …."""
    return tuple(service(f"s{slot}", slot, weight=weight, **fields) for slot, weight in enumerate(weights))


def fleet(*members: Service, synced: bool = True, known: tuple[str, ...] = ()) -> Fleet:
    """A snapshot."""
    return Fleet(version=1, synced=synced, services=members, known_models=known)


def table(*members: Service, synced: bool = True, known: tuple[str, ...] = (), **config: Any) -> Table:
    """Tables of a snapshot."""
    return build(fleet(*members, synced=synced, known=known), RouterConfig(**config))


def shared() -> Shared:
    """Shared memory of nobody else."""
    return Shared(memoryview(mmap.mmap(-1, SIZE)))


def view(memory: Shared | None = None, workers: int = 2) -> LoadView:
    """What choosing reads of it."""
    return LoadView(memory or shared(), workers)


def eject(memory: Shared, slot: int, until: float) -> None:
    """Put a service out."""
    memory.put(slot, memory.standing(slot)._replace(ejected_until=until))
