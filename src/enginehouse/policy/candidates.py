"""The only filter: which of a model's services may get this attempt.

Owns `usable` and `candidates`. May not live here: which of them does (`choose`), and why one is ejected (health).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from enginehouse.core.fleet import Service

#: Part of its requests that a service gets when it has just come back; the whole at the end of its slow start.
FIRST_PART: Final = 0.1


class Chance(Protocol):
    """`random.Random`, as far as it is needed here."""

    def random(self) -> float:
        """A number from 0 up to, not including, 1."""


class Standings(Protocol):
    """Who stands how (`core.shared.Shared`), per slot. Times in seconds, all of one clock."""

    ejected_until: memoryview[float]
    """No requests before this time."""
    rest_until: memoryview[float]
    """Others go first before this time."""
    slow_from: memoryview[float]
    slow_until: memoryview[float]
    """Between these it gets a growing part of its requests."""
    latest_ejection: memoryview[float]
    """One item: after this time none of that holds for anybody, so that mostly one look is enough."""


def usable(
    services: Sequence[Service],
    tried: tuple[str, ...],
    out: Standings,
    now: float,
    rng: Chance,
    key: int = 0,
    cache_type: str = "",
) -> Sequence[Service]:
    """Those neither tried nor kept from getting requests now, and of `cache_type` if one is given. Often none.

    The very same sequence where that is all of them, so that nothing is copied. `key` is the digest of a session, 0 for
    none: a session's requests return to a service once, not now and then.
    """
    if out.latest_ejection[0] > now:
        left = _free(services, tried, out, now, (key >> 20 & 0xFFFF) / 0x10000 if key else rng.random())
        if len(left) < len(services):
            services = left
    elif tried:
        left = [service for service in services if service.name not in tried]
        if len(left) < len(services):
            services = left
    return [service for service in services if service.cache_type == cache_type] if cache_type else services


def candidates(
    services: Sequence[Service],
    tried: tuple[str, ...],
    out: Standings,
    now: float,
    rng: Chance,
    key: int,
    cache_type: str,
) -> Sequence[Service]:
    """Who may get the attempt: never one already tried, one that rests only where no other is left, an ejected one only
    where all that are left are ejected.

    An ejected service may answer, a refusal surely does not help. `cache_type` is a preference: those of that type if
    there are any, else the others. `tried` holds names.
    """
    found = usable(services, tried, out, now, rng, key)
    if not found:
        left = [service for service in services if service.name not in tried] if tried else services
        found = [service for service in left if out.ejected_until[service.slot] <= now] or left
    if cache_type:
        return [service for service in found if service.cache_type == cache_type] or found
    return found


def awake(services: Sequence[Service], tried: tuple[str, ...], out: Standings, now: float) -> Sequence[Service]:
    """Those that `candidates` leaves out only because they have just come back, and all others that it does not: for
    where these have no room. Empty while nobody is left out."""
    return _free(services, tried, out, now, 0.0) if out.latest_ejection[0] > now else ()


def part_of(since: float, until: float, now: float) -> float:
    """What part of its requests a service gets that came back at `since`, and has the whole at `until`."""
    return FIRST_PART + (1.0 - FIRST_PART) * (now - since) / (until - since)


def _free(
    services: Sequence[Service], tried: tuple[str, ...], out: Standings, now: float, chance: float
) -> list[Service]:
    """Neither tried, ejected nor resting; of those that return, who may have this one.

    Where more would wait for their part than there are others, none does: the others could not bear it.
    """
    found: list[Service] = []
    waiting: list[Service] = []
    for service in services:
        slot = service.slot
        if out.ejected_until[slot] > now or out.rest_until[slot] > now or service.name in tried:
            continue
        found.append(service)
        until = out.slow_until[slot]
        if until > now:
            if chance >= part_of(out.slow_from[slot], until, now):
                waiting.append(service)
    if waiting and 2 * len(waiting) <= len(found):
        return [service for service in found if service not in waiting]
    return found
