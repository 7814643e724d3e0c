"""What choosing needs of a fleet, worked out once per snapshot: immutable tables by model name.

Owns `Entry` and `Table` and how they are built. May not live here: the choice itself (`choose`), the filter
(`candidates`), and anything that changes between two snapshots (loads, ejections, turns).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from enginehouse.core.config.router import Policy, RouterConfig
from enginehouse.core.fleet import Fleet, Service
from enginehouse.policy.affinity import SHARDS, shard_of_service
from enginehouse.policy.spread import smooth

#: Above this many services a choice looks at some of them only.
MANY = 32
#: Above this many, one that minds what is warm where does.
SCORED = 64


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One model as it can be served now."""

    model: str
    """Real name ("" for `Table.everyone`), whatever alias led here."""
    policy: Policy
    services: tuple[Service, ...]
    """Up, meant for inference and listing the model; may be empty for an alias of a model nobody serves now."""
    rotation: tuple[Service, ...]
    """`services` in the smooth weighted order of `spread.smooth`; each appears as often as its weight says."""
    shards: tuple[tuple[Service, ...], ...] = ()
    """`services` by the hash of their name, only where there are more than `MANY` (see `affinity`)."""
    by_slot: dict[int, Service] = {}
    """`services`, only where there are more than `SCORED` (see `shortlist`)."""
    capped: bool = False
    """May one of them have a cap on its requests at once?"""
    mean: float = 0.0
    """Of their weights; 0 where all weigh the same, so that nobody needs to look."""


class Table(msgspec.Struct, frozen=True, gc=False):
    """A `Fleet` prepared for choosing."""

    version: int
    synced: bool
    unknown_is_404: bool
    models: dict[str, Entry]
    """By real name and by alias; real names only where somebody serves them."""
    everyone: Entry
    """For requests that name no model."""
    known: frozenset[str]
    """Every model name seen so far, served now or not."""
    all_told: bool
    """False while a service that is not up has never told its models: any name may be one of them."""
    served: tuple[str, ...]
    """Real names that somebody serves now, sorted: what the refusal of an unknown model lists."""
    has_cache_types: bool
    by_slot: dict[int, Service]
    """Every service, up or not."""


def build(fleet: Fleet, config: RouterConfig) -> Table:
    """Tables for one snapshot. Cost: about 3 µs for a service and model."""
    serving = tuple(service for service in fleet.services if service.up and service.inference)
    by_model: dict[str, list[Service]] = {}
    for service in serving:
        for model in dict.fromkeys(service.models):
            by_model.setdefault(model, []).append(service)
    models = {model: _entry(model, services, config) for model, services in by_model.items()}
    for model, alias in _aliases(config):
        models[alias] = models.get(model) or _entry(model, (), config)
    return Table(
        version=fleet.version,
        synced=fleet.synced,
        unknown_is_404=config.unknown_model_status == 404,
        models=models,
        everyone=_entry("", serving, config),
        known=frozenset(fleet.known_models).union(*(s.models for s in fleet.services if s.inference)),
        all_told=all(service.up or service.models for service in fleet.services if service.inference),
        served=tuple(sorted(by_model)),
        has_cache_types=any(service.cache_type for service in serving),
        by_slot={service.slot: service for service in fleet.services},
    )


def _entry(model: str, services: Iterable[Service], config: RouterConfig) -> Entry:
    chosen = tuple(services)
    special = config.models.get(model)
    weights = tuple([service.weight for service in chosen])
    order = smooth(weights)
    return Entry(
        model=model,
        policy=(special.policy if special else None) or config.policy,
        services=chosen,
        rotation=tuple([chosen[index] for index in order]),
        shards=_shards(chosen) if len(chosen) > MANY else (),
        by_slot={service.slot: service for service in chosen} if len(chosen) > SCORED else {},
        capped=config.learn_capacity or config.service_capacity > 0 or any(service.capacity for service in chosen),
        mean=sum(weights) / len(weights) if len(set(weights)) > 1 else 0.0,
    )


def _shards(services: tuple[Service, ...]) -> tuple[tuple[Service, ...], ...]:
    shards: list[list[Service]] = [[] for _ in range(SHARDS)]
    for service in services:
        shards[shard_of_service(service.name)].append(service)
    return tuple([tuple(shard) for shard in shards])


def _aliases(config: RouterConfig) -> Iterable[tuple[str, str]]:
    """(real name, alias). A name with a section of its own is a model, never an alias, so aliases do not chain."""
    for model, special in config.models.items():
        for alias in special.aliases:
            if alias not in config.models:
                yield model, alias
