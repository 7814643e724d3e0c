"""A supervised process: when it is started, announced, restarted, given up and stopped. Decides only.

Owns the `Child` machine, its events (past tense) and its commands (imperative). May not live here: processes, probes,
HTTP, what is registered, clocks (`now` is an argument, monotonic seconds).

    STOPPED  --start_requested--> STARTING --probe_passed--> READY <--probes--> DEGRADED
    STARTING, READY, DEGRADED  --exited--> BACKOFF --time_elapsed--> STARTING, or FAILED after too many restarts
    STARTING, DEGRADED --time_elapsed--> RESTARTING (killed) --exited--> BACKOFF or FAILED
    READY, DEGRADED --stop_requested--> DRAINING --became_idle, time_elapsed--> STOPPING --exited--> STOPPED

"Ready" is earned by a probe, never by the passing of time.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from enginehouse.core.config.babysitter import BabysitterLimits
from enginehouse.core.record import DRAINING, RUNNING


@enum.unique
class State(enum.Enum):
    """Where the process is. The value is what people and programs are told."""

    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    RESTARTING = "restarting"
    """Killed because it did not work; its end is awaited."""
    BACKOFF = "backing off"
    FAILED = "failed"
    DRAINING = "draining"
    STOPPING = "stopping"


@enum.unique
class Event(enum.Enum):
    """What happened."""

    START_REQUESTED = "start requested"
    PROBE_PASSED = "probe passed"
    PROBE_FAILED = "probe failed"
    EXITED = "exited"
    """The process ended, or could not be started at all."""
    TIME_ELAPSED = "time elapsed"
    """`wake_at` has come."""
    BECAME_IDLE = "became idle"
    STOP_REQUESTED = "stop requested"


@dataclass(frozen=True)
class Spawn:
    """Start the process."""


@dataclass(frozen=True)
class Publish:
    """Register the engine with this status ("running", "degraded", "draining"), or change what is registered."""

    status: str


@dataclass(frozen=True)
class Withdraw:
    """Take the engine's registration back, at once."""


@dataclass(frozen=True)
class Drain:
    """Watch for the engine to become idle."""


@dataclass(frozen=True)
class Terminate:
    """SIGTERM to the process group."""


@dataclass(frozen=True)
class Kill:
    """SIGKILL to the process and all its descendants. `EXITED` follows."""


@dataclass(frozen=True)
class GiveUp:
    """There will be no further restart: tell people why and what to do."""


Command = Spawn | Publish | Withdraw | Drain | Terminate | Kill | GiveUp

#: Part of `stop_timeout` after which SIGTERM is repeated: some engines heed only the second one.
SECOND_TERM: Final = 0.4


