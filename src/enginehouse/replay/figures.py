"""What the calls of a replay amount to: times, goodput, hit share, balance, errors, and whether the figures hold.

Owns this arithmetic; pure. May not live here: how figures are shown (`table`, `plots`).

All times are given twice: by the wall clock, and in model time, which is wall time multiplied by the time scale of the
engines. Where nothing is time-scaled, both are the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from enginehouse.replay.call import Call, Ending

#: The figures are void where the client itself was late by more than these shares of what it measured, and by more than
#: these seconds of wall time: in the mean, and at the 99th percentile.
LATE_MEAN: Final = (0.05, 0.002)
LATE_P99: Final = (0.20, 0.020)


@dataclass(frozen=True)
class Spread:
    """Values in short. Percentiles are interpolated linearly between the two values next to them."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True)
class Times:
    """Seconds, and things in a second, by one clock. A spread is None where nothing was measured."""

    seconds: float
    """From the first request to the end of the last answer."""
    ttft: Spread | None
    """From the time a request was due to its first token."""
    tpot: Spread | None
    """Time per output token: from the first to the end, divided by the tokens that came after the first."""
    end_to_end: Spread | None
    answered_per_second: float
    goodput: float
    """Answers within the objectives in a second."""
    prompt_tokens_per_second: float
    output_tokens_per_second: float


@dataclass(frozen=True)
class Objective:
    """A service level objective in seconds of model time, and how many of all requests met it."""

    ttft: float
    tpot: float
    met: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class Tokens:
    """Tokens of answered requests. `prompt`, `output`, `cached` as engines told, `asked_…` as the trace has them."""

    prompt: int
    output: int
    cached: int
    asked_prompt: int
    asked_output: int
    hit_share: float | None
    """Cached tokens among the prompts' of those answers that told; None where none did."""
    told: int
    """Answers that told their cached tokens."""


@dataclass(frozen=True)
class Service:
    """What one service had to do, as far as answers name it. `computed`: prompt tokens that were not cached."""

    name: str
    requests: int
    errors: int
    computed: int
    output: int
    in_flight: float
    """In the mean over the whole replay."""
    ttft: float | None
    """Mean, seconds of model time."""


@dataclass(frozen=True)
class Balance:
    """The highest of all services' figures divided by their mean: 1 is even. None where answers name no service."""

    requests: float | None
    computed: float | None
    in_flight: float | None


@dataclass(frozen=True)
class Lateness:
    """How late the client was, seconds of wall time: to send what was due, and to look at its sockets."""

    send: Spread | None
    loop: Spread | None
    void: str
    """Why no figure of this replay is to be believed; empty where they are."""


@dataclass(frozen=True)
class Figures:
    """Everything about a replay."""

    planned: int
    """Requests of the trace."""
    asked: int
    answered: int
    unfinished: int
    """Running when the replay was stopped."""
    rejected: int
    errors: dict[str, int]
    """By kind, rejects among them."""
    retries: int
    """Further services that the router tried, as far as it tells."""
    resent: int
    """Sent again on a new connection, since the server had closed a kept one."""
    model: Times
    wall: Times
    objective: Objective
    tokens: Tokens
    services: list[Service]
    balance: Balance
    lateness: Lateness


def figures(
    calls: Sequence[Call],
    *,
    planned: int,
    began: float,
    lags: Collection[float] = (),
    time_scale: float = 1.0,
    slo_ttft: float = 2.0,
    slo_tpot: float = 0.1,
    services: int = 0,
) -> Figures:
    """The figures of a replay that began at that time. `services`: how many there are, where some may get nothing."""
    answered = [call for call in calls if call.ending is Ending.ANSWERED]
    failed = [call for call in calls if call.ending not in (Ending.ANSWERED, Ending.UNFINISHED)]
    goal = Objective(slo_ttft, slo_tpot)
    met = sum(meets(call, goal, time_scale) for call in answered)
    seconds = max([call.end for call in calls if call.ending is not Ending.UNFINISHED], default=began) - began
    wall = _times(answered, seconds, met, 1.0)
    each = _services(calls, seconds, time_scale)
    return Figures(
        planned=planned,
        asked=len(calls),
        answered=len(answered),
        unfinished=len(calls) - len(answered) - len(failed),
        rejected=sum(call.ending is Ending.REJECTED for call in failed),
        errors=dict(Counter(f"{call.ending}: {call.detail}".removesuffix(": ") for call in failed).most_common()),
        retries=sum(max(0, call.attempts - 1) for call in calls),
        resent=sum(call.resent for call in calls),
        model=_times(answered, seconds, met, time_scale),
        wall=wall,
        objective=Objective(slo_ttft, slo_tpot, met, met / max(1, len(answered) + len(failed))),
        tokens=_tokens(answered),
        services=each,
        balance=_balance(each, services),
        lateness=_lateness(calls, lags, wall.ttft),
    )


