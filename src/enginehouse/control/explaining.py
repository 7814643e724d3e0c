"""What would become of a request: read as a worker reads it, explained as a worker chooses, and not sent.

Owns `Explainer`: from the parts of a request to the plain data of `POST /explain`. May not live here: HTTP (`api`), the
reading (`wire.asked`) and the reasons (`policy.explain`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from enginehouse.control.publisher import Publisher
from enginehouse.control.roster import Roster
from enginehouse.core.ask import Ask
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Fleet
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import Shared
from enginehouse.policy.choose import Busy, Choice, LoadView
from enginehouse.policy.explain import Explanation, Judged, explain
from enginehouse.policy.prefix_index import PrefixIndex
from enginehouse.policy.table import build
from enginehouse.wire.asked import read_ask
from enginehouse.wire.errors import Unreadable, refusal_message, text_for
from enginehouse.wire.forwarded import client_address
from enginehouse.wire.http1 import Headers
from enginehouse.wire.paths import Kind, classify
from enginehouse.wire.request_head import RequestHead

#: Index of no worker: this process has no row of its own.
_NOBODY: Final = -1
_OWN: Final = "The router answers this by itself, whatever its services do."


class Explainer:
    """Explains requests for the newest fleet. `clock` gives monotonic seconds. May be asked in any thread."""

    def __init__(
        self, config: RouterConfig, roster: Roster, publisher: Publisher, shared: Shared, clock: Callable[[], float]
    ) -> None:
        self._config = config
        self._roster = roster
        self._publisher = publisher
        self._shared = shared
        self._clock = clock
        self._table = build(Fleet(version=0, synced=False), config)

    def explain(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> dict[str, Any]:
        """What would become of the request. `headers` as a worker passes them on to this process."""
        path = target.partition(b"?")[0].decode("latin-1")
        route = classify(method, target, self._config)
        if route.outcome is not None:
            return _refused(path, Ask(), route.outcome, "")
        if route.kind in (Kind.OWN, Kind.LIVE):
            return _told(path, Ask(), "own", _OWN)
        fleet = self._publisher.fleet
        if fleet.version != self._table.version:
            self._table = build(fleet, self._config)
        table, config, head = self._table, self._config, RequestHead(method, target, "1.1", True, headers)
        client = _client(head.forwarded_for, config.trusted_proxies)
        try:
            named, ask = read_ask(config, table, self._shared, route, head, body, client)
        except Unreadable as problem:
            return _refused(path, Ask(), problem.outcome, problem.message)
        view = LoadView(self._shared, config.workers, config.service_capacity, config.learn_capacity)
        view.look(self._shared, _NOBODY)
        found = explain(table, ask, view, self._shared, self._clock())
        services = [self._service(one, ask, view.index) for one in found.services]
        return self._verdict(path, found, ask, table.served) | {"asked_model": named or None, "services": services}

    def _verdict(self, path: str, found: Explanation, ask: Ask, served: Sequence[str]) -> dict[str, Any]:
        result = found.result
        if isinstance(result, Choice):
            certain = found.services[0].share == 1.0
            name = result.service.name if certain else None
            told = _told(path, ask, "service" if certain else "shared", found.says, found.policy)
            return told | {"service": name, "reason": result.reason}
        refusal = result.refusal if isinstance(result, Busy) else result
        if isinstance(result, Busy) and self._config.queue_size:
            return _told(path, ask, "waits", found.says, found.policy)
        return _refused(
            path, ask, refusal.outcome, refusal_message(refusal.outcome, refusal.model, served), found.policy
        )

    def _service(self, one: Judged, ask: Ask, index: PrefixIndex) -> dict[str, Any]:
        score, prompt = one.score, ask.prompt
        told = {
            "name": one.service.name,
            "candidate": not one.bar,
            "share": round(one.share, 4),
            "excluded": one.bar or None,
            "note": self._down(one) if one.bar == "down" else one.why,
            "in_flight": one.running,
            "capacity": one.cap or None,
        }
        if score is None or prompt is None:
            return told
        figures = index.figures(one.service)
        return told | {
            "matched_bytes": score.matched,
            "matched_share": round(score.matched / prompt.size, 4) if prompt.size else 0.0,
            "uncached_tokens": score.uncached,
            "queued_tokens": score.queued,
            "held_tokens": score.held,
            "cost_ms": round(1000 * score.cost, 3),
            "tokens_per_second": round(figures.rate, 1),
            "bytes_per_token": round(figures.token_bytes, 3),
        }

    def _down(self, one: Judged) -> str:
        """What control knows of a service that gets no requests."""
        entry = self._roster.entries.get(one.service.name)
        if entry is None:
            return one.why
        reason = entry.health.reason or entry.note
        return f"it is {entry.health.state.value}: {reason}" if reason else f"it is {entry.health.state.value}"


def _told(path: str, ask: Ask, result: str, says: str, policy: str = "") -> dict[str, Any]:
    prompt = ask.prompt
    return {
        "path": path,
        "asked_model": None,
        "model": ask.model or None,
        "policy": policy or None,
        "result": result,
        "service": None,
        "reason": None,
        "status": None,
        "code": None,
        "outcome": None,
        "explanation": says,
        "session": ask.session or None,
        "prompt": {"bytes": prompt.size, "chunks": len(prompt.chunks)} if prompt is not None else None,
        "services": [],
    }


def _refused(path: str, ask: Ask, outcome: Outcome, message: str, policy: str = "") -> dict[str, Any]:
    """It would be answered with an error."""
    row = outcome.row
    told = _told(path, ask, "refused", text_for(outcome, message), policy)
    return told | {"status": row.status, "code": row.code, "outcome": outcome.value}


def _client(lines: Sequence[bytes], trusted: tuple[str, ...]) -> str:
    """The client as the worker saw it, which has put its peer behind what it believed."""
    before, _, peer = b", ".join(lines).rpartition(b", ")
    return client_address(peer.decode("latin-1"), [before] if before else [], trusted)[0]
