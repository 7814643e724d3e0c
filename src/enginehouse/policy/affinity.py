"""The same key to the same service: weighted rendezvous hashing.

Owns the hash of keys and of names, which is the same in every process, on every host and in every version of Python,
and `home`. A service that joins or leaves moves only the keys it gains or loses.
May not live here: where the key comes from (`wire.forwarded`), and which services are candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from math import inf, log

from enginehouse.core.fleet import Service

#: Fixed number of parts a large set of services is cut into by name; a key looks at its part only.
SHARDS = 64
#: A Mersenne prime: `seed * key % PRIME` is uniform in the key for every seed, and nearly independent between seeds.
PRIME = (1 << 61) - 1
_UNIT = 1 / PRIME


def digest(text: str) -> int:
    """A 61-bit number below `PRIME`, never 0."""
    return (
        int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") % (PRIME - 1)
        + 1
    )


@lru_cache(maxsize=8192)
def seed_of(name: str) -> int:
    """The number a service's name stands for in `home`."""
    return digest("service:" + name)


def shard_of_service(name: str) -> int:
    """Which of the `SHARDS` a service belongs to."""
    return seed_of(name) % SHARDS


def home(key: int, services: Sequence[Service]) -> Service:
    """The service at home for a key (`digest(session)`). `services` is not empty; their order does not matter.

    Greatest ln(u) / w, where u is the hash of (key, name) in 0…1: a service gets keys in proportion to its weight
    (Schindelhauer & Schomaker, "Weighted distributed hash tables", 2005).
    """
    best = services[0]
    most = -inf
    for service in services:
        score = log(key * seed_of(service.name) % PRIME * _UNIT) / service.weight
        if score > most:
            best, most = service, score
    return best
