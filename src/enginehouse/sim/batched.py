"""What an engine model is asked for, and what it tells.

Owns the records of a request and of an event. May not live here: whose turn it is (`batching`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from enginehouse.sim.prefix_cache import Holding


class Kind(IntEnum):
    """What can happen to a request."""

    FIRST_TOKEN = 0
    TOKENS = 1
    FINISHED = 2
    PREEMPTED = 3


class State(IntEnum):
    """Where a request stands."""

    NEW = 0
    WAITING = 1
    PREFILLING = 2
    DECODING = 3
    OVER = 4


FIRST_TOKEN, TOKENS, FINISHED, PREEMPTED = Kind
NEW, WAITING, PREFILLING, DECODING, OVER = State


class Request:
    """What an engine is asked for, and what became of it.

    `blocks`: hashes of the prompt's full blocks, each standing for all tokens up to its end; where there are more, they
    are those of the answer, as a later turn of the conversation will ask for them. `every`: tell of each so many
    further tokens (0: of the first and of the end only). `tag` is the caller's.
    """

    __slots__ = (
        "arrived",
        "base",
        "blocks",
        "cached_tokens",
        "entry",
        "every",
        "finished_at",
        "first_token_at",
        "generated",
        "gone",
        "holding",
        "joined",
        "output_tokens",
        "preemptions",
        "prefilled",
        "prompt_tokens",
        "state",
        "tag",
        "target",
    )  # fmt: skip

    def __init__(
        self, prompt_tokens: int, output_tokens: int, blocks: Sequence[int] = (), every: int = 0, tag: Any = None
    ) -> None:
        self.prompt_tokens = max(1, prompt_tokens)
        self.output_tokens = max(1, output_tokens)
        self.blocks = blocks
        self.every = every
        self.tag = tag
        self.arrived = 0.0
        self.first_token_at: float | None = None
        self.finished_at: float | None = None
        self.cached_tokens: int | None = None
        """Tokens of the prompt that were found when its turn came for the first time; None before that."""
        self.preemptions = 0
        self.generated = 0
        """Tokens of the answer; brought up to date when something is told of it."""
        # The engine's own:
        self.state = NEW
        self.gone = False  # whoever asked has left
        self.holding: Holding | None = None
        self.target = 0  # tokens to have in the cache before the next one can be generated
        self.prefilled = 0  # tokens that are in the cache, while less than that
        self.joined = 0  # the step at which its answer began to grow
        self.base = 0  # tokens that it had then
        self.entry = 0  # the entry of the agenda that is about it


class Event(NamedTuple):
    """Something happened to a request, which has `tokens` tokens of its answer by now. An answer of one token has a
    first token and then an end at the same moment."""

    kind: Kind
    at: float
    request: Request
    tokens: int
