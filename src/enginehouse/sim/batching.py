"""The inside of an inference engine as a calculation: continuous batching, chunked prefill, no model and no clock.

Owns whose turn it is, how long it takes, and what is told about it. May not live here: clocks, sockets, text; the time
of a step (`constants`), the blocks of the KV cache (`prefix_cache`).

The engine works in steps, as vLLM's does. In a step each answer that is being written grows by a token, and what is
left of `chunk` tokens goes to prompts, the oldest first; a prompt that is complete yields its first token at the end
of the step. Requests are taken in the order of their coming when there is room for the whole prompt. Where answers have
grown until the cache is full, the request taken last gives its place up, waits in front of all others, and is computed
again.

Steps in which nothing but growing answers happens are not walked through: a *run* of them is planned until the next
thing that anybody wants to know (an end, a token asked for, a full cache), and cut short at the end of a step when
somebody comes or goes. So the work is in proportion to requests and what they ask for, not to tokens. All times are
seconds on the caller's clock, and the same calls give the same times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from enginehouse.sim.constants import EngineConstants
from enginehouse.sim.prefix_cache import Holding, PrefixCache


class Kind(IntEnum):
    """What can happen to a request."""

    FIRST_TOKEN = 0
    TOKENS = 1
    FINISHED = 2
    PREEMPTED = 3


FIRST_TOKEN, TOKENS, FINISHED, PREEMPTED = Kind

COMPACT_AFTER = 1024
"""Forgotten entries of the agenda after which it is tidied up."""


class Event(NamedTuple):
    """Something happened to a request, which has `tokens` tokens of its answer by now. An answer of one token has a
    first token and then an end at the same moment."""

    kind: Kind
    at: float
    request: Request
    tokens: int


class Request:
    """What an engine is asked for, and what became of it.

    `blocks`: hashes of the prompt's full blocks, each standing for all tokens up to its end; where there are more, they
    are those of the answer, as a later turn of the conversation will ask for them. `every`: tell of each so many
    further tokens (0: of the first and of the end only). `tag` is the caller's.
    """

    __slots__ = (
        "_base", "_entry", "_holding", "_joined", "_left", "_prefilled", "_state", "_target",
        "arrived", "blocks", "cached_tokens", "every", "finished_at", "first_token_at", "generated", "output_tokens",
        "preemptions", "prompt_tokens", "tag",
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
        """Tokens of the answer; brought up to date by events only."""
        self._state = _NEW
        self._holding: Holding | None = None
        self._target = 0  # tokens to have in the cache before the next one can be generated
        self._prefilled = 0
        self._joined = 0  # the step at which it began to grow
        self._base = 0  # tokens that it had then
        self._entry = 0  # the entry of the agenda that is about it
        self._left = False


_NEW, _WAITING, _PREFILLING, _DECODING, _OVER = range(5)


class EngineModel:
    """One engine. Call `advance` at `next_event` or later, `arrive` and `cancel` any time but in the past."""

    def __init__(self, constants: EngineConstants) -> None:
        self.constants = constants
        self.cache = PrefixCache(constants.blocks)
        self.preemptions = self.prompt_tokens = self.cached_tokens = 0
        self.slowness = 1.0
        self._generated = 0
        self._waiting: deque[Request] = deque()
        self._running: dict[Request, None] = {}
        self._prefilling: list[Request] = []
        self._chunks: list[int] = []  # tokens that each of them gets in the planned step
        self._leaving: list[Request] = []
        self._agenda: list[tuple[int, int, Request]] = []  # (step, a number, who): what is to be told after a step
        self._entries = 0
        self._stale = 0
        self._events: list[Event] = []
        self._steps = 0  # steps in which answers grew, since the beginning
        self._decoding = 0
        self._context = 0  # tokens in the cache of those that are decoding
        self._growth = [0] * constants.block_size  # requests that need a new block in step i, modulo the block's size
        self._clock = 0.0  # when the planned run begins
        self._planned = 0  # its steps; 0: nothing to do
        self._until = 0.0  # its end

    # asking

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

    def fits(self, prompt_tokens: int, output_tokens: int) -> bool:
        """Whether such a request can ever be served: alone it has to fit in the KV cache."""
        blocks = -(-(max(1, prompt_tokens) + max(1, output_tokens)) // self.constants.block_size)
        return blocks <= self.cache.capacity

    def generated(self, now: float) -> int:
        """Tokens generated so far, by all requests together."""
        return self._generated + self._decoding * self._steps_done(now)

    def next_event(self) -> float | None:
        """When `advance` is due next; None: nothing happens until somebody comes. There may be nothing to tell then."""
        if self._events:
            return self._events[0].at
        return self._until if self._planned else None

    # acting

    def arrive(self, request: Request, now: float) -> bool:
        """A request comes. False: refused, too many wait. Raises `ValueError` for one that does not fit."""
        if not self.fits(request.prompt_tokens, request.output_tokens):
            raise ValueError("prompt and answer together do not fit in the KV cache")
        if request._state != _NEW:
            raise ValueError("a request comes once")
        self._catch_up(now)
        if len(self._waiting) >= self.constants.max_waiting:
            self._run_to(now)
            return False
        request.arrived = now
        request._state = _WAITING
        self._waiting.append(request)
        if len(self._waiting) == 1 and len(self._running) < self.constants.max_running:
            self._cut(now)
        self._run_to(now)
        return True

    def cancel(self, request: Request, now: float) -> None:
        """Whoever asked has gone: no more is told of it, and its blocks are free after the step in progress."""
        self._catch_up(now)
        if request._state == _WAITING:
            self._waiting.remove(request)
            request._state = _OVER
            self._cut(now)  # it may have been the one that all others wait for
        elif request._state in (_PREFILLING, _DECODING) and not request._left:
            request._left = True
            self._leaving.append(request)
            self._cut(now)
        self._run_to(now)

    def slow_down(self, factor: float, now: float) -> None:
        """From the next step on each one takes `factor` times as long as the constants say."""
        self._catch_up(now)
        self._cut(now)
        self.slowness = factor
        self._run_to(now)

    def advance(self, to: float) -> list[Event]:
        """Everything that happens until `to`, that moment included, in order."""
        self._run_to(to)
        events, self._events = self._events, []
        return events

    # time

    def _run_to(self, to: float) -> None:
        while self._planned and self._until <= to:
            self._end_run()

    def _catch_up(self, now: float) -> None:
        """What ended before now has ended. A step that ends at this moment has not: who comes now is in the next."""
        while self._planned and self._until < now:
            self._end_run()
        if not self._planned:
            self._clock = max(self._clock, now)

    def _cut(self, now: float) -> None:
        """End the planned run with the step that is in progress."""
        if self._planned == 0:
            self._plan()
        elif self._planned > 1:
            steps = self._steps_done(now)
            if steps == 0 or self._end_after(steps) < now:
                steps += 1
            self._planned, self._until = steps, self._end_after(steps)

    def _steps_done(self, now: float) -> int:
        """Steps of the planned run that have ended by now; the last one never has."""
        low, high = 0, max(self._planned - 1, 0)
        while low < high:
            middle = (low + high + 1) // 2
            if self._end_after(middle) <= now:
                low = middle
            else:
                high = middle - 1
        return low

    def _end_after(self, steps: int) -> float:
        """When `steps` steps of the planned run have ended, answers growing only."""
        seconds = self.constants.step.decode(steps, self._decoding, self._context)
        return self._clock + seconds * self.slowness

    def _end_run(self) -> None:
        """The planned run is over: answers have grown, prompts are computed, whoever asked is told; plan the next."""
        steps = self._planned
        self._clock = self._until
        if self._decoding:
            self.cache.grow(self._growth_in(steps))
            self._steps += steps
            self._context += steps * self._decoding
            self._generated += steps * self._decoding
            self._tell()
        if self._chunks:
            self._end_chunks()
        for request in self._leaving:
            if request._state != _OVER:
                self._leave(request, _OVER)
        self._leaving.clear()
        self._plan()

    # a run

    def _plan(self) -> None:
        """Decide what the next run does: one step with prompts in it, or as many as possible without."""
        limits = self.constants
        self._planned = 0
        made_room = self._decoding > 0 and self._make_room()
        budget = limits.chunk - self._decoding
        chunks = self._chunks = []
        prefill = read = 0
        for request in self._prefilling:
            chunk = min(request._target - request._prefilled, max(budget, 0))
            read += self._give(request, chunk)
            budget -= chunk
            prefill += chunk
        while not made_room and budget > 0 and self._waiting and len(self._running) < limits.max_running:
            request = self._waiting[0]
            if not self._admit(request):
                break
            self._waiting.popleft()
            chunk = min(request._target - request._prefilled, budget)
            read += self._give(request, chunk)
            budget -= chunk
            prefill += chunk
        if prefill:
            beginning = sum(1 for chunk in chunks if chunk)
            self._planned = 1
            seconds = limits.step.mixed(prefill, beginning, read, self._decoding, self._context)
            self._until = self._clock + seconds * self.slowness
        elif self._decoding:
            # Who gave way may come back in the step after that: so it is one.
            self._planned = 1 if made_room else self._that_fit(self._next_due() - self._steps)
            self._until = self._end_after(self._planned)

    def _give(self, request: Request, chunk: int) -> int:
        """A request gets a chunk of the planned step. Returns the tokens that it reads from the cache for it."""
        self._chunks.append(chunk)
        if not chunk:
            return 0
        # Found from now on, as in vLLM: whoever is in the same step computes behind it, layer by layer.
        size = self.constants.block_size
        before, after = request._prefilled, request._prefilled + chunk
        assert request._holding is not None
        self.cache.learn(request._holding, request.blocks[before // size : min(after, request._target) // size])
        return before

    def _admit(self, request: Request) -> bool:
        """Take a request into the batch if the cache has room for all of its prompt and one step of the others."""
        size = self.constants.block_size
        target = request.prompt_tokens + request.generated
        blocks = -(-target // size)
        found = self.cache.found(request.blocks, (target - 1) // size)  # the last token has to be computed in any case
        if self.cache.price(found, blocks) + self._growth[self._steps % size] > self.cache.free:
            return False
        request._holding = self.cache.hold(found, blocks)
        request._target = target
        request._prefilled = len(found) * size
        request._state = _PREFILLING
        if request.cached_tokens is None:
            request.cached_tokens = min(request._prefilled, request.prompt_tokens)
            self.prompt_tokens += request.prompt_tokens
            self.cached_tokens += request.cached_tokens
        self._running[request] = None
        self._prefilling.append(request)
        return True

    def _end_chunks(self) -> None:
        """The prompts that were in the step are longer by their chunks, and complete ones yield a token."""
        left: list[Request] = []
        for request, chunk in zip(self._prefilling, self._chunks, strict=True):
            request._prefilled += chunk
            if request._prefilled < request._target:
                left.append(request)
            else:
                self._join(request)
        self._prefilling = left
        self._chunks = []

    def _join(self, request: Request) -> None:
        """A prompt is complete: its request has one more token, and goes on growing."""
        first = request.first_token_at is None
        request.generated += 1
        self._generated += 1
        request._state = _DECODING
        request._joined = self._steps
        request._base = request.generated
        self._decoding += 1
        self._context += request._target
        self._growth[(self._steps - request._target) % len(self._growth)] += 1
        if first:
            request.first_token_at = self._clock
            self._say(FIRST_TOKEN, request)
            if request.generated < request.output_tokens:
                self._note(request)
            else:
                self._finish(request)
        else:
            self._progress(request)

    def _growth_in(self, steps: int) -> int:
        """New blocks that the next `steps` steps need."""
        growth, size = self._growth, len(self._growth)
        start = self._steps % size
        if steps == 1:
            return growth[start]
        rounds, rest = divmod(steps, size)
        end = start + rest
        return rounds * self._decoding + sum(growth[start:end]) + (sum(growth[: end - size]) if end > size else 0)

    def _that_fit(self, steps: int) -> int:
        """So many of these steps as there are blocks for: at least one, as room was made for it."""
        free = self.cache.free
        if self._decoding * (steps // len(self._growth) + 1) <= free or self._growth_in(steps) <= free:
            return steps
        low, high = 1, steps - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self._growth_in(middle) <= free:
                low = middle
            else:
                high = middle - 1
        return low

    def _make_room(self) -> bool:
        """Whether requests had to give up their places so that the next step fits, those taken last first."""
        gave_up = False
        while self._growth[self._steps % len(self._growth)] > self.cache.free:
            request = next(reversed(self._running))
            self._leave(request, _WAITING)
            self._waiting.appendleft(request)
            request.preemptions += 1
            self.preemptions += 1
            self._say(PREEMPTED, request)
            gave_up = True
        return gave_up

    def _leave(self, request: Request, state: int) -> None:
        """A request is no longer in the batch; its blocks may be found again until their place is needed."""
        size = len(self._growth)
        holding = request._holding
        assert holding is not None
        if request._state == _DECODING:
            grown = self._steps - request._joined
            request.generated = request._base + grown
            known = request._target + grown
            self._decoding -= 1
            self._context -= known
            self._growth[(request._joined - request._target) % size] -= 1
            holding.blocks = -(-known // size)
            self.cache.learn(holding, request.blocks[request._target // size : known // size])
            if request._entry:
                request._entry = 0
                self._stale += 1
        else:
            self._prefilling.remove(request)
        self.cache.release(holding)
        del self._running[request]
        request._holding = None
        request._state = state

    # telling

    def _note(self, request: Request) -> None:
        """Put on the agenda when something is to be told of a request that has just been told of."""
        tokens = request.output_tokens
        if request.every:
            tokens = min(tokens, request.generated + request.every)
        self._entries += 1
        request._entry = self._entries
        heappush(self._agenda, (request._joined + tokens - request._base, self._entries, request))

    def _next_due(self) -> int:
        """The step after which there is something to tell."""
        agenda = self._agenda
        if self._stale > COMPACT_AFTER and self._stale * 2 > len(agenda):
            agenda[:] = [entry for entry in agenda if entry[2]._entry == entry[1]]
            heapify(agenda)
            self._stale = 0
        while agenda[0][2]._entry != agenda[0][1]:
            heappop(agenda)
            self._stale -= 1
        return agenda[0][0]

    def _tell(self) -> None:
        """Tell what is due after the steps done."""
        agenda = self._agenda
        while agenda and agenda[0][0] <= self._steps:
            _, entry, request = heappop(agenda)
            if request._entry == entry:
                request._entry = 0
                request.generated = request._base + self._steps - request._joined
                self._progress(request)
            else:
                self._stale -= 1

    def _progress(self, request: Request) -> None:
        """A request has tokens that are to be told of, or all of them."""
        if request.generated >= request.output_tokens:
            self._finish(request)
        else:
            if request.every:
                self._say(TOKENS, request)
            self._note(request)

    def _finish(self, request: Request) -> None:
        self._leave(request, _OVER)
        request.finished_at = self._clock
        self._say(FINISHED, request)

    def _say(self, kind: Kind, request: Request) -> None:
        if not request._left:
            self._events.append(Event(kind, self._clock, request, request.generated))
