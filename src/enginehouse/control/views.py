"""What the router tells about itself: the shapes of CONTRACTS 1.2, and what was added to them.

Owns `Views`: from roster, counts and shared memory to plain data. May not live here: HTTP (`api`), keys of engines.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from enginehouse.control.ledger import Count, Ledger
from enginehouse.control.publisher import Publisher
from enginehouse.control.roster import Entry, Roster, is_looked_after
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.outcome import Outcome
from enginehouse.core.record import DRAINING, default_url
from enginehouse.core.shared import Shared
from enginehouse.machines.health import TOO_MANY, State
from enginehouse.policy.admission import cap_of

#: Of `Views.state_in_words`: those in which a service takes requests.
WELL = ("up", "returning")


class Views:
    """Everything is worked out when it is asked for. `clock` gives monotonic seconds."""

    def __init__(
        self,
        config: RouterConfig,
        roster: Roster,
        ledger: Ledger,
        publisher: Publisher,
        shared: Shared,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._roster = roster
        self._ledger = ledger
        self._publisher = publisher
        self._shared = shared
        self._clock = clock
        self._registry_url = _without_user(config.registry_url) or None
        self._aliases = {alias: model for model, special in config.models.items() for alias in special.aliases}

    def is_healthy(self, entry: Entry) -> bool:
        """Control's verdict, which the workers have been told of: who sees a model here can ask for it. And no worker
        has ejected it, or waits for the trial that shows how it does."""
        told = entry.up and self._publisher.tells_of(entry.slot, entry.generation)
        return told and not self._is_ejected(entry)

    def _is_ejected(self, entry: Entry) -> bool:
        standing, now = self._shared.standing(entry.slot), self._clock()
        return max(standing.ejected_until, standing.undecided_until) > now

    def health(self, status: str) -> dict[str, Any]:
        """`GET /health` ("healthy") and `GET /status` ("running")."""
        total, healthy = len(self._roster.entries), self._healthy_count()
        return {
            "status": status,
            "router": "running",
            "healthy_services": f"{healthy}/{total}",
            "registry_url": self._registry_url,
            "message": f"{healthy} of {total} services healthy" if healthy else "No healthy services available",
            "timestamp": datetime.now(UTC).isoformat(),
        }

    def services(self) -> dict[str, Any]:
        """`GET /services`; `drained`: it gets no requests any more and has none; `rejected` lists what the sources
        offered and the router does not use, with the reason."""
        services = self._services()
        return {
            "services": services,
            "total": len(services),
            "registry_url": self._registry_url,
            "rejected": self._roster.rejected,
        }

    def stats(self) -> dict[str, Any]:
        """`GET /stats`; `details` tells per service why, `workers` which fleet each worker has of which newest one,
        `waiting` how many requests wait for a service, `mended` what was done so that clients saw no failure."""
        services = self._services()
        return {
            "total_services": len(services),
            "healthy_services": self._healthy_count(),
            "registry_url": self._registry_url,
            "services": services,
            "details": {entry.name: self.details(entry) for entry in self._sorted()},
            "fleet_version": self._publisher.version,
            "workers": [{"worker": worker, "fleet_version": version} for worker, version in self._publisher.workers],
            "synced": self._roster.synced,
            "waiting": sum(self._shared.waiting),
            "mended": self._ledger.mended(),
        }

    def models(self) -> dict[str, Any]:
        """`GET /models`: of several services with a model, the first by name describes it."""
        return {"object": "list", "data": [model for _, model in sorted(self._served().items())]}

    def model(self, asked: str) -> dict[str, Any] | Outcome:
        """`GET /v1/models/{id}`, by real name or alias; an outcome where there is no such model now."""
        served = self._served()
        name = asked if asked in served else self._aliases.get(asked, asked)
        if (found := served.get(name)) is not None:
            return found
        if name in self._roster.known_models():
            return Outcome.NO_SERVICE_FOR_MODEL
        all_told = all(entry.up or entry.models for entry in self._roster.entries.values())
        return Outcome.MODEL_UNKNOWN_404 if self._roster.synced and all_told else Outcome.NOT_SYNCED

    def served(self) -> list[str]:
        """Names of the models that somebody serves now, sorted."""
        return sorted(self._served())

    def _served(self) -> dict[str, dict[str, Any]]:
        first: dict[str, dict[str, Any]] = {}
        for entry in self._sorted():
            if self.is_healthy(entry):
                for name, model in zip(entry.models, entry.model_objects, strict=True):
                    first.setdefault(name, model)
        return first

    def _sorted(self) -> list[Entry]:
        return [entry for _, entry in sorted(self._roster.entries.items())]

    def _healthy_count(self) -> int:
        return sum(self.is_healthy(entry) for entry in self._roster.entries.values())

    def _count(self, entry: Entry) -> Count:
        return self._ledger.total(entry.slot, entry.generation)

    def _services(self) -> list[dict[str, Any]]:
        return [self.service(entry) for entry in self._sorted()]

    def service(self, entry: Entry) -> dict[str, Any]:
        """One service as in `/services`."""
        record, count = entry.record, self._count(entry)
        return {
            "name": record.name,
            "host": record.host,
            "port": record.port,
            "url": record.url,
            "babysitter_url": default_url(record.host, record.port + 1) if is_looked_after(record) else "",
            "healthy": self.is_healthy(entry),
            "request_count": count.requests,
            "error_count": count.errors,
            "response_time": count.response_time,
            "weight": record.weight,
            "models": entry.models,
            "metadata": record.metadata,
            "server_error_count": count.failed,
            "rejection_count": count.rejections,
            "ejection_count": count.ejections,
            "status": record.status,
            "in_flight": self._shared.load(entry.slot),
            "capacity": self.capacity(entry),
            "kv_tokens": entry.record.metadata.get("kv_tokens") or entry.kv_tokens or None,
            "drained": self.is_drained(entry),
        }

    def capacity(self, entry: Entry) -> int | None:
        """Requests that the workers give it at once; None: any number."""
        stated = entry.record.metadata.get("capacity") or self._config.service_capacity
        return cap_of(stated, self._shared.learned[entry.slot], entry.generation) or None

    def is_drained(self, entry: Entry) -> bool:
        """No worker sends it requests any more, and none of the earlier ones is left: it may be stopped."""
        if entry.health.state is not State.WITHDRAWN or self._publisher.tells_of(entry.slot, entry.generation):
            return False
        told = {worker for worker, version in self._publisher.workers if version == self._publisher.version}
        living = {worker for worker, state in enumerate(self._shared.states.tolist()) if state}
        return living <= told and not self._shared.load(entry.slot)

    def details(self, entry: Entry) -> dict[str, Any]:
        """One service as in the details of `/stats`."""
        missing = self._roster.missing_since(entry)
        state, reason = self.state(entry)
        return {
            "source": entry.source,
            "state": state.value,
            "reason": reason,
            "in_flight": self._shared.load(entry.slot),
            "addresses": entry.addresses,
            "missing_for": None if missing is None else self._clock() - missing,
            **self._standing(entry),
        }

    def state(self, entry: Entry) -> tuple[State, str]:
        """How it is, what its requests have brought it included; and why, or what its owner should know of it."""
        state, reason = entry.health.state, entry.health.reason
        if entry.up and self._is_ejected(entry):
            state, reason = State.EJECTED, reason or TOO_MANY
        return state, reason or entry.note

    def state_in_words(self, entry: Entry) -> tuple[str, str]:
        """The same, told apart further: `trial` (ejected, its next request decides), `returning` (it gets a growing
        part of its requests), `draining`, `drained`."""
        state, reason = self.state(entry)
        word, now, standing = state.value, self._clock(), self._shared.standing(entry.slot)
        if state is State.EJECTED and standing.ejected_until <= now < standing.undecided_until:
            word = "trial"
        elif state is State.UP and standing.slow_until > now:
            word = "returning"
        elif state is State.WITHDRAWN and entry.record.status == DRAINING:
            word = "drained" if self.is_drained(entry) else "draining"
        return word, reason

    def _standing(self, entry: Entry) -> dict[str, Any]:
        """What its requests have brought it: seconds that are left, None for what does not hold."""
        standing, now = self._shared.standing(entry.slot), self._clock()

        def left(until: float) -> float | None:
            return until - now if until > now else None

        return {
            "ejected_for": left(standing.ejected_until),
            "ejections_in_a_row": standing.level,
            "trial_for": left(standing.undecided_until),
            "slow_start_for": left(standing.slow_until),
            "rests_for": left(self._shared.rest_until[entry.slot]),
        }


def _without_user(url: str) -> str:
    """A URL as it may be shown: a password in it is nobody's business."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
