"""A request's prompt at the service that has to compute it: what it adds to the queue there, and what comes of it.

Owns `Prefill`: tokens that count as queued from the dispatch to the first token and as held to the end, what the
service is thought to have warm because of them, and what its answer teaches. May not live here: what is warm where
(`policy.prefix_index`), the rows (`counters`), when an attempt begins and ends (`attempt`).
"""

from __future__ import annotations

from typing import Final

from enginehouse.core.ask import Prompt
from enginehouse.data.counters import Counters
from enginehouse.policy.choose import Choice
from enginehouse.policy.prefix import Scored
from enginehouse.policy.prefix_index import PrefixIndex
from enginehouse.wire.usage import Usage

#: No prompt counts for more: beyond it is no model's context, and a row of 32 bits bears two thousand of them.
MOST_TOKENS: Final = 1 << 20


class Prefill:
    """Made when the slot is taken, before anything is awaited. Every method may be called twice."""

    __slots__ = ("_counters", "_held", "_index", "_queued", "_score", "_touch", "waits")

    def __init__(self, counters: Counters, index: PrefixIndex, score: Scored, prompt: Prompt) -> None:
        self._counters = counters
        self._index = index
        self._score = score
        self._queued = min(score.uncached, MOST_TOKENS)
        self._held = min(score.tokens, MOST_TOKENS)
        self.waits = True
        """For the first token."""
        counters.queue(score.service, self._queued)
        counters.hold(score.service, self._held)
        self._touch = index.touch(score.service, prompt, score.running, score.queued)

    def first_token(self, seconds: float) -> None:
        """The prompt has been computed. `seconds` since it was sent; negative where that shows nothing, since more than
        the prompt was computed meanwhile."""
        if self.waits:
            self._computed()
            if seconds >= 0:
                self._index.answered(self._touch, seconds)

    def release(self) -> None:
        """The attempt is over: nothing of it is queued or held any more."""
        self._computed()
        tokens, self._held = self._held, 0
        if tokens:
            self._counters.hold(self._score.service, -tokens)

    def _computed(self) -> None:
        tokens, self._queued = self._queued, 0
        self.waits = False
        if tokens:
            self._counters.queue(self._score.service, -tokens)

    def undo(self) -> None:
        """The service never computed it."""
        self._index.undo(self._touch)

    def learn(self, usage: Usage) -> None:
        """What the engine says of it at the end. One that leaves out what is zero is known by its other answers."""
        cached = usage.cached
        if cached is None:
            cached = 0 if self._counters.tells_cached(self._score.service) else -1
        else:
            self._counters.told_cached(self._score.service)
        self._index.learn(self._touch, usage.prompt, cached)


def warm_share(choice: Choice | None, prompt: Prompt | None) -> float:
    """The part of the prompt that was thought to be warm at the chosen service; negative where nobody looked."""
    if choice is None or prompt is None or choice.score is None:
        return -1.0
    return choice.score.matched / prompt.size
