"""The policy `prefix`: the service from which the first token comes soonest.

Owns the cost of giving a prompt to a service, the ranking by it, ties, and what a session's home may cost more. May not
live here: who is a candidate at all (`candidates`, `admission`), what is warm where (`prefix_index`).

Cost is an estimate of seconds: tokens to compute before this prompt's first token, those queued before it included, at
the rate of the service; and what the requests that run there take from this one: steps that are longer for each of
them, and room in the KV cache, for which it may have to wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

from enginehouse.core.ask import Prompt
from enginehouse.core.fleet import Service
from enginehouse.policy.affinity import PRIME, home
from enginehouse.policy.prefix_index import PrefixIndex, uncached
from enginehouse.policy.spread import smooth

#: Seconds that each running request delays another one, and that a KV cache full of their prompts does: once, and once
#: more for every `STEP_TOKENS` that it computes. Found on the virtual clock (`scripts/bench routing --simulated`): half
#: and twice as much make no difference, without `FULL` first tokens come a sixth later where room is scarce.
PER_REQUEST: Final = 0.003
FULL: Final = 0.6
STEP_TOKENS: Final = 4096.0
#: Seconds that a session's home may cost more than the cheapest.
PIN: Final = 1.0
#: Costs this near to the least are the same: absolute in seconds, and as a part of it.
NEAR: Final = 0.001
NEAR_PART: Final = 0.02

#: Per worker that lives a number for each slot.
Rows = Sequence["memoryview[int]"]


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
    held: int
    """Tokens of their prompts, warm or not: they fill the KV cache."""
    tokens: int
    """Of this prompt."""
    cost: float
    """Seconds."""


def cost_of(uncached: int, queued: int, running: int, full: float, rate: float) -> float:
    """Seconds until the first token, for tokens still to be computed and requests in flight.

    `full`: tokens of the prompts in flight as a part of the KV cache.
    """
    return (queued + uncached) / rate + (PER_REQUEST * running + FULL * full) * (1.0 + uncached / STEP_TOKENS)


def rank(
    prompt: Prompt,
    services: Sequence[Service],
    loads: Rows,
    queued: Rows,
    held: Rows,
    index: PrefixIndex,
    mean: float = 0.0,
) -> list[Scored]:
    """What each would cost, in the order given. Arguments as in `pick`."""
    return [score(prompt, service, loads, queued, held, index, mean) for service in services]


def score(
    prompt: Prompt, service: Service, loads: Rows, queued: Rows, held: Rows, index: PrefixIndex, mean: float = 0.0
) -> Scored:
    """What it would cost there."""
    figures = index.figures(service)
    slot = figures.slot
    running = sum([row[slot] for row in loads])
    waiting = sum([row[slot] for row in queued])
    busy = sum([row[slot] for row in held])
    depth = index.depth(figures, prompt.chunks)
    matched = prompt.ends[depth - 1] if depth else 0
    rest = uncached(prompt.size, matched, figures.token_bytes)
    cost = cost_of(rest, waiting, running, busy / figures.kv_tokens, figures.rate)
    tokens = uncached(prompt.size, 0, figures.token_bytes)
    return Scored(
        service, matched, rest, waiting, running, busy, tokens, cost * (mean / service.weight if mean else 1.0)
    )


def pick(
    prompt: Prompt,
    services: Sequence[Service],
    loads: Rows,
    queued: Rows,
    held: Rows,
    index: PrefixIndex,
    mean: float,
    at_home: Service | None,
    turn: int,
) -> tuple[Service, str]:
    """Who gets the prompt, and why in a word. `services` is not empty.

    `loads`, `queued`, `held`: requests in flight, tokens to be computed, tokens of prompts in flight. `mean`: of the
    weights of all services of the model, 0 where all weigh the same. `at_home`: the one of `services` where the session
    is at home. The cheapest gets it; a session's home may cost more; of those that cost as much, the home of what not
    all of them have. Prompts too short to be found again take turns by weight.
    """
    hashes, ends, size = prompt.chunks, prompt.ends, prompt.size
    costs: list[float] = []
    depths: list[int] = []
    least = inf
    for service in services:
        figures = index.figures(service)
        slot = figures.slot
        running, waiting, busy = 0, 0, 0
        for row in loads:
            running += row[slot]
        for row in queued:
            waiting += row[slot]
        for row in held:
            busy += row[slot]
        depth = index.depth(figures, hashes)
        rest = uncached(size, ends[depth - 1] if depth else 0, figures.token_bytes)
        cost = cost_of(rest, waiting, running, busy / figures.kv_tokens, figures.rate)
        if mean:
            cost *= mean / service.weight
        if cost < least:
            least = cost
        costs.append(cost)
        depths.append(depth)
    if at_home is not None:
        if costs[services.index(at_home)] <= least + PIN:
            return at_home, "session"
    limit = least + NEAR + NEAR_PART * least
    tied = [services[at] for at, cost in enumerate(costs) if cost <= limit]
    if len(tied) == 1:
        return tied[0], "prefix"
    apart = apart_at(hashes, min(depths))
    if apart:
        return home(apart, tied), "prefix"
    order = smooth(tuple([service.weight for service in tied]))
    return tied[order[turn % len(order)]], "prefix"


def apart_at(hashes: Sequence[int], common: int) -> int:
    """Hash of the first chunk after those that all have, the last one where all have them all; 0 without chunks."""
    return hashes[min(common, len(hashes) - 1)] % (PRIME - 1) + 1 if hashes else 0