class Child:
    """The machine. `wake_at` says when `TIME_ELAPSED` is expected (None: never), `reason` why it is in this state."""

    def __init__(self, limits: BabysitterLimits) -> None:
        self.state = State.STOPPED
        self.reason = ""
        self.wake_at: float | None = None
        self.restarts = 0
        """Restarts since the last stable run."""
        self.total = 0
        """Restarts since the beginning."""
        self.since_ready: float | None = None
        """When this run became ready; None if it has not."""
        self._limits = limits
        self._failed_probes = 0
        self._terms = 0

    def handle(self, event: Event, now: float, reason: str = "") -> list[Command]:
        """Take one event. `reason` says why a probe failed or how the process ended.

        Raises `KeyError` for a pair that cannot happen (a bug of the caller).
        """
        action, allowed = TABLE[self.state, event]
        commands = action(self, now, reason)
        assert self.state in allowed, (event, self.state)
        return commands

    def _go(self, state: State, wake_at: float | None, reason: str = "") -> None:
        self.state, self.wake_at, self.reason = state, wake_at, reason

    # starting and running

    def _start(self, now: float, reason: str) -> list[Command]:
        self.since_ready, self._failed_probes = None, 0
        self._go(State.STARTING, now + self._limits.ready_timeout)
        return [Spawn()]

    def _await_ready(self, now: float, reason: str) -> list[Command]:
        self.reason = reason
        return []

    def _become_ready(self, now: float, reason: str) -> list[Command]:
        if self.since_ready is None:
            self.since_ready = now
        self._failed_probes = 0
        self._go(State.READY, None)
        return [Publish(RUNNING)]

    def _stay_ready(self, now: float, reason: str) -> list[Command]:
        self._failed_probes = 0
        return []

    def _miss_probe(self, now: float, reason: str) -> list[Command]:
        self._failed_probes += 1
        if self._failed_probes < self._limits.probe_failures:
            return []
        self._go(State.DEGRADED, now + self._limits.degraded_timeout, reason)
        return [Publish(State.DEGRADED.value)]

    # ending by itself

    def _kill_unready(self, now: float, reason: str) -> list[Command]:
        waited = f"not ready after {self._limits.ready_timeout:g} s"
        self._go(State.RESTARTING, None, f"{waited}: {self.reason}" if self.reason else waited)
        return [Kill()]

    def _kill_degraded(self, now: float, reason: str) -> list[Command]:
        why = f"without an answer for {self._limits.degraded_timeout:g} s: {self.reason}"
        self._go(State.RESTARTING, None, why)
        return [Withdraw(), Kill()]

    def _lose(self, now: float, reason: str) -> list[Command]:
        """It ended while it was registered."""
        return [Withdraw(), *self._restart_later(now, reason)]

    def _killed(self, now: float, reason: str) -> list[Command]:
        """We made an end of it; why we did counts, not how it ended."""
        return self._restart_later(now, self.reason)

    def _restart_later(self, now: float, reason: str) -> list[Command]:
        limits = self._limits
        if self.since_ready is not None and now - self.since_ready >= limits.stable_after:
            self.restarts = 0
        if self.restarts >= limits.max_restarts:
            self._go(State.FAILED, None, reason)
            return [GiveUp()]
        # The exponent is bounded because 2.0 ** 1024 overflows.
        delay = limits.restart_delay * 2.0 ** min(self.restarts, 32)
        longest = max(limits.max_restart_delay, limits.restart_delay)
        self.restarts += 1
        self.total += 1
        self._go(State.BACKOFF, now + min(delay, longest), reason)
        return []

    # being stopped

    def _drain(self, now: float, reason: str) -> list[Command]:
        self._go(State.DRAINING, now + self._limits.drain_timeout)
        return [Publish(DRAINING), Drain()]

    def _drained(self, now: float, reason: str) -> list[Command]:
        return [Withdraw(), *self._terminate(now, reason)]

    def _end_drained(self, now: float, reason: str) -> list[Command]:
        return [Withdraw(), *self._end(now, reason)]

    def _terminate(self, now: float, reason: str) -> list[Command]:
        self._terms = 1
        self._go(State.STOPPING, now + self._limits.stop_timeout * SECOND_TERM)
        return [Terminate()]

    def _insist(self, now: float, reason: str) -> list[Command]:
        self._terms += 1
        if self._terms > 2:
            return self._kill(now, reason)
        self.wake_at = now + self._limits.stop_timeout * (1 - SECOND_TERM)
        return [Terminate()]

    def _kill(self, now: float, reason: str) -> list[Command]:
        self._go(State.STOPPING, None, "killed, it did not stop in time")
        return [Kill()]

    def _await_end(self, now: float, reason: str) -> list[Command]:
        self._go(State.STOPPING, None, self.reason)
        return []

    def _end(self, now: float, reason: str) -> list[Command]:
        self._go(State.STOPPED, None, reason)
        return []

    def _ignore(self, now: float, reason: str) -> list[Command]:
        return []


class Step(NamedTuple):
    """What to do on an event, and the states that may follow."""

    action: Callable[[Child, float, str], list[Command]]
    allowed: frozenset[State]


def _step(action: Callable[[Child, float, str], list[Command]], *allowed: State) -> Step:
    return Step(action, frozenset(allowed))


