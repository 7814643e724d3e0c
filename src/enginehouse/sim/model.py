"""The engine inside: which tokens answer a prompt, and when each of them is ready.

Owns the deterministic text and the time a generation takes. May not live here: HTTP, or the shape of any answer.
The text depends on the prompt alone, so two engines give the same answer, and one can go on where another stopped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from hashlib import blake2b

VOCABULARY = """
    the a house of many engines one door each room has its own fire and every guest finds warm light here we count
    small steps from morning until night while rivers run slow under old bridges naïve über café 日本 🙂 birds sing
    who asked for rain may wait at our table then bread salt wine songs never end but stay near kind hands
"""
WORDS = tuple(VOCABULARY.split())
FIRST = tuple(word.encode() for word in WORDS)
LATER = tuple(b" " + word for word in FIRST)
BYTES_PER_TOKEN = 4
"""Rule of thumb for English text; good enough for usage that only has to be the same every time."""
MASK = (1 << 64) - 1
KNOWN = frozenset(FIRST)
MAX_PARTIAL = 8192
"""Tokens at the end of a prompt that are recognised as the beginning of its answer."""


def seed(prompt: str) -> int:
    """The number from which all tokens of the answer follow."""
    return int.from_bytes(blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def token(start: int, index: int) -> bytes:
    """Token number `index` of the answer that follows from `start`: a word, with a blank before all but the first."""
    mixed = (start + index * 0x9E3779B97F4A7C15) & MASK  # splitmix64: any token without those before it
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    return (LATER if index else FIRST)[(mixed >> 32) % len(WORDS)]


def text(start: int, first: int, count: int) -> bytes:
    """Tokens `first` to `first + count - 1`, joined."""
    return b"".join([token(start, index) for index in range(first, first + count)])


def tokens_in(start: int, partial: bytes) -> int | None:
    """How many tokens of the answer `partial` is; None where it is not its beginning or ends inside a token."""
    count = at = 0
    while at < len(partial):
        word = token(start, count)
        if not partial.startswith(word, at):
            return None
        at += len(word)
        count += 1
    return count


def parted(prompt: str) -> tuple[str, str]:
    """A prompt, and the beginning of its own answer where it ends with one.

    Where that can be read in several ways the longest answer counts, so that it stays the same one as it grows.
    """
    data = prompt.encode("utf-8", "surrogatepass")
    digest, hashed = blake2b(digest_size=8), 0
    for start in reversed(_starts(data)):
        digest.update(data[hashed:start])
        hashed = start
        if tokens_in(int.from_bytes(digest.digest()), data[start:]):
            return data[:start].decode("utf-8", "surrogatepass"), data[start:].decode("utf-8", "surrogatepass")
    return prompt, ""


def _starts(data: bytes) -> list[int]:
    """Where an answer may begin with which `data` ends, the last place first: all behind it are words we know."""
    starts: list[int] = []
    end = len(data)
    for _ in range(MAX_PARTIAL):
        blank = data.rfind(b" ", 0, end)
        word = data[blank + 1 : end]
        starts += sorted((end - len(known) for known in KNOWN if word.endswith(known)), reverse=True)
        if word not in KNOWN or blank < 0:
            break
        end = blank
    return starts


def count_tokens(prompt: str) -> int:
    """How many tokens a prompt has."""
    return max(1, -(-len(prompt.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN))


class Engine:
    """Runs up to `slots` jobs (0: any number), each as if it were alone; the others wait, the oldest first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ttft: float, time_per_token: float, slots: int = 0) -> None:
        self.loop = loop
        self.ttft = ttft
        self.time_per_token = time_per_token
        self._slots = slots
        self._running = 0
        self._waiting: deque[Job] = deque()

    def start(self, count: int, stepwise: bool, emit: Callable[[int], None]) -> Job:
        """Begin to generate `count` tokens. `emit(n)` says that n more are ready: as they come, or all at the end."""
        job = Job(self, count, stepwise, emit)
        if count == 0 or not (stepwise or self.ttft or self.time_per_token):
            emit(count)
        elif self._slots and self._running >= self._slots:
            self._waiting.append(job)
        else:
            self._begin(job)
        return job

    def _begin(self, job: Job) -> None:
        self._running += 1
        job.begin()

    def freed(self, job: Job, begun: bool) -> None:
        """A job is over, or will never begin; the next one may."""
        if begun:
            self._running -= 1
            if self._waiting:
                self._begin(self._waiting.popleft())
        elif job in self._waiting:
            self._waiting.remove(job)


class Job:
    """One generation. It ends by itself or by `cancel`; while paused nothing is emitted."""

    __slots__ = (
        "_begun",
        "_count",
        "_emit",
        "_engine",
        "_handle",
        "_over",
        "_paused",
        "_sent",
        "_stepwise",
        "first_at",
    )

    def __init__(self, engine: Engine, count: int, stepwise: bool, emit: Callable[[int], None]) -> None:
        self.first_at = 0.0
        self._engine = engine
        self._count = count
        self._stepwise = stepwise
        self._emit = emit
        self._sent = 0
        self._paused = False
        self._handle: asyncio.Handle | None = None
        self._begun = self._over = False

    def begin(self) -> None:
        """It has a slot."""
        engine = self._engine
        self._begun = True
        self.first_at = engine.loop.time() + engine.ttft
        if not self._paused:
            self.wait_until(
                self.first_at if self._stepwise else self.first_at + (self._count - 1) * engine.time_per_token
            )

    def wait_until(self, when: float) -> None:
        """Arm the timer."""
        loop = self._engine.loop
        self._handle = loop.call_at(when, self._ready) if when > loop.time() else loop.call_soon(self._ready)

    def _ready(self) -> None:
        self._handle = None
        step = self._engine.time_per_token
        due = self._count
        if self._stepwise:
            passed = int((self._engine.loop.time() - self.first_at) / step + 1e-6) if step else self._sent
            due = min(self._count, max(passed, self._sent) + 1)
        ready, self._sent = due - self._sent, due
        self._emit(ready)
        if due == self._count:
            self._end()
        elif not self._paused and self._emit is not _nothing:
            self.wait_until(self.first_at + due * step)

    def pause(self) -> None:
        """Nobody reads: stop emitting."""
        self._paused = True
        if self._handle:
            self._handle.cancel()
            self._handle = None

    def resume(self) -> None:
        """Go on after `pause`."""
        if self._paused:
            self._paused = False
            if self._begun and self._sent < self._count and self._emit is not _nothing:
                self.wait_until(self.first_at + self._sent * self._engine.time_per_token)

    def cancel(self) -> None:
        """End for good."""
        self.pause()
        self._emit = _nothing
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._engine.freed(self, self._begun)


def _nothing(_ready: int) -> None:
    """Takes the place of `emit` in a cancelled job."""
