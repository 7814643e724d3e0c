"""One generation: from a piece of work to an answer, streamed or whole.

Owns the order of things (head, opening, tokens, closing) and the two styles' manners. May not live here: the bytes of
events (`shapes`), tokens and their times (`model`).
"""

from __future__ import annotations

import asyncio

from enginehouse.sim.answer import SSE, Answer
from enginehouse.sim.asks import Work
from enginehouse.sim.model import Job, count_tokens, seed, text, token, tokens_in
from enginehouse.sim.paced import Paced, PacedJob, blocks
from enginehouse.sim.shapes import Counted, Shape
from enginehouse.sim.state import Sim

COMMENT = b":\n\n"


class Generation:
    """Produces one answer."""

    def __init__(self, sim: Sim, answer: Answer, shape: Shape, work: Work) -> None:
        self.sim = sim
        self.answer = answer
        self.shape = shape
        self.work = work
        self.stream = work.stream
        self.seed, self.first = _where(work)
        # A partial answer counts the tokens that it was when it was generated, as with engines that have a tokenizer.
        self.prompt_tokens = (
            count_tokens(work.prompt) + self.first if self.first else count_tokens(work.prompt + work.partial)
        )
        natural = work.limit or 0 if work.ignore_eos else max(0, sim.config.tokens - self.first)
        self.count = natural if work.limit is None else min(natural, max(work.limit, 0))
        self.reason = "length" if work.ignore_eos or self.count < natural else "stop"
        self.sent = 0
        self.spoke_at = 0.0
        self.ping: asyncio.TimerHandle | None = None
        self.job: Job | PacedJob | None = None
        self._emit = self._stream if self.stream else self._whole

    def start(self) -> bool:
        """Begin; what is not due now happens by timers. False: refused, the engine is full.

        Raises `ValueError` for what its KV cache will never hold.
        """
        if self.sim.paced and self.count and not self._enter(self.sim.paced):
            return False
        self.answer.cancel = self._cancel
        if self.stream:
            self.answer.close_after = self.answer.close_after or self.sim.llama_style
            if self.sim.llama_style:
                self._arm_ping()
            else:
                self._open()
        if not self.answer.done:
            job = self.job = self.job or self.sim.engine.start(self.count, self.stream, self._emit)
            self.answer.pause, self.answer.resume = job.pause, job.resume
            if self.answer.blocked:
                job.pause()
        return True

    def _enter(self, engine: Paced) -> bool:
        """Put it before the engine's model."""
        written = text(self.seed, self.first, self.count)
        known = f"{self.work.prompt}{self.work.cue}{self.work.partial}".encode("utf-8", "surrogatepass")
        hashes = blocks(known + written, engine.model.constants.block_size, self.work.model)
        self.job = engine.start(self.prompt_tokens, self.count, hashes, self.stream, self._emit)
        return self.job is not None

    def _open(self) -> None:
        self.answer.begin(200, SSE, extra=b"cache-control: no-cache\r\n")

    def _stream(self, ready: int) -> None:
        answer = self.answer
        if not answer.started:
            self._open()
        self.spoke_at = self.sim.loop.time() if self.ping else 0.0
        if self.sent == 0:
            for piece in self.shape.opening(self._counted(0)):
                answer.chunk(piece)
        start = self.first + self.sent
        if self.sim.paced:
            answer.chunk(self.shape.delta(text(self.seed, start, ready)))
        else:
            for index in range(start, start + ready):
                answer.chunk(self.shape.delta(token(self.seed, index)))
        self.sent += ready
        if self.sent >= self.count:
            self._stop_ping()
            for piece in self.shape.closing(*self._result()):
                answer.chunk(piece)
            answer.end()

    def _whole(self, _ready: int) -> None:
        self.answer.whole(200, self.shape.whole(*self._result()))

    def _result(self) -> tuple[str, Counted]:
        written = text(self.seed, self.first, self.count).decode()
        return written, self._counted(self.count)

    def _counted(self, completion: int) -> Counted:
        cached = self.job.cached_tokens if isinstance(self.job, PacedJob) else None
        return Counted(self.reason, self.prompt_tokens, completion, cached)

    def _arm_ping(self) -> None:
        self.spoke_at = self.sim.loop.time()
        self.ping = self.sim.loop.call_later(self.sim.config.ping_interval, self._comment)

    def _comment(self) -> None:
        """A comment where nothing was said for a while; the first one brings the head with it."""
        if self.sim.loop.time() - self.spoke_at >= self.sim.config.ping_interval and not self.answer.blocked:
            if not self.answer.started:
                self._open()
            self.answer.chunk(COMMENT)
        if not self.answer.done:
            self._arm_ping()

    def _cancel(self) -> None:
        if self.job:
            self.job.cancel()
        self._stop_ping()

    def _stop_ping(self) -> None:
        if self.ping:
            self.ping.cancel()
            self.ping = None


def _where(work: Work) -> tuple[int, int]:
    """The answer's seed, and its first token that the client does not have yet."""
    start = seed(work.prompt)
    known = tokens_in(start, work.partial.encode("utf-8", "surrogatepass"))
    return (start, known) if known is not None else (seed(f"{work.prompt}\n{work.partial}"), 0)
