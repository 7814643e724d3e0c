"""What a worker measures: counters and histograms, made of the requests that are over.

Owns `Measures` and its parts, their bounds, and which of them control has not been told of. May not live here: the
names and buckets (`core.metrics`), what a request is told to have been (`log_entries`), gauges (`vitals`), summing over
workers (`control.measured`).

Everything is cumulative since the worker started, and told by the name of the service, not by its incarnation. Labels
are bounded: services are the fleet's, and a model that the house never had is `OTHER`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from enginehouse.core.metrics import METRICS, OTHER, Buckets, Series
from enginehouse.core.outcome import Outcome

if TYPE_CHECKING:
    from enginehouse.wire.access_line import Entry

_ANSWERED: Final = Outcome.ANSWERED
#: The client ended it. On a WebSocket (status 101) that is how it goes.
_LEFT: Final = (Outcome.CLIENT_LEFT, Outcome.CLIENT_STALLED)
#: Pairs of a model and a service that are told apart; further ones count for the model `OTHER`.
MAX_PAIRS: Final = 8192
#: Seconds that a service's counts are kept after it has left: longer than control keeps them, so that they never seem
#: to begin anew where it comes back.
KEEP: Final = 600.0
#: Estimated bytes of what is told at once; the rest follows with the next report.
MAX_TOLD: Final = 256 * 1024
_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class Histogram:
    """Counts in buckets, each bound twice the one before, and the sum."""

    __slots__ = ("_first", "_last", "count", "counts", "sum")

    def __init__(self, name: str) -> None:
        """`name` in `METRICS`."""
        buckets: Buckets | None = METRICS[name].buckets
        assert buckets is not None
        self._first: float = buckets.first
        self._last: int = buckets.bounded
        self.counts = [0] * (buckets.bounded + 1)
        self.count = 0
        self.sum = 0.0

    def add(self, value: float) -> None:
        """One more. About 20 ns compiled, so it may be done for each chunk of a stream."""
        bound, index, last = self._first, 0, self._last
        while value > bound and index < last:
            bound += bound
            index += 1
        self.counts[index] += 1
        self.count += 1
        self.sum += value

    def values(self) -> tuple[float, ...]:
        """As in `Series`."""
        return (*self.counts, self.sum)


class Part(ABC):
    """Some series that are told together."""

    def __init__(self) -> None:
        self.told = -1
        """The version that control was told of."""
        self.gone = 0.0
        """Since when its service is not in the fleet any more; 0.0: it is, or it is of none."""

    @abstractmethod
    def version(self) -> int:
        """Another number whenever anything has changed."""

    @abstractmethod
    def series(self) -> list[Series]:
        """All of them."""


class Served(Part):
    """Requests for one model on one service."""

    def __init__(self, model: str, service: str, queue: Histogram) -> None:
        super().__init__()
        self.model = model
        self.service = service
        self.queue = queue
        self.requests = 0
        self.answered = 0
        """With a status of the class 2xx."""
        self.others: dict[tuple[Outcome, int], int] = {}
        """By outcome and hundreds of the status."""
        self.durations = Histogram("request_duration_seconds")
        self.first_bytes = Histogram("time_to_first_byte_seconds")
        self.gaps = Histogram("time_between_chunks_seconds")
        self.cancelled = 0
        self.tokens_in = 0
        self.tokens_out = 0
        self.tokens_cached = 0
        self.tells_tokens = False
        self.tells_cached = False
        self.prompt_bytes = 0
        self.matched_bytes = 0.0

    def version(self) -> int:
        """See `Part`."""
        return self.requests + self.gaps.count

    def ended(self, status: int, outcome: Outcome) -> None:
        """One more is over."""
        self.requests += 1
        if outcome is _ANSWERED and 200 <= status < 300:
            self.answered += 1
            return
        key = (outcome, status // 100)
        self.others[key] = self.others.get(key, 0) + 1
        if outcome in _LEFT and status != 101:
            self.cancelled += 1

    def series(self) -> list[Series]:
        """See `Part`. What never happened is not told: most services have one model, and few kinds of trouble."""
        model, service = self.model, self.service
        pair = (model, service)
        told: list[Series] = []
        if self.answered:
            told.append(("requests_total", (model, service, _ANSWERED.value, "2xx"), (self.answered,)))
        for (outcome, hundreds), count in self.others.items():
            told.append(("requests_total", (model, service, outcome.value, status_class(hundreds)), (count,)))
        for name, histogram in (
            ("request_duration_seconds", self.durations),
            ("time_to_first_byte_seconds", self.first_bytes),
            ("time_between_chunks_seconds", self.gaps),
        ):
            if histogram.count:
                told.append((name, pair, histogram.values()))
        if self.cancelled:
            told.append(("cancellations_total", pair, (self.cancelled,)))
        if self.tells_tokens:
            told.append(("tokens_total", (model, service, "input"), (self.tokens_in,)))
            told.append(("tokens_total", (model, service, "output"), (self.tokens_out,)))
        if self.tells_cached:
            told.append(("tokens_total", (model, service, "cached"), (self.tokens_cached,)))
        if self.prompt_bytes:
            told.append(("prefix_prompt_bytes_total", pair, (self.prompt_bytes,)))
            told.append(("prefix_matched_bytes_total", pair, (self.matched_bytes,)))
        return told


class Tries(Part):
    """Attempts at one service."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service
        self.answered = 0
        self.failed = 0
        self._others: dict[Outcome, int] = {}
        self.ejections = 0

    def add(self, outcome: Outcome) -> None:
        """One more is over, other than answered."""
        self.failed += 1
        self._others[outcome] = self._others.get(outcome, 0) + 1

    def version(self) -> int:
        """See `Part`."""
        return self.answered + self.failed + self.ejections

    def series(self) -> list[Series]:
        """See `Part`."""
        told: list[Series] = [("ejections_total", (self.service,), (self.ejections,))]
        if self.answered:
            told.append(("attempts_total", (self.service, _ANSWERED.value), (self.answered,)))
        for outcome, count in self._others.items():
            told.append(("attempts_total", (self.service, outcome.value), (count,)))
        return told


