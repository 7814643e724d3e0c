"""An engine model on a real clock: requests of a simulated engine are answered when the model says so.

Owns the one timer of an engine, and how its events become tokens to send. May not live here: whose turn it is and what
it takes (`batching`), bytes of answers (`generate`).

The loop's timers count in milliseconds, so what is due within one is told together. With a scale of 10 a second of the
model passes in a tenth of a second, and a millisecond is ten of the model's: times are late by up to that much.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import xxhash

from enginehouse.core.config.sim import SimConfig
from enginehouse.sim.batching import FINISHED, FIRST_TOKEN, EngineModel, Request
from enginehouse.sim.constants import PROFILES, EngineConstants
from enginehouse.sim.model import BYTES_PER_TOKEN

TICK = 0.001
TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
"""vLLM's, in seconds."""


def constants(config: SimConfig) -> EngineConstants:
    """The profile of the settings, with what they change of it."""
    profile = PROFILES[config.engine_model]
    return replace(
        profile,
        kv_tokens=config.kv_tokens or profile.kv_tokens,
        block_size=config.block_size or profile.block_size,
        max_running=config.max_running or profile.max_running,
        max_waiting=config.max_waiting or profile.max_waiting,
    )


def blocks(data: bytes, tokens: int, model: str) -> list[int]:
    """Hashes of the full blocks of a text, each chained to the one before; two models share none."""
    size = tokens * BYTES_PER_TOKEN
    digest = xxhash.xxh3_64_intdigest
    last = digest(model.encode())
    return [last := digest(data[at : at + size], last) for at in range(0, len(data) - size + 1, size)]


class Paced:
    """One engine model, run on the loop's clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: SimConfig) -> None:
        self.model = EngineModel(constants(config))
        self.interval = config.stream_interval
        self.finished = 0
        self.ttft_counts = [0] * (len(TTFT_BUCKETS) + 1)
        self.ttft_sum = 0.0
        self.loop = loop
        self._scale = config.time_scale
        self._began = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.model.slow_down(config.slow_factor, 0.0)

    def now(self) -> float:
        """The model's time, seconds. Not the loop's clock: that one counts in milliseconds."""
        return (time.monotonic() - self._began) * self._scale

    def start(
        self, prompt_tokens: int, count: int, hashes: list[int], stepwise: bool, emit: Callable[[int], None]
    ) -> PacedJob | None:
        """Begin to generate `count` tokens. None: refused, too many wait. Raises `ValueError` where it never fits.

        `emit(n)` says that n more are ready: as they come, or all at the end; never from within this call.
        """
        job = PacedJob(self, emit)
        every = self.interval if stepwise else 0
        request = job.request = Request(prompt_tokens, count, hashes, every, job)
        job.stepwise = stepwise
        if not self.model.arrive(request, self.now()):
            return None
        self._arm()
        return job

    def cancel(self, request: Request) -> None:
        """Whoever asked has gone."""
        self.model.cancel(request, self.now())
        self._arm()

    def slow_down(self, factor: float) -> None:
        """Steps take so many times as long from now on."""
        self.model.slow_down(factor, self.now())
        self._arm()

    def _arm(self) -> None:
        """Set the timer to what happens next. One that is too early stays: it is set again when it fires."""
        due = self.model.next_event()
        if due is None or (self._timer and self._timer_at <= due):
            return
        if self._timer:
            self._timer.cancel()
        self._timer_at = due
        # Half a tick more, because loops round: one that wakes too early has to wake twice.
        self._timer = self.loop.call_later(max(TICK, (due - self.now()) / self._scale + TICK / 2), self._wake)

    def _wake(self) -> None:
        self._timer = None
        changed: dict[PacedJob, None] = {}
        for event in self.model.advance(self.now()):
            job: PacedJob = event.request.tag
            changed[job] = None
            if event.kind == FIRST_TOKEN:
                self._first(event.at - event.request.arrived)
            elif event.kind == FINISHED:
                self.finished += 1
                job.over = True
        for job in changed:
            job.tell()
        self._arm()

    def _first(self, seconds: float) -> None:
        self.ttft_sum += seconds
        place = next((i for i, bound in enumerate(TTFT_BUCKETS) if seconds <= bound), len(TTFT_BUCKETS))
        self.ttft_counts[place] += 1


class PacedJob:
    """One generation. It ends by itself or by `cancel`; while paused the engine goes on, and nothing is emitted."""

    __slots__ = ("_emit", "_engine", "_paused", "_sent", "over", "request", "stepwise")

    def __init__(self, engine: Paced, emit: Callable[[int], None]) -> None:
        self.request: Request
        self.stepwise = False
        self.over = False
        self._engine = engine
        self._emit: Callable[[int], None] | None = emit
        self._sent = 0
        self._paused = False

    @property
    def cached_tokens(self) -> int:
        """Tokens of the prompt that the engine still had."""
        return self.request.cached_tokens or 0

    def tell(self) -> None:
        """Emit what is new."""
        ready = self.request.generated - self._sent
        if ready and self._emit and not self._paused and (self.stepwise or self.over):
            self._sent += ready
            self._emit(ready)

    def pause(self) -> None:
        """Nobody reads: stop emitting."""
        self._paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        self._engine.loop.call_soon(self.tell)  # not from here: the transport is not done telling

    def cancel(self) -> None:
        """End for good."""
        self._emit = None
        if not self.over:
            self._engine.cancel(self.request)
