"""The policy `prefix`: the service from which the first token comes soonest.

Owns the cost of giving a prompt to a service, the ranking by it, ties, and what a session's home may cost more. May not
live here: who is a candidate at all (`candidates`, `admission`), what is warm where (`prefix_index`).

Cost is an estimate of seconds: tokens to compute before this prompt's first token, those queued before it included, at
the rate of the service, and for each request that runs there the time its tokens take from this one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from enginehouse.core.ask import Prompt
from enginehouse.core.fleet import Service
from enginehouse.policy.affinity import PRIME, home
from enginehouse.policy.prefix_index import PrefixIndex, uncached

#: Seconds that each running request delays another one, for every `STEP_TOKENS` that this one computes and once more.
PER_REQUEST: Final = 0.010
STEP_TOKENS: Final = 4096.0
#: Seconds that a session's home may cost more than the cheapest.
PIN: Final = 1.0
#: Costs this near to the least are the same: absolute in seconds, and as a part of it.
NEAR: Final = 0.001
NEAR_PART: Final = 0.02


class Scored(NamedTuple):
    """A candidate and what it would cost."""

    service: Service
    matched: int
    """Bytes of the prompt that are warm there."""
    uncached: int
    """Tokens that it would have to compute."""
    queued: int
    """Tokens that it has to compute before."""
    running: int
    """Requests in flight there."""
    cost: float
    """Seconds."""


def cost_of(uncached: int, queued: int, running: int, rate: float, share: float) -> float:
    """Seconds until the first token. `share`: the service's weight, as a multiple of the others'."""
    return ((queued + uncached) / rate + PER_REQUEST * running * (1.0 + uncached / STEP_TOKENS)) / share


def rank(
    prompt: Prompt,
    services: Sequence[Service],
    loads: Sequence[memoryview[int]],
    queued: Sequence[memoryview[int]],
    index: PrefixIndex,
) -> list[Scored]:
    """What each would cost, in the order given. `services` is not empty."""
    mean = sum([service.weight for service in services]) / len(services)
    found: list[Scored] = []
    for service in services:
        slot = service.slot
        running, waiting = 0, 0
        for row in loads:
            running += row[slot]
        for row in queued:
            waiting += row[slot]
        matched = index.matched(service, prompt)
        rest = uncached(prompt.size, matched, index.token_bytes(service))
        cost = cost_of(rest, waiting, running, index.rate(service), service.weight / mean)
        found.append(Scored(service, matched, rest, waiting, running, cost))
    return found


def best(scored: Sequence[Scored], prompt: Prompt, turn: int) -> Scored:
    """The cheapest; of those that cost as much, the home of what not all of them have."""
    least = min([one.cost for one in scored])
    limit = least + NEAR + NEAR_PART * least
    tied = [one for one in scored if one.cost <= limit]
    if len(tied) == 1:
        return tied[0]
    key = first_apart(scored, prompt)
    if not key:
        return tied[turn % len(tied)]
    chosen = home(key, [one.service for one in tied])
    return next(one for one in tied if one.service is chosen)


def first_apart(scored: Sequence[Scored], prompt: Prompt) -> int:
    """Hash of the first chunk that not all of them have, the last one where they have them all; 0 without chunks."""
    if not prompt.chunks:
        return 0
    common = min([one.matched for one in scored])
    at = 0
    while at + 1 < len(prompt.chunks) and prompt.ends[at] <= common:
        at += 1
    return prompt.chunks[at] % (PRIME - 1) + 1


def pinned(scored: Sequence[Scored], key: int) -> Scored | None:
    """The home of a session (`affinity.digest` of it), unless it costs too much more than the cheapest."""
    chosen = home(key, [one.service for one in scored])
    at_home = next(one for one in scored if one.service is chosen)
    return at_home if at_home.cost - min([one.cost for one in scored]) <= PIN else None
