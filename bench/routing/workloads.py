"""A load that neither a published trace nor `enginehouse replay` has: long documents that many ask about.

Owns how it is drawn from a seed. May not live here: agents, a hot prefix, requests that share nothing
(`enginehouse.replay.workloads`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from enginehouse.replay.traces import BLOCK_TOKENS, Session, Trace, Turn, arranged
from enginehouse.replay.workloads import Blocks

#: Documents, and how popularity falls: the n-th is asked about as often as n to this power.
LIBRARY, SKEW = 400, -0.8


def documents(requests: int, rate: float, seed: int) -> Trace:
    """Questions about documents of 10,000 to 60,000 tokens of skewed popularity, more of them than engines have memory
    for: in the style of Mooncake's synthetic trace."""
    rng = random.Random(seed)
    blocks = Blocks(BLOCK_TOKENS)
    common = blocks.fresh(1)
    lengths = [min(120, max(4, round(rng.lognormvariate(3.2, 0.7)))) for _ in range(LIBRARY)]
    library = [blocks.fresh(length * BLOCK_TOKENS) for length in lengths]
    weights = [(place + 1) ** SKEW for place in range(LIBRARY)]

    def sessions() -> Iterator[Session]:
        at = 0.0
        for _ in range(requests):
            question = round(rng.uniform(0.1, 3) * BLOCK_TOKENS)
            shared = common + rng.choices(library, weights)[0]
            answer = max(8, round(rng.expovariate(1 / 150)))
            turn = Turn(len(shared) * BLOCK_TOKENS + question, answer, shared + blocks.fresh(question))
            yield Session(at, (turn,))
            at += rng.expovariate(rate)

    return arranged("documents", sessions())
