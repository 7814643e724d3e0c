"""Cases of deciding: reading the model out of a body, choosing a service, making the table to choose from.

Owns what each of these cases runs. May not live here: bytes on their way (`passage`), measuring (`measure`).
"""

from __future__ import annotations

import mmap
import random
from collections.abc import Callable
from functools import partial
from itertools import count, cycle
from typing import get_args

from bench.common.traffic import models
from bench.micro.dry import services
from bench.micro.measure import Case, Operation
from bench.micro.messages import MODEL
from bench.proxy.find_model import escapes, text, tokens
from enginehouse.core.ask import Ask
from enginehouse.core.config.router import Policy, RouterConfig
from enginehouse.core.fleet import Fleet
from enginehouse.core.shared import SIZE, Shared
from enginehouse.policy.choose import Choice, LoadView, choose
from enginehouse.policy.chunks import chunks, prompt_of, seed_of
from enginehouse.policy.table import build
from enginehouse.wire.paths import Classifier
from enginehouse.wire.peek import peek, rename_model
from enginehouse.wire.prompt import text_of

KIB, MIB = 1 << 10, 1 << 20
#: Services of a large fleet, and models in it.
_SERVICES, _MODELS = 1000, 200
#: How many services have the model.
_CANDIDATES = (2, 8, 32, 1000)


def _peek(kind: Callable[[int, random.Random], bytes], size: int) -> Operation:
    return partial(peek, kind(size, random.Random(1)), True)


def _text_of(kind: Callable[[int, random.Random], bytes], size: int) -> Operation:
    found = peek(kind(size, random.Random(1)), True).prompt
    assert found is not None
    return partial(text_of, found, 256 * KIB)


def _rename(size: int) -> Operation:
    return partial(rename_model, text(size, random.Random(1)), "another-model")


def _choose(policy: Policy, candidates: int) -> Operation:
    """So many services of a large fleet have the model; a few requests are in flight."""
    rng = random.Random(1)
    fleet = services(_SERVICES, lambda number: (MODEL if number < candidates else f"other-{number % _MODELS}",))
    table = build(Fleet(version=1, synced=True, services=fleet), RouterConfig(policy=policy))
    shared = Shared(memoryview(mmap.mmap(-1, SIZE)))
    for number in range(candidates):
        shared.loads[0][number] = rng.randrange(4)
    view = LoadView(shared, 2)
    sessions = range(64) if policy == "session" else ()
    asks = cycle([Ask(MODEL, f"{MODEL}:prompt_cache:{number}") for number in sessions] or [Ask(MODEL)])
    turn = 0

    def one() -> object:
        nonlocal turn
        turn += 1
        return choose(table, next(asks), (), view, 1.0, turn, rng)

    return one


def _prompts(size: int, share: int, count: int) -> list[bytes]:
    """Prompts that begin alike in `share` bytes and differ behind them."""
    rng = random.Random(1)
    common = rng.randbytes(share)
    return [common + rng.randbytes(size - share) for _ in range(count)]


def _hash(size: int) -> Operation:
    return partial(chunks, _prompts(size, 0, 1)[0], seed_of(MODEL))


def _prefix(size: int, candidates: int) -> Operation:
    """All that the policy adds to a request: its prompt is hashed, a service is chosen by it, and is to know it.

    There are somewhat more prompts than 64 services can keep, so that most are warm somewhere.
    """
    rng, seed = random.Random(1), seed_of(MODEL)
    fleet = services(_SERVICES, lambda number: (MODEL if number < candidates else f"other-{number % _MODELS}",))
    table = build(Fleet(version=1, synced=True, services=fleet), RouterConfig(policy="prefix"))
    view = LoadView(shared := Shared(memoryview(mmap.mmap(-1, SIZE))), 1)
    for number in range(candidates):
        shared.loads[0][number] = rng.randrange(4)
        shared.queued[0][number] = rng.randrange(1000)
    prompts = _prompts(size, 2 * KIB, 2000 * KIB * min(candidates, 64) // size)
    turns = count()

    def one() -> object:
        turn = next(turns)
        prompt = prompt_of(prompts[turn % len(prompts)], seed)
        choice = choose(table, Ask(MODEL, prompt=prompt), (), view, 1.0, turn, rng)
        return view.index.touch(choice.service, prompt) if isinstance(choice, Choice) else None

    for _ in prompts:
        one()
    return one


def _table() -> Operation:
    names = models(_MODELS)
    fleet = services(_SERVICES, lambda number: (names[number % _MODELS],))
    return partial(build, Fleet(version=1, synced=True, services=fleet), RouterConfig())


def _classify() -> Operation:
    return partial(Classifier(RouterConfig()), b"POST", b"/v1/chat/completions")


CASES = [
    Case("path: classified", _classify),
    Case("peek: chat of 200 B", partial(_peek, text, 200)),
    Case("peek: chat of 8 KiB", partial(_peek, text, 8 * KIB)),
    Case("peek: chat of 64 KiB", partial(_peek, text, 64 * KIB)),
    Case("peek: chat of 1 MiB", partial(_peek, text, MIB)),
    Case("peek: token ids of 1 MiB", partial(_peek, tokens, MIB)),
    Case("peek: escapes of 1 MiB", partial(_peek, escapes, MIB)),
    Case("prompt: chat of 8 KiB", partial(_text_of, text, 8 * KIB)),
    Case("prompt: token ids of 1 MiB", partial(_text_of, tokens, MIB)),
    Case("rename: chat of 8 KiB", partial(_rename, 8 * KIB)),
    Case("rename: chat of 1 MiB", partial(_rename, MIB)),
    *(
        Case(f"choose: {policy}, {number} of {_SERVICES}", partial(_choose, policy, number))
        for policy in get_args(Policy)
        for number in _CANDIDATES
    ),
    *(Case(f"prompt: hashed, {size} KiB", partial(_hash, size * KIB)) for size in (8, 48, 256)),
    *(
        Case(f"prefix: {size} KiB, {candidates} services", partial(_prefix, size * KIB, candidates))
        for size, candidates in ((8, 8), (48, 8), (8, 64), (48, 64), (8, 256), (8, 1000))
    ),
    Case(f"table: {_SERVICES} services, {_MODELS} models", _table),
]
