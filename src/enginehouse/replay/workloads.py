"""Made-up loads: agents that work in turns, one hot prefix, and requests that share nothing.

Owns their shapes, the words in which one is ordered (`agents:sessions=64,turns=8`), and writing any load to a file.
May not live here: reading files (`traces`). All chance comes from the `rng` given: the same seed, the same load.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from random import Random
from typing import Any, Final, NamedTuple

import msgspec

from enginehouse.replay.traces import BLOCK_TOKENS, LONGEST, Session, Trace, TraceError, Turn, arranged

MOST: Final = 1_000_000
"""Requests of a made-up load, at most."""


class Agents(NamedTuple):
    """Agents that go on turn by turn, each turn with all before it. Groups of them share a system prompt."""

    sessions: int = 128
    turns: int = 8
    rate: float = 1.0  # sessions that begin in a second
    groups: int = 4
    system: int = 2048  # tokens of a group's system prompt
    first: int = 1024  # of the task, in the mean
    input: int = 512  # of what each further turn adds (results of tools), in the mean
    output: int = 192  # of an answer, in the mean
    delay: float = 1.0  # seconds between an answer and the next turn, in the mean


class Hot(NamedTuple):
    """A long prefix that most requests begin with; the others, and all ends, share nothing."""

    requests: int = 1500
    rate: float = 10.0
    share: float = 0.8  # of the requests have the prefix
    prefix: int = 8192
    input: int = 512
    output: int = 128


class Unique(NamedTuple):
    """Requests that share nothing at all."""

    requests: int = 1500
    rate: float = 5.0
    input: int = 2048
    output: int = 192


Workload = Agents | Hot | Unique
KINDS: Final[dict[str, type[Agents] | type[Hot] | type[Unique]]] = {"agents": Agents, "hot": Hot, "unique": Unique}


def ordered(words: str) -> Workload | None:
    """What `kind:name=value,…` orders; None where it does not begin with a kind. Raises `TraceError`."""
    name, _, settings = words.partition(":")
    if (kind := KINDS.get(name)) is None:
        return None
    given: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        key, _, value = setting.partition("=")
        if key not in kind._fields:
            near = difflib.get_close_matches(key, kind._fields, 1, 0.0)
            raise TraceError(f"{name} has no setting {key!r}; did you mean {near[0]}? It has {', '.join(kind._fields)}")
        given[key] = _number(name, key, value, type(kind._field_defaults[key]))
    made = kind(**given)
    if (requests := made.sessions * made.turns if isinstance(made, Agents) else made.requests) > MOST:
        raise TraceError(f"{name}: {requests} requests are too many; at most {MOST}")
    return made


def _number(name: str, key: str, value: str, kind: type[int] | type[float]) -> float:
    """A setting's value: never negative, and where it counts or divides, not zero."""
    least = 0 if key in ("share", "delay") else 1 if kind is int else 1e-6
    try:
        number = kind(value)
    except ValueError:
        number = math.nan
    if not least <= number <= (1 if key == "share" else LONGEST):
        words = "between 0 and 1" if key == "share" else f"{kind.__name__} of at least {least:g}"
        raise TraceError(f"{name}: {key}={value} cannot be: it is to be a number, {words}")
    return number


def make(load: Workload, rng: Random, block_tokens: int = BLOCK_TOKENS) -> Trace:
    """The trace of a made-up load."""
    makers: dict[type[Any], Callable[..., Iterator[Session]]] = {Agents: _agents, Hot: _hot, Unique: _unique}
    return arranged(type(load).__name__.lower(), makers[type(load)](load, rng, Blocks(block_tokens)), block_tokens)


def lines(trace: Trace) -> Iterator[bytes]:
    """The trace in the format of sessions, a line each, readable again by `traces.read`."""
    for session in trace.sessions:
        turns = [
            {
                "input_length": turn.tokens,
                "output_length": turn.answer,
                "hash_ids": turn.blocks,
                **({"delay": round(turn.delay * 1000, 3)} if turn.delay else {}),
            }
            for turn in session.turns
        ]
        yield msgspec.json.encode({"timestamp": round(session.at * 1000, 3), "turns": turns}) + b"\n"


class Blocks:
    """Hands out numbers of blocks, each one once."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._next = count()

    def fresh(self, tokens: int) -> tuple[int, ...]:
        """As many as that many tokens need."""
        return tuple(next(self._next) for _ in range(-(-tokens // self._tokens)))

    def whole(self, tokens: int) -> tuple[int, tuple[int, ...]]:
        """A prefix that others follow has to end where a block does: so many tokens (rounded up), and their blocks."""
        blocks = self.fresh(tokens)
        return len(blocks) * self._tokens, blocks


def _agents(load: Agents, rng: Random, blocks: Blocks) -> Iterator[Session]:
    groups = [blocks.whole(load.system) for _ in range(load.groups)]
    for at in _arrivals(load.sessions, load.rate, rng):
        shared, prefix = rng.choice(groups)
        task = _about(load.first, rng)
        turns = [Turn(shared + task, _about(load.output, rng), prefix + blocks.fresh(task))]
        for _ in range(load.turns - 1):
            added = _about(load.input, rng)
            delay = rng.expovariate(1 / load.delay) if load.delay else 0.0
            turns.append(Turn(added, _about(load.output, rng), blocks.fresh(added), delay))
        yield Session(at, tuple(turns))


def _hot(load: Hot, rng: Random, blocks: Blocks) -> Iterator[Session]:
    shared, prefix = blocks.whole(load.prefix)
    for at in _arrivals(load.requests, load.rate, rng):
        own = _about(load.input, rng)
        hot = rng.random() < load.share
        begin = prefix if hot else blocks.fresh(shared)
        yield Session(at, (Turn(shared + own, _about(load.output, rng), begin + blocks.fresh(own)),))


def _unique(load: Unique, rng: Random, blocks: Blocks) -> Iterator[Session]:
    for at in _arrivals(load.requests, load.rate, rng):
        tokens = _about(load.input, rng)
        yield Session(at, (Turn(tokens, _about(load.output, rng), blocks.fresh(tokens)),))


def _arrivals(number: int, rate: float, rng: Random) -> Iterable[float]:
    """Times of a Poisson process."""
    at = 0.0
    for _ in range(number):
        yield at
        at += rng.expovariate(rate)


def _about(mean: int, rng: Random) -> int:
    """A length with that mean and a long tail, as lengths have: log-normal, sigma 0.6, at most ten times the mean."""
    return min(max(1, round(mean * rng.lognormvariate(-0.18, 0.6))), 10 * mean)
