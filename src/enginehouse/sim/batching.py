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

from enginehouse.sim.batched import (
    DECODING,
    FINISHED,
    FIRST_TOKEN,
    NEW,
    OVER,
    PREEMPTED,
    PREFILLING,
    TOKENS,
    WAITING,
    Event,
    Kind,
    Request,
    State,
)
from enginehouse.sim.constants import EngineConstants
from enginehouse.sim.growing import Growing
from enginehouse.sim.prefix_cache import PrefixCache

__all__ = ["FINISHED", "FIRST_TOKEN", "PREEMPTED", "TOKENS", "EngineModel", "Event", "Kind", "Request"]


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
        self._growing = Growing(constants.block_size)
        self._events: list[Event] = []
        self._clock = 0.0  # when the planned run begins
        self._planned = 0  # its steps; 0: nothing to do
        self._until = 0.0  # its end
        self._pace = 1.0  # how slow it is, whatever is said meanwhile

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
        return self._generated + self._growing.count * self._steps_done(now)

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
        if request.state != NEW:
            raise ValueError("a request comes once")
        self._catch_up(now)
        if len(self._waiting) >= self.constants.max_waiting:
            self._run_to(now)
            return False
        request.arrived = now
        request.state = WAITING
        self._waiting.append(request)
        if len(self._waiting) == 1 and len(self._running) < self.constants.max_running:
            self._cut(now)
        self._run_to(now)
        return True

    def cancel(self, request: Request, now: float) -> None:
        """Whoever asked has gone: no more is told of it, and its blocks are free after the step in progress."""
        self._catch_up(now)
        if request.state == WAITING:
            self._waiting.remove(request)
            request.state = OVER
            self._cut(now)  # it may have been the one that all others wait for
        elif request.state in (PREFILLING, DECODING) and not request.gone:
            request.gone = True
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
            self._clock = now

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
        seconds = self.constants.step.decode(steps, self._growing.count, self._growing.context)
        return self._clock + seconds * self._pace

    def _end_run(self) -> None:
        """The planned run is over: answers have grown, prompts are computed, whoever asked is told; plan the next."""
        steps, growing = self._planned, self._growing
        self._clock = self._until
        if growing.count:
            self.cache.grow(growing.blocks_for(steps))
            self._generated += steps * growing.count
            growing.step(steps)
            while request := growing.due():
                self._progress(request)
        if self._chunks:
            self._end_chunks()
        for request in self._leaving:
            if request.state != OVER:
                self._leave(request, OVER)
        self._leaving.clear()
        self._plan()

    # a run

    def _plan(self) -> None:
        """Decide what the next run does: one step with prompts in it, or as many as possible without."""
        limits, growing = self.constants, self._growing
        self._planned = 0
        self._pace = self.slowness
        made_room = growing.count > 0 and self._make_room()
        budget = limits.chunk - growing.count
        self._chunks = []
        read = 0
        for request in self._prefilling:
            read += self._give(request, budget)
            budget -= self._chunks[-1]
        while not made_room and budget > 0 and self._waiting and len(self._running) < limits.max_running:
            request = self._waiting[0]
            if not self._admit(request):
                break
            self._waiting.popleft()
            read += self._give(request, budget)
            budget -= self._chunks[-1]
        if prefill := sum(self._chunks):
            seconds = limits.step.mixed(prefill, len(self._chunks), read, growing.count, growing.context)
            self._planned, self._until = 1, self._clock + seconds * self._pace
        elif growing.count:
            # Who gave way may come back in the step after that: so it is one.
            self._planned = 1 if made_room else growing.that_fit(growing.until_due(), self.cache.free)
            self._until = self._end_after(self._planned)

    def _give(self, request: Request, budget: int) -> int:
        """A request gets its part of the planned step. Returns the tokens that it reads from the cache for it."""
        chunk = min(request.target - request.prefilled, max(budget, 0))
        self._chunks.append(chunk)
        if not chunk:
            return 0
        # Found from now on, as in vLLM: whoever is in the same step computes behind it, layer by layer.
        size = self.constants.block_size
        before, after = request.prefilled, request.prefilled + chunk
        assert request.holding is not None
        self.cache.learn(request.holding, request.blocks[before // size : after // size])
        return before

    def _admit(self, request: Request) -> bool:
        """Take a request into the batch if the cache has room for all of its prompt and one step of the others."""
        size = self.constants.block_size
        target = request.prompt_tokens + request.generated
        blocks = -(-target // size)
        found = self.cache.found(request.blocks, (target - 1) // size)  # the last token has to be computed in any case
        if self.cache.price(found, blocks) + self._growing.blocks_for(1) > self.cache.free:
            return False
        request.holding = self.cache.hold(found, blocks)
        request.target = target
        request.prefilled = len(found) * size
        request.state = PREFILLING
        if request.cached_tokens is None:
            request.cached_tokens = min(request.prefilled, request.prompt_tokens)
            self.prompt_tokens += request.prompt_tokens
            self.cached_tokens += request.cached_tokens
        self._running[request] = None
        self._prefilling.append(request)
        return True

    def _end_chunks(self) -> None:
        """The prompts that were in the step are longer by their chunks, and complete ones yield a token."""
        left: list[Request] = []
        for request, chunk in zip(self._prefilling, self._chunks, strict=True):
            request.prefilled += chunk
            if request.prefilled < request.target:
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
        request.state = DECODING
        self._growing.join(request)
        if first:
            request.first_token_at = self._clock
            self._say(FIRST_TOKEN, request)
            if request.generated < request.output_tokens:
                self._growing.note(request)
            else:
                self._finish(request)
        else:
            self._progress(request)

    def _make_room(self) -> bool:
        """Whether requests had to give up their places so that the next step fits, those taken last first."""
        gave_up = False
        while self._growing.blocks_for(1) > self.cache.free:
            request = next(reversed(self._running))
            self._leave(request, WAITING)
            self._waiting.appendleft(request)
            request.preemptions += 1
            self.preemptions += 1
            self._say(PREEMPTED, request)
            gave_up = True
        return gave_up

    def _leave(self, request: Request, state: State) -> None:
        """A request is no longer in the batch; its blocks may be found again until their place is needed."""
        holding = request.holding
        assert holding is not None
        if request.state == DECODING:
            size = self.constants.block_size
            known = self._growing.leave(request)
            holding.blocks = -(-known // size)
            self.cache.learn(holding, request.blocks[request.target // size : known // size])
        else:
            self._prefilling.remove(request)
        self.cache.release(holding)
        del self._running[request]
        request.holding = None
        request.state = state

    # telling

    def _progress(self, request: Request) -> None:
        """A request has tokens that are to be told of, or all of them."""
        if request.generated >= request.output_tokens:
            self._finish(request)
        else:
            if request.every:
                self._say(TOKENS, request)
            self._growing.note(request)

    def _finish(self, request: Request) -> None:
        self._leave(request, OVER)
        request.finished_at = self._clock
        self._say(FINISHED, request)

    def _say(self, kind: Kind, request: Request) -> None:
        if not request.gone:
            self._events.append(Event(kind, self._clock, request, request.generated))
