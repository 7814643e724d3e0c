"""The only filter: which of a model's services may get this attempt.

Owns `usable` and `candidates`. May not live here: which of them does (`choose`), and why one is ejected (health).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from enginehouse.core.fleet import Service


class Ejections(Protocol):
    """Who is out for a while (`core.shared.Shared`). Times in seconds, all of one clock."""

    ejected_until: memoryview[float]
    """Per slot: no requests before this time."""
    latest_ejection: memoryview[float]
    """One item: after this time nobody is out, so that mostly one look is enough."""


def usable(
    services: Sequence[Service], tried: tuple[str, ...], out: Ejections, now: float, cache_type: str = ""
) -> Sequence[Service]:
    """Those neither tried nor ejected, and of `cache_type` if one is given. Often none.

    The very same sequence where that is all of them, so that nothing is copied.
    """
    if tried or out.latest_ejection[0] > now:
        until = out.ejected_until
        for service in services:
            if until[service.slot] > now or service.name in tried:
                services = [s for s in services if until[s.slot] <= now and s.name not in tried]
                break
    return [service for service in services if service.cache_type == cache_type] if cache_type else services


def candidates(
    services: Sequence[Service], tried: tuple[str, ...], out: Ejections, now: float, cache_type: str
) -> Sequence[Service]:
    """Who may get the attempt: never one already tried, an ejected one only where all that are left are ejected.

    An ejected service may answer, a refusal surely does not help. `cache_type` is a preference: those of that type if
    there are any, else the others. `tried` holds names.
    """
    found = usable(services, tried, out, now)
    if not found:
        found = [service for service in services if service.name not in tried] if tried else services
    if cache_type:
        return [service for service in found if service.cache_type == cache_type] or found
    return found