def ttft(call: Call) -> float:
    """Seconds of wall time from when it was due to its first token."""
    return call.first - call.due


def tpot(call: Call) -> float | None:
    """Seconds of wall time per token after the first; None where there was none."""
    tokens = output(call)
    return (call.end - call.first) / (tokens - 1) if tokens > 1 else None


def output(call: Call) -> int:
    """Tokens of an answer; where the engine does not count them, its events, less the three that bring none."""
    return call.completion if call.completion >= 0 else max(1, call.events - 3)


def meets(call: Call, goal: Objective, time_scale: float) -> bool:
    """Whether an answered call is within the objectives."""
    each = tpot(call)
    return ttft(call) * time_scale <= goal.ttft and (each is None or each * time_scale <= goal.tpot)


def spread(values: Iterable[float]) -> Spread | None:
    """None where there is no value."""
    kept = sorted(values)
    if not kept:
        return None
    p50, p90, p99 = (percentile(kept, part) for part in (0.5, 0.9, 0.99))
    return Spread(len(kept), math.fsum(kept) / len(kept), p50, p90, p99, kept[-1])


def percentile(ordered: Sequence[float], part: float) -> float:
    """The value below which that part of the values lies."""
    place = part * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _times(answered: Sequence[Call], seconds: float, met: int, scale: float) -> Times:
    model = seconds * scale
    rate = 1 / model if model > 0 else 0.0
    return Times(
        seconds=model,
        ttft=spread(ttft(call) * scale for call in answered),
        tpot=spread(each * scale for each in map(tpot, answered) if each is not None),
        end_to_end=spread((call.end - call.due) * scale for call in answered),
        answered_per_second=len(answered) * rate,
        goodput=met * rate,
        prompt_tokens_per_second=sum(_prompt(call) for call in answered) * rate,
        output_tokens_per_second=sum(map(output, answered)) * rate,
    )


def _prompt(call: Call) -> int:
    """Tokens of a prompt; where the engine does not count them, as many as the trace says the turn adds."""
    return call.prompt if call.prompt >= 0 else call.turn.tokens


def _tokens(answered: Sequence[Call]) -> Tokens:
    telling = [call for call in answered if call.cached >= 0]
    cached, prompt = sum(call.cached for call in telling), sum(call.prompt for call in telling)
    return Tokens(
        prompt=sum(map(_prompt, answered)),
        output=sum(map(output, answered)),
        cached=cached,
        asked_prompt=sum(call.turn.tokens for call in answered),
        asked_output=sum(call.turn.answer for call in answered),
        hit_share=cached / prompt if prompt else None,
        told=len(telling),
    )


def _services(calls: Sequence[Call], seconds: float, time_scale: float) -> list[Service]:
    """One for each name that answers gave."""
    by_name: dict[str, list[Call]] = {}
    for call in calls:
        if call.service not in ("", "-"):
            by_name.setdefault(call.service, []).append(call)
    return [_service(name, own, seconds, time_scale) for name, own in sorted(by_name.items())]


def _service(name: str, calls: Sequence[Call], seconds: float, time_scale: float) -> Service:
    answered = [call for call in calls if call.ending is Ending.ANSWERED]
    first = spread(map(ttft, answered))
    return Service(
        name=name,
        requests=len(calls),
        errors=sum(call.ending not in (Ending.ANSWERED, Ending.UNFINISHED) for call in calls),
        computed=sum(_prompt(call) - max(call.cached, 0) for call in answered),
        output=sum(map(output, answered)),
        in_flight=sum(call.end - call.sent for call in calls) / seconds if seconds > 0 else 0.0,
        ttft=first.mean * time_scale if first else None,
    )


def _balance(services: Sequence[Service], number: int) -> Balance:
    def uneven(values: Sequence[float]) -> float | None:
        mean = math.fsum(values) / max(number, len(values), 1)
        return max(values) / mean if mean > 0 else None

    return Balance(
        requests=uneven([service.requests for service in services]),
        computed=uneven([service.computed for service in services]),
        in_flight=uneven([service.in_flight for service in services]),
    )


def _lateness(calls: Sequence[Call], lags: Collection[float], first: Spread | None) -> Lateness:
    send = spread(max(0.0, call.sent - call.due) for call in calls if call.sent)
    loop = spread(lags)
    void = ""
    if first and send:
        mean = send.mean + (loop.mean if loop else 0.0)
        p99 = max(send.p99, loop.p99 if loop else 0.0)
        for what, late, measured, (share, floor) in (
            ("in the mean", mean, first.mean, LATE_MEAN),
            ("at the 99th percentile", p99, first.p99, LATE_P99),
        ):
            if late > max(floor, share * measured):
                void = (
                    f"the client was late by {late * 1000:.1f} ms {what}, where the time to the first token is "
                    f"{measured * 1000:.1f} ms (wall time)"
                )
    return Lateness(send, loop, void)
