"""What happens in the house this second: counts, rates, requests under way, requests that have just ended.

Owns `Live`: joining what workers show, and the objects of the feed, whose shape the reference describes. May not live
here: who follows and when a second is over (`feed`), HTTP (`live_api`), what is counted (`ledger`, `measured`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from enginehouse import __version__
from enginehouse.control.events import Journal
from enginehouse.control.history import History
from enginehouse.control.ledger import Ledger
from enginehouse.control.measured import Measured
from enginehouse.control.rates import NONE, Added, Window, total
from enginehouse.control.roster import Entry, Roster
from enginehouse.control.views import WELL, Views
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Report
from enginehouse.core.glimpse import MAX_ENDED, MAX_UNDER_WAY, Ended, Glimpse, UnderWay
from enginehouse.core.shared import Shared

#: Rates are means over so many seconds.
WINDOW: Final = 10
#: A glimpse of a worker that showed nothing since is forgotten after so many seconds.
STALE: Final = 3.0
#: Requests that ended, of all services, kept for the pages of single services.
REMEMBERED: Final = 512
#: Events in the first object that a follower gets.
FIRST_EVENTS: Final = 100

#: Members of an object of the feed, and of their rows; the reference is made of them.
MEMBERS: Final = {
    "time": "Unix seconds",
    "version": "of the router",
    "synced": "whether every source of services has answered",
    "policy": "the default policy",
    "actions": "whether a token is configured (`admin_token_file`)",
    "full": "whether `services` has every row",
    "totals": "`{requests, errors, in_flight, waiting, tokens_in, tokens_out, tokens_cached, rate, error_rate, "
    "tokens_in_rate, tokens_out_rate, ttft, hit_share}`: requests for engines that are over, those of them that "
    "engine or router failed, how many are with engines and how many wait for one; tokens as engines tell them; "
    "`ttft` is `{p50, p90, p99}` of the time to the first byte; `hit_share` the part of the prompts that was thought "
    "to be in caches",
    "services": "rows `{name, state, reason, models, in_flight, capacity, waiting_tokens, requests, errors, rate, "
    "token_rate, ttft, weight, url}`; `state` is `up`, `returning` (it gets a growing part), `down`, `ejected`, "
    "`trial` (its next request decides), `draining`, `drained`, `withdrawn` or `unknown`; `requests` and `errors` "
    "count attempts; `waiting_tokens` of prompts it still has to compute, as estimated",
    "models": "rows `{id, services, healthy, policy, in_flight, waiting, rate, ttft, hit_share}`, always all of them; "
    "`in_flight` is what its services have, other models' requests included",
    "under_way": "at most 256 requests that are not over, the oldest first: `{id, model, service, seconds, stream, "
    "phase}`; `phase` is `waiting` (for a service), `connecting`, `sent` or `answering`",
    "recent": "at most 64 requests that have ended since the last object, of all workers: `{id, time, model, service, "
    "status, outcome, termination, ms, ttft_ms, tokens_in, tokens_out, reason}`, as in the "
    "[access log](../how-to/access-log.md)",
    "events": "what has happened since the last object; in the first one, the last 100",
    "history": "in the first object only: `{step, rows}`, the last five minutes, a row each `step` seconds, the oldest "
    "first: of `totals` the rates, `ttft`, `hit_share`, `in_flight` and `waiting`",
}

Row = dict[str, Any]


class Live:
    """One house. `clock` gives monotonic seconds, `wall` Unix seconds. Costs nothing while nobody calls `step`."""

    def __init__(
        self,
        config: RouterConfig,
        roster: Roster,
        ledger: Ledger,
        measured: Measured,
        views: Views,
        journal: Journal,
        history: History,
        shared: Shared,
        clock: Callable[[], float],
        wall: Callable[[], float],
        *,
        actions: bool,
    ) -> None:
        """`actions`: may somebody act through the page, given the token?"""
        self._config = config
        self._roster = roster
        self._ledger = ledger
        self._measured = measured
        self._views = views
        self._journal = journal
        self._history = history
        self._shared = shared
        self._clock = clock
        self._wall = wall
        self._actions = actions
        self._glimpses: dict[int, tuple[float, Glimpse]] = {}
        self._ended: deque[Ended] = deque(maxlen=REMEMBERED)
        self._new_ended: deque[Ended] = deque(maxlen=MAX_ENDED)
        self._window = Window(WINDOW)
        self._began = False
        self._rows: dict[str, Row] = {}
        self._told = 0
        self._common: Row = {}

    # -- what workers show ---------------------------------------------------------------------------------------------

    def take(self, report: Report) -> None:
        """Keep what the worker shows, if it shows anything."""
        if report.glimpse is not None:
            self._glimpses[report.worker] = self._clock(), report.glimpse
            self._ended.extend(report.glimpse.ended)
            self._new_ended.extend(report.glimpse.ended)

    def recent(self, service: str) -> list[Row]:
        """Requests that this service had last, the newest first, as far as somebody watched them end."""
        offset = self._wall() - self._clock()
        return [_ended(ended, offset) for ended in reversed(self._ended) if ended.service == service][:MAX_ENDED]

    # -- the feed ------------------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """Nobody follows any more: begin anew with the next one."""
        self._began = False
        self._glimpses.clear()
        self._new_ended.clear()
        self._rows = {}

    def step(self) -> bytes:
        """A second is over: what is different now. For those who had all objects before."""
        now = self._clock()
        if not self._began:
            self._began = True
            self._window.begin(self._history.window)
        entries = sorted(self._roster.entries.items())
        added = self._window.step(now, self._measured.sums)
        before, self._rows = self._rows, {}
        loads, queued = self._sums(self._shared.loads), self._sums(self._shared.queued)
        for name, entry in entries:
            self._rows[name] = self._service(entry, added, loads[entry.slot], queued[entry.slot])
        waiting = self._waiting(now)
        recent, self._new_ended = self._new_ended, deque(maxlen=MAX_ENDED)
        first, self._told = self._told, self._journal.next
        offset = self._wall() - now
        self._common = {
            "time": self._wall(),
            "version": __version__,
            "synced": self._roster.synced,
            "policy": self._config.policy,
            "actions": self._actions,
            "totals": self._totals(added, waiting),
            "models": self._models(added, waiting),
            "under_way": [_under_way(each, now) for each in self._under_way(now)],
        }
        # Rows of services that are gone have no other way to be told than by telling all that are there.
        full = before.keys() != self._rows.keys()
        rows = [row for name, row in self._rows.items() if full or before[name] != row]
        return self._object(full, rows, [_ended(each, offset) for each in recent], self._journal.since(first))

    def whole(self) -> bytes:
        """Everything as it was at the last step, for a follower that is new."""
        offset = self._wall() - self._clock()
        recent = [_ended(each, offset) for each in list(self._ended)[-MAX_ENDED:]]
        events = [event for event in self._journal.last(FIRST_EVENTS) if event.id < self._told]
        return self._object(True, list(self._rows.values()), recent, events, history=self._history.told())

    def _object(self, full: bool, services: list[Row], recent: list[Row], events: list[Any], **more: Row) -> bytes:
        told = self._common | {"full": full, "services": services, "recent": recent, "events": events} | more
        return msgspec.json.encode(told)

    # -- its parts -----------------------------------------------------------------------------------------------------

    def _sums(self, rows: list[memoryview[int]]) -> list[int]:
        """Over all workers that live, by slot."""
        alive = [row.tolist() for row, beat in zip(rows, self._shared.beats.tolist(), strict=True) if beat]
        return [sum(column) for column in zip(*alive, strict=True)] if alive else [0] * len(rows[0])

    def _service(self, entry: Entry, added: Added, load: int, queued: int) -> Row:
        count = self._ledger.total(entry.slot, entry.generation)
        figures = added.by_service.get(entry.name, NONE)
        state, reason = self._views.state_in_words(entry)
        return {
            "name": entry.name,
            "state": state,
            "reason": reason,
            "models": entry.models,
            "in_flight": load,
            "capacity": self._views.capacity(entry),
            "waiting_tokens": max(0, queued),
            "requests": count.requests,
            "errors": count.errors + count.failed,
            "rate": added.rate(figures.requests),
            "token_rate": added.rate(figures.tokens["output"]),
            "ttft": figures.ttft,
            "weight": entry.record.weight,
            "url": entry.record.url,
        }

    def _totals(self, added: Added, waiting: dict[str, int]) -> Row:
        ever = total(self._measured.sums)
        return {
            "requests": ever.requests,
            "errors": ever.errors,
            "in_flight": sum(row["in_flight"] for row in self._rows.values()),
            "waiting": sum(waiting.values()),
            "tokens_in": ever.tokens["input"],
            "tokens_out": ever.tokens["output"],
            "tokens_cached": ever.tokens["cached"],
        } | added.rates()

    def _models(self, added: Added, waiting: dict[str, int]) -> list[Row]:
        """One row a model that a service lists, sorted; in flight is what its services have, other models' included."""
        found: dict[str, list[Row]] = {}
        for row in self._rows.values():
            for model in row["models"]:
                found.setdefault(model, []).append(row)
        return [self._model(name, found[name], added, waiting.get(name, 0)) for name in sorted(found)]

    def _model(self, name: str, services: list[Row], added: Added, waiting: int) -> Row:
        figures = added.by_model.get(name, NONE)
        special = self._config.models.get(name)
        return {
            "id": name,
            "services": len(services),
            "healthy": sum(row["state"] in WELL for row in services),
            "policy": (special.policy if special is not None else None) or self._config.policy,
            "in_flight": sum(row["in_flight"] for row in services),
            "waiting": waiting,
            "rate": added.rate(figures.requests),
            "ttft": figures.ttft,
            "hit_share": figures.hit_share,
        }

    def _waiting(self, now: float) -> dict[str, int]:
        """Requests that wait for a service, by model."""
        total: dict[str, int] = {}
        for glimpse in self._fresh(now):
            for model, count in glimpse.waiting.items():
                total[model] = total.get(model, 0) + count
        return total

    def _under_way(self, now: float) -> list[UnderWay]:
        """The longest first."""
        every = [each for glimpse in self._fresh(now) for each in glimpse.under_way]
        return sorted(every, key=lambda each: each.since)[:MAX_UNDER_WAY]

    def _fresh(self, now: float) -> list[Glimpse]:
        self._glimpses = {worker: told for worker, told in self._glimpses.items() if now - told[0] <= STALE}
        return [glimpse for _, glimpse in self._glimpses.values()]


def _under_way(each: UnderWay, now: float) -> Row:
    return {
        "id": each.id,
        "model": each.model,
        "service": each.service,
        "seconds": round(max(0.0, now - each.since), 2),
        "stream": each.stream,
        "phase": each.phase,
    }


def _ended(each: Ended, offset: float) -> Row:
    """`offset`: seconds from monotonic to Unix time."""
    first = each.first_byte_seconds
    return {
        "id": each.id,
        "time": round(each.ended + offset, 3),
        "model": each.model,
        "service": each.service,
        "status": each.status,
        "outcome": each.outcome,
        "termination": each.termination,
        "ms": round(each.seconds * 1000, 1),
        "ttft_ms": None if first is None else round(first * 1000, 1),
        "tokens_in": each.tokens_in,
        "tokens_out": each.tokens_out,
        "reason": each.reason,
    }
