"""The memory that the processes of one router share: layout and access, on a buffer somebody else mapped.

Owns: `Shared`: per worker a beat, a state, rows of loads and of queued work, the turns of its lines and what it saw
fail; per service its `Standing`, its rest, a learned cap, and what is warm there (`policy.prefix_index`); the table of
remembered ids. Races are benign by construction: every row and beat has one writer, two processes that change a
standing at once have seen the same and write nearly the same, and a torn id entry fails its generation check.
May not live here: mapping the memory (`supervisor`, `app`), what a standing becomes (`policy.ejection`), clocks (times
are arguments, monotonic seconds, which on one host mean the same in every process).
"""

from __future__ import annotations

import enum
from typing import NamedTuple
from zlib import crc32

from enginehouse.core.units import MAX_SERVICES, MAX_WORKERS, MIB

#: Entries of the id table; direct-mapped, so an id lives until another one with the same hash replaces it.
ID_ENTRIES = 65536
#: Places for lines of waiting requests, found by a hash of the line's name; two lines may share one.
LINES = 512
#: Chunks of prompts that are remembered per service, one word each: 64 KiB a service. Pages that nobody has written to
#: do not exist: a service that serves no prompts costs nothing.
CHUNKS = 8192
#: Chunks of which it is remembered who was given them last, one word each: 8 MiB in all, where a fleet is large.
LEARNERS = 1 << 20