_S, _E = State, Event
TABLE: Final[dict[tuple[State, Event], Step]] = {
    (_S.STOPPED, _E.START_REQUESTED): _step(Child._start, _S.STARTING),
    (_S.STARTING, _E.PROBE_PASSED): _step(Child._become_ready, _S.READY),
    (_S.STARTING, _E.PROBE_FAILED): _step(Child._await_ready, _S.STARTING),
    (_S.STARTING, _E.EXITED): _step(Child._restart_later, _S.BACKOFF, _S.FAILED),
    (_S.STARTING, _E.TIME_ELAPSED): _step(Child._kill_unready, _S.RESTARTING),
    (_S.STARTING, _E.STOP_REQUESTED): _step(Child._terminate, _S.STOPPING),
    (_S.READY, _E.PROBE_PASSED): _step(Child._stay_ready, _S.READY),
    (_S.READY, _E.PROBE_FAILED): _step(Child._miss_probe, _S.READY, _S.DEGRADED),
    (_S.READY, _E.EXITED): _step(Child._lose, _S.BACKOFF, _S.FAILED),
    (_S.READY, _E.STOP_REQUESTED): _step(Child._drain, _S.DRAINING),
    (_S.DEGRADED, _E.PROBE_PASSED): _step(Child._become_ready, _S.READY),
    (_S.DEGRADED, _E.PROBE_FAILED): _step(Child._await_ready, _S.DEGRADED),
    (_S.DEGRADED, _E.EXITED): _step(Child._lose, _S.BACKOFF, _S.FAILED),
    (_S.DEGRADED, _E.TIME_ELAPSED): _step(Child._kill_degraded, _S.RESTARTING),
    (_S.DEGRADED, _E.STOP_REQUESTED): _step(Child._drain, _S.DRAINING),
    (_S.RESTARTING, _E.PROBE_PASSED): _step(Child._ignore, _S.RESTARTING),
    (_S.RESTARTING, _E.PROBE_FAILED): _step(Child._ignore, _S.RESTARTING),
    (_S.RESTARTING, _E.EXITED): _step(Child._killed, _S.BACKOFF, _S.FAILED),
    (_S.RESTARTING, _E.STOP_REQUESTED): _step(Child._await_end, _S.STOPPING),
    (_S.BACKOFF, _E.TIME_ELAPSED): _step(Child._start, _S.STARTING),
    (_S.BACKOFF, _E.STOP_REQUESTED): _step(Child._end, _S.STOPPED),
    (_S.FAILED, _E.STOP_REQUESTED): _step(Child._end, _S.STOPPED),
    (_S.DRAINING, _E.PROBE_PASSED): _step(Child._ignore, _S.DRAINING),
    (_S.DRAINING, _E.PROBE_FAILED): _step(Child._ignore, _S.DRAINING),
    (_S.DRAINING, _E.BECAME_IDLE): _step(Child._drained, _S.STOPPING),
    (_S.DRAINING, _E.TIME_ELAPSED): _step(Child._drained, _S.STOPPING),
    (_S.DRAINING, _E.STOP_REQUESTED): _step(Child._drained, _S.STOPPING),
    (_S.DRAINING, _E.EXITED): _step(Child._end_drained, _S.STOPPED),
    (_S.STOPPING, _E.PROBE_PASSED): _step(Child._ignore, _S.STOPPING),
    (_S.STOPPING, _E.PROBE_FAILED): _step(Child._ignore, _S.STOPPING),
    (_S.STOPPING, _E.BECAME_IDLE): _step(Child._ignore, _S.STOPPING),
    (_S.STOPPING, _E.TIME_ELAPSED): _step(Child._insist, _S.STOPPING),
    (_S.STOPPING, _E.STOP_REQUESTED): _step(Child._kill, _S.STOPPING),
    (_S.STOPPING, _E.EXITED): _step(Child._end, _S.STOPPED),
    (_S.STOPPED, _E.STOP_REQUESTED): _step(Child._ignore, _S.STOPPED),
}