class Lone(Part):
    """A histogram by itself."""

    def __init__(self, name: str, labels: tuple[str, ...]) -> None:
        super().__init__()
        self._name = name
        self._labels = labels
        self.histogram = Histogram(name)

    def version(self) -> int:
        """See `Part`."""
        return self.histogram.count

    def series(self) -> list[Series]:
        """See `Part`."""
        return [(self._name, self._labels, self.histogram.values())]


class Plain(Part):
    """Counters of the whole worker, by name and labels."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[tuple[str, tuple[str, ...]], float] = {}
        self._version = 0

    def add(self, name: str, labels: tuple[str, ...]) -> None:
        """One more."""
        self.put(name, labels, self._counts.get((name, labels), 0) + 1)

    def put(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """So many by now."""
        key = (name, labels)
        if self._counts.get(key) != value:
            self._counts[key] = value
            self._version += 1

    def version(self) -> int:
        """See `Part`."""
        return self._version

    def series(self) -> list[Series]:
        """See `Part`."""
        return [(name, labels, (value,)) for (name, labels), value in self._counts.items()]


class Measures:
    """All of one worker, number `index`. A taker of `ended`."""

    def __init__(self, index: int, max_pairs: int = MAX_PAIRS, max_told: int = MAX_TOLD) -> None:
        self._max_pairs = max_pairs
        self._max_told = max_told
        self.plain = Plain()
        self.lag = Lone("loop_lag_seconds", (str(index),))
        self._overhead = Lone("overhead_seconds", ())
        self._pairs: dict[tuple[str, str], Served] = {}
        self._queues: dict[str, Lone] = {}
        self._tries: dict[str, Tries] = {}
        self._known: frozenset[str] = frozenset()
        self._untold: list[Part] = []

    def take(self, entries: list[Entry], now: float) -> None:
        """Count them (see `ended.Taker`). About 0.6 µs for each, compiled."""
        overheads = self._overhead.histogram
        for (
            begun, ended, first_byte, queued, _id, _client, _method, _target, model, service,
            status, outcome, _attempts, _bytes_in, _bytes_out, _stream, usage, warm, _reason, _key,
            overhead, own, prompt, _trace,
        ) in entries:  # fmt: skip
            if own:
                self._count_own(outcome, status // 100)
                continue
            served = self._pairs.get((model, service))
            if served is None:
                served = self.served(model, service)
            served.ended(status, outcome)
            if not service:
                if queued:
                    served.queue.add(queued)
                continue
            served.queue.add(queued)
            served.durations.add(ended - begun)
            if overhead >= 0:
                overheads.add(overhead)
            if first_byte:
                served.first_bytes.add(first_byte - begun)
            if usage is not None:
                tokens_in, tokens_out, cached = usage
                served.tells_tokens = True
                served.tokens_in += tokens_in
                served.tokens_out += tokens_out
                if cached is not None:
                    served.tells_cached = True
                    served.tokens_cached += cached
            if warm >= 0:
                served.prompt_bytes += prompt
                served.matched_bytes += prompt * warm

    def _count_own(self, outcome: Outcome, hundreds: int) -> None:
        self.plain.add("own_requests_total", (outcome.value, status_class(hundreds)))

    def served(self, model: str, service: str) -> Served:
        """The counts of requests for a model on a service, "" for none."""
        found = self._pairs.get((model, service))
        if found is not None:
            return found
        if (model and model not in self._known) or len(self._pairs) >= self._max_pairs:
            model = OTHER
            found = self._pairs.get((model, service))
            if found is not None:
                return found
        found = self._pairs[model, service] = Served(model, service, self._queue(model).histogram)
        return found

    def _queue(self, model: str) -> Lone:
        found = self._queues.get(model)
        if found is None:
            found = self._queues[model] = Lone("queue_seconds", (model,))
        return found

    def tries(self, service: str) -> Tries:
        """The counts of attempts at a service."""
        found = self._tries.get(service)
        if found is None:
            found = self._tries[service] = Tries(service)
        return found

    # -- fleets --------------------------------------------------------------------------------------------------------

    def use(self, services: set[str], known: frozenset[str], now: float) -> None:
        """A new fleet: its services, and every model that the house has or had. `now`: monotonic seconds."""
        self._known = known
        for (_, service), served in self._pairs.items():
            _note(served, not service or service in services, now)
        for service, tries in self._tries.items():
            _note(tries, service in services, now)
        self._drop_gone(now - KEEP if len(self._pairs) < self._max_pairs else math.inf)

    def _drop_gone(self, before: float) -> None:
        """Forget what has been gone since `before`, or for longer."""
        for pair in [pair for pair, served in self._pairs.items() if 0.0 < served.gone <= before]:
            del self._pairs[pair]
        for service in [service for service, tries in self._tries.items() if 0.0 < tries.gone <= before]:
            del self._tries[service]
        models = {model for model, _ in self._pairs}
        for model in [model for model in self._queues if model not in models]:
            del self._queues[model]

    # -- control -------------------------------------------------------------------------------------------------------

    def forget_told(self) -> None:
        """Control knows nothing: it is told everything."""
        self._untold.clear()
        for part in self._parts():
            part.told = -1

    def tell(self) -> tuple[list[Series], bool]:
        """What has changed since it was told, and whether more of it follows with the next report."""
        told: list[Series] = []
        size = 0
        if not self._untold:
            self._untold = [part for part in self._parts() if part.version() != part.told]
        while self._untold and size < self._max_told:
            part = self._untold.pop()
            part.told = part.version()
            series = part.series()
            told += series
            for _, labels, values in series:
                size += 40 + 9 * len(values)
                for label in labels:
                    size += len(label)
        return told, bool(self._untold)

    def _parts(self) -> Iterator[Part]:
        yield self.plain
        yield self.lag
        yield self._overhead
        yield from self._queues.values()
        yield from self._tries.values()
        yield from self._pairs.values()


def _note(part: Part, there: bool, now: float) -> None:
    if there:
        part.gone = 0.0
    elif not part.gone:
        part.gone = now


def status_class(hundreds: int) -> str:
    """2 is "2xx"; "none" where there was no status, or one that there is not."""
    return _CLASSES[hundreds] if 0 <= hundreds < len(_CLASSES) else "none"