_BEATS = 0
_STATES = _BEATS + 8 * MAX_WORKERS
_EJECTED = _STATES + 8 * MAX_WORKERS
_UNDECIDED = _EJECTED + 8 * MAX_SERVICES
_LEVELS = _UNDECIDED + 8 * MAX_SERVICES
_STREAKS = _LEVELS + 8 * MAX_SERVICES
_SLOW_FROM = _STREAKS + 8 * MAX_SERVICES
_SLOW_UNTIL = _SLOW_FROM + 8 * MAX_SERVICES
_REST = _SLOW_UNTIL + 8 * MAX_SERVICES
_LATEST = _REST + 8 * MAX_SERVICES
_IDS = _LATEST + 8
_LOADS = _IDS + 16 * ID_ENTRIES
_LEARNED = _LOADS + 4 * MAX_WORKERS * MAX_SERVICES
_WAITING = _LEARNED + 8 * MAX_SERVICES
_CROWDED = _WAITING + 8 * MAX_WORKERS
_TURNS = _CROWDED + 8
_TALLIES = _TURNS + 8 * MAX_WORKERS * LINES
_QUEUED = _TALLIES + 8 * MAX_WORKERS * MAX_SERVICES
_HELD = _QUEUED + 4 * MAX_WORKERS * MAX_SERVICES
_OWNERS = _HELD + 4 * MAX_WORKERS * MAX_SERVICES
_CLOCKS = _OWNERS + 8 * MAX_SERVICES
_DOUBTS = _CLOCKS + 8 * MAX_SERVICES
_RATES = _DOUBTS + 8 * MAX_SERVICES
_TOKEN_BYTES = _RATES + 8 * MAX_SERVICES
_ROOMS = _TOKEN_BYTES + 8 * MAX_SERVICES
_WATCHED = _ROOMS + 8 * MAX_SERVICES
_CHUNKS = -(-(_WATCHED + 8) // 4096) * 4096
_LEARNERS = _CHUNKS + 8 * CHUNKS * MAX_SERVICES
#: Row of the router's own paths, which workers proxy to control as to any other service; never given to a service.
CONTROL_SLOT = MAX_SERVICES - 1
_KEPT = _LEARNERS + 8 * LEARNERS
#: Bytes that control may keep beyond its own life (`Shared.keep`).
MAX_KEPT = 32 * MIB
_KEPT_HEAD = 16
_HALF = _KEPT_HEAD + MAX_KEPT
#: Bytes to map, of which most are never touched.
SIZE = _KEPT + 2 * _HALF


class WorkerState(enum.IntEnum):
    """What a worker last said of itself."""

    ABSENT = 0
    SERVING = 1
    STOPPING = 2
    """Accepts no more; finishes what runs."""


class Standing(NamedTuple):
    """What its requests have brought a service. All zero: nothing. Times in monotonic seconds."""

    level: int = 0
    """Ejections one after the other, 0 for none that still counts."""
    ejected_until: float = 0.0
    """No requests before this time."""
    undecided_until: float = 0.0
    """Between `ejected_until` and this time the next request is its trial; afterwards it counts as any other."""
    slow_from: float = 0.0
    """When it came back."""
    slow_until: float = 0.0
    """From `slow_from` to this time it gets less than its part."""


class Shared:
    """Typed views on the shared bytes. `buffer` has at least `SIZE` bytes, zeroed when new."""

    def __init__(self, buffer: memoryview) -> None:
        def part(start: int, size: int) -> memoryview:
            return buffer[start : start + size]

        self.beats: memoryview[float] = part(_BEATS, 8 * MAX_WORKERS).cast("d")
        self.states = part(_STATES, 8 * MAX_WORKERS).cast("q")
        self.ejected_until: memoryview[float] = part(_EJECTED, 8 * MAX_SERVICES).cast("d")
        self.undecided_until: memoryview[float] = part(_UNDECIDED, 8 * MAX_SERVICES).cast("d")
        self.levels = part(_LEVELS, 8 * MAX_SERVICES).cast("q")
        self.streaks = part(_STREAKS, 8 * MAX_SERVICES).cast("q")
        """Failures one after the other, whichever workers they met."""
        self.slow_from: memoryview[float] = part(_SLOW_FROM, 8 * MAX_SERVICES).cast("d")
        self.slow_until: memoryview[float] = part(_SLOW_UNTIL, 8 * MAX_SERVICES).cast("d")
        self.rest_until: memoryview[float] = part(_REST, 8 * MAX_SERVICES).cast("d")
        """It said that it can take nothing before this time: others go first."""
        self.latest_ejection: memoryview[float] = part(_LATEST, 8).cast("d")
        """One item: after this time nobody is ejected, rests or returns slowly. So mostly one look is enough."""
        self._ids = part(_IDS, 16 * ID_ENTRIES).cast("Q")
        rows = [part(_LOADS + w * 4 * MAX_SERVICES, 4 * MAX_SERVICES) for w in range(MAX_WORKERS)]
        self.loads = [row.cast("i") for row in rows]
        """In-flight requests: `loads[worker][slot]`. Only that worker writes its row."""

        self.learned = part(_LEARNED, 8 * MAX_SERVICES).cast("q")
        """Per slot the learned cap of its service, as `policy.admission` packs it. Workers change it without a lock: a
        step of one may be lost, which the next one makes up for."""
        self.waiting = part(_WAITING, 8 * MAX_WORKERS).cast("q")
        """Requests that wait in each worker."""
        self.crowded = part(_CROWDED, 8).cast("q")
        """One item: not 0 while somebody waits anywhere, so that mostly one look is enough. May be late by a sweep."""
        turns = [part(_TURNS + w * 8 * LINES, 8 * LINES) for w in range(MAX_WORKERS)]
        self.turns: list[memoryview[float]] = [row.cast("d") for row in turns]
        """`turns[worker][line]`: when that worker's line last had its turn, 0 while nobody waits in it."""

        self._tallies = [part(_TALLIES + w * 8 * MAX_SERVICES, 8 * MAX_SERVICES).cast("Q") for w in range(MAX_WORKERS)]
        rows = [part(_QUEUED + w * 4 * MAX_SERVICES, 4 * MAX_SERVICES) for w in range(MAX_WORKERS)]
        self.queued = [row.cast("i") for row in rows]
        """Tokens that engines have to compute before a first byte: `queued[worker][slot]`, one writer as for loads."""
        rows = [part(_HELD + w * 4 * MAX_SERVICES, 4 * MAX_SERVICES) for w in range(MAX_WORKERS)]
        self.held = [row.cast("i") for row in rows]
        """Tokens of the prompts in flight, from the dispatch to the end of the answer: `held[worker][slot]`."""
        self.owners = part(_OWNERS, 8 * MAX_SERVICES).cast("q")
        """Per slot the generation that all of the following is of."""
        self.clocks = part(_CLOCKS, 8 * MAX_SERVICES).cast("q")
        """Per slot, the KiB of chunks that its services had to learn; only ever rises."""
        self.doubts = part(_DOUBTS, 8 * MAX_SERVICES).cast("q")
        """Per slot, how often in a row nothing was warm that should have been."""
        self.rates: memoryview[float] = part(_RATES, 8 * MAX_SERVICES).cast("d")
        """Prompt tokens that a service computes in a second; 0 while not learned."""
        self.token_bytes: memoryview[float] = part(_TOKEN_BYTES, 8 * MAX_SERVICES).cast("d")
        """Bytes of a prompt's JSON for each of its tokens; 0 while not learned."""
        self.rooms: memoryview[float] = part(_ROOMS, 8 * MAX_SERVICES).cast("d")
        """What a service keeps warm, as a multiple of what its KV cache should hold; 0 while not learned."""
        self.watched: memoryview[float] = part(_WATCHED, 8).cast("d")
        """One item, control's to write: until then somebody watches requests, and workers show them. Mostly past."""
        self.chunks = part(_CHUNKS, 8 * CHUNKS * MAX_SERVICES).cast("q")
        """`CHUNKS` words for each slot, as `policy.prefix_index` packs them."""
        self.learners = part(_LEARNERS, 8 * LEARNERS).cast("q")
        """Who was given a chunk last, as `policy.shortlist` packs it."""
        self._kept = [part(_KEPT + number * _HALF, _HALF) for number in range(2)]

    def keep(self, state: bytes) -> bool:
        """Keep what the next control is to know; for one process to call. False where it is too long to be kept.

        It goes where the last but one was, and counts when it is whole: whoever dies meanwhile leaves the last one.
        """
        if len(state) > MAX_KEPT:
            return False
        numbers = [self._kept_number(half) for half in self._kept]
        half = self._kept[numbers.index(min(numbers))]
        half[:_KEPT_HEAD] = bytes(_KEPT_HEAD)
        half[_KEPT_HEAD : _KEPT_HEAD + len(state)] = state
        head = len(state).to_bytes(4, "little") + crc32(state).to_bytes(4, "little")
        half[:_KEPT_HEAD] = head + (max(numbers) + 1).to_bytes(8, "little")
        return True

    def kept(self) -> bytes:
        """What `keep` was given last, b"" for nothing."""
        for half in sorted(self._kept, key=self._kept_number, reverse=True):
            size, check = int.from_bytes(half[:4], "little"), int.from_bytes(half[4:8], "little")
            state = bytes(half[_KEPT_HEAD : _KEPT_HEAD + min(size, MAX_KEPT)])
            if state and crc32(state) == check:
                return state
        return b""

    @staticmethod
    def _kept_number(half: memoryview) -> int:
        return int.from_bytes(half[8:_KEPT_HEAD], "little")

    def queued_tokens(self, slot: int) -> int:
        """Tokens of prompts that a service has to compute, over all workers."""
        return sum([row[slot] for row in self.queued])

    def load(self, slot: int, workers: int = MAX_WORKERS) -> int:
        """Requests in flight on a service, over the first `workers` workers."""
        return sum([row[slot] for row in self.loads[:workers]])

    def living(self, own: int) -> tuple[memoryview[int], ...]:
        """Rows of loads of the workers that have ever given a sign of life, and that of worker `own` in any case."""
        return tuple([self.loads[worker] for worker in self._alive(own)])

    def living_queued(self, own: int) -> tuple[memoryview[int], ...]:
        """The same for rows of queued tokens."""
        return tuple([self.queued[worker] for worker in self._alive(own)])

    def living_held(self, own: int) -> tuple[memoryview[int], ...]:
        """The same for rows of tokens of the prompts in flight."""
        return tuple([self.held[worker] for worker in self._alive(own)])

    def _alive(self, own: int) -> list[int]:
        beats = self.beats.tolist()
        return [worker for worker in range(MAX_WORKERS) if beats[worker] or worker == own]

    def forget_worker(self, worker: int) -> None:
        """Drop a dead worker's row: what it had in flight is gone with its connections."""
        for row in (self.loads[worker], self.queued[worker], self.held[worker], self._tallies[worker]):
            for slot in range(MAX_SERVICES):
                if row[slot]:
                    row[slot] = 0
        turns = self.turns[worker]
        for line in range(LINES):
            turns[line] = 0.0
        self.waiting[worker] = 0
        self.states[worker] = WorkerState.ABSENT
        self.beats[worker] = 0.0

    def standing(self, slot: int) -> Standing:
        """How a service stands."""
        return Standing(
            self.levels[slot],
            self.ejected_until[slot],
            self.undecided_until[slot],
            self.slow_from[slot],
            self.slow_until[slot],
        )

    def put(self, slot: int, standing: Standing) -> None:
        """Every process sees it at once; what concerns choosing is written first."""
        self._stir(max(standing.ejected_until, standing.slow_until))
        self.ejected_until[slot] = standing.ejected_until
        self.undecided_until[slot] = standing.undecided_until
        self.levels[slot] = standing.level
        self.slow_from[slot] = standing.slow_from
        self.slow_until[slot] = standing.slow_until
        self.streaks[slot] = 0

    def rest(self, slot: int, until: float) -> None:
        """The service rests; a later end set by somebody else stays."""
        self._stir(until)
        if until > self.rest_until[slot]:
            self.rest_until[slot] = until

    def readmit(self, slot: int) -> None:
        """Nothing is held against the service any more, or the slot is given to another one."""
        self.rest_until[slot] = 0.0
        self.put(slot, Standing())

    def settle(self) -> None:
        """Set `latest_ejection` to what holds now: it is only ever raised by others, also for what has ended early.

        For one process to call now and then; should it miss what another one writes at that very moment, the next call
        makes up for it.
        """
        before = self.latest_ejection[0]
        latest = max([max(part.tolist()) for part in (self.ejected_until, self.rest_until, self.slow_until)])
        if self.latest_ejection[0] == before != latest:
            self.latest_ejection[0] = latest

    def _stir(self, until: float) -> None:
        if until > self.latest_ejection[0]:
            self.latest_ejection[0] = until

    def note(self, worker: int, slot: int, ended: int, failed: int) -> None:
        """What this worker saw end on a service lately, and fail: one word, so that the two belong together."""
        self._tallies[worker][slot] = ended << 32 | failed

    def noted(self, slot: int) -> tuple[int, int]:
        """(ended, failed) as all workers have noted them."""
        words = [row[slot] for row in self._tallies]
        return sum([word >> 32 for word in words]), sum([word & 0xFFFFFFFF for word in words])

    def remember(self, digest: int, slot: int, generation: int) -> None:
        """Note which service made an id. `digest` is a 64-bit hash that is the same in every process, never 0."""
        at = 2 * (digest % ID_ENTRIES)
        self._ids[at] = 0
        self._ids[at + 1] = generation << 32 | slot
        self._ids[at] = digest

    def recall(self, digest: int) -> tuple[int, int] | None:
        """(slot, generation) of the service that made an id, or None."""
        at = 2 * (digest % ID_ENTRIES)
        if self._ids[at] != digest:
            return None
        packed = self._ids[at + 1]
        return packed & 0xFFFFFFFF, packed >> 32
