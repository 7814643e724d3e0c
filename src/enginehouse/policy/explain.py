"""Why a request would go where it would go: who could get it and at what cost, who could not, and why not.

Owns `explain`. The answer comes from `choose` itself, asked as often as turns and chance make a difference: so what is
explained is what the workers do. Nothing is touched: no turn taken, nothing counted, nothing learned.
May not live here: reading a request (`wire.asked`), why a service is down (control knows), how all this is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from enginehouse.core.ask import Ask
from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import Shared
from enginehouse.policy.admission import cap_of
from enginehouse.policy.affinity import SHARDS, digest
from enginehouse.policy.candidates import part_of
from enginehouse.policy.choose import Busy, Choice, LoadView, Refusal, choose, open_to, policy_of
from enginehouse.policy.line import anybody_in, lonely
from enginehouse.policy.prefix import NEAR, NEAR_PART, PIN, Scored, rank
from enginehouse.policy.table import Entry, Table

#: Choices made to find out who gets which share of requests like this, where turns or chance decide.
LEAST_DRAWS: Final = 256
MOST_DRAWS: Final = 4096


class Judged(NamedTuple):
    """One service as this request meets it."""

    service: Service
    share: float
    """Of many requests like this, all at this moment, the part that it would get: 0 to 1."""
    bar: str
    """What keeps it from getting the request, in one word; "" for a candidate."""
    why: str
    """The same in words; for a candidate, what is special about it, mostly ""."""
    running: int
    """Requests in flight there."""
    cap: int
    """Most that it gets at once; 0: any number."""
    score: Scored | None
    """What the prompt would cost there; None where the policy does not look at it, or the service is no candidate."""


class Explanation(NamedTuple):
    """What would become of a request that came now."""

    model: str
    """After aliases; "" where the request names none."""
    policy: str
    """What chooses: the model's, or the one that the request asks for."""
    result: Choice | Busy | Refusal
    """As a worker would find it; where turns or chance decide, one of the possible ones."""
    says: str
    """Why, in a sentence."""
    services: tuple[Judged, ...]
    """Candidates first, the likeliest and cheapest before others; then all others by name."""


def explain(table: Table, ask: Ask, view: LoadView, shared: Shared, now: float) -> Explanation:
    """What would become of the request. `now` is the clock of the ejections, in seconds."""
    entry = table.models.get(ask.model) if ask.model else table.everyone
    if entry is None:
        entry = Entry(ask.model, table.everyone.policy, (), ())
    return _Question(table, entry, ask, view, shared, now).answer()


class _Question:
    """One request at one moment."""

    def __init__(self, table: Table, entry: Entry, ask: Ask, view: LoadView, shared: Shared, now: float) -> None:
        self._table = table
        self._entry = entry
        self._ask = ask
        self._view = view
        self._shared = shared
        self._now = now
        self._policy = policy_of(ask, entry)
        result = choose(table, ask, (), view, now, 0, _Dice())
        self._result = result
        self._kept = _kept(result, ask)
        """Only the service that made the id which the request names can answer."""
        by_prompt = self._policy == "prefix" and ask.prompt is not None and bool(ask.prompt.chunks)
        by_key = isinstance(result, Choice) and result.reason == "session" and bool(ask.session)
        self._certain = by_prompt or by_key or (isinstance(result, Choice) and result.reason in ("only", "remembered"))
        """No turn and no chance decides, but for services that have just come back."""

    def answer(self) -> Explanation:
        """The whole explanation."""
        ask, result = self._ask, self._result
        waiting = ask.remembered < 0 and anybody_in(ask.model, self._shared)
        if waiting:
            result = Busy(ask.model, Refusal(Outcome.QUEUE_FULL, ask.model))
        drawn = self._drawn() if isinstance(result, Choice) else []
        got = Counter([service.name for service in drawn])
        found = self._candidates(drawn)
        scores = self._scores(found)
        judged = [
            self._judge(
                service, service.name in found, got[service.name] / max(1, len(drawn)), scores.get(service.name)
            )
            for service in self._table.by_slot.values()
        ]
        judged.sort(key=lambda one: (one.bar != "", -one.share, one.score.cost if one.score else 0.0, one.service.name))
        sentence = _waits(waiting) if isinstance(result, Busy) else _says(result, judged, self._certain)
        return Explanation(ask.model, self._policy, result, sentence, tuple(judged))

    def _drawn(self) -> list[Service]:
        """Who gets requests like this, one after the other, as often as turns and chance make a difference."""
        entry, ask = self._entry, self._ask
        returning = any(self._view.slow_until[service.slot] > self._now for service in entry.services)
        places = len(entry.rotation)
        turns = range(0, max(1, -(-LEAST_DRAWS // places)) * places, max(1, places // MOST_DRAWS))
        if self._kept or (self._certain and (ask.session or not returning)):
            turns = range(1)
        dice = _Dice()
        choices = [choose(self._table, ask, (), self._view, self._now, turn, dice) for turn in turns]
        return [choice.service for choice in choices if isinstance(choice, Choice)]

    def _candidates(self, drawn: Sequence[Service]) -> dict[str, Service]:
        """Those among whom it is chosen, by name, whether or not who has just come back is let in."""
        entry, ask, found = self._entry, self._ask, list(drawn)
        if not self._kept:
            key = digest(ask.session) if ask.session else 0
            part = entry.shards[key % SHARDS] if key and entry.shards and self._policy != "prefix" else ()
            for luck in (_LUCKY, _UNLUCKY):
                found += open_to(entry, part, ask, (), self._view, self._now, luck, key) or ()
        return {service.name: service for service in found}

    def _scores(self, found: dict[str, Service]) -> dict[str, Scored]:
        """By name, what each candidate would cost, where that is looked at."""
        prompt, view = self._ask.prompt, self._view
        if self._policy != "prefix" or prompt is None or not found:
            return {}
        ranked = rank(prompt, list(found.values()), view.loads, view.queued, view.held, view.index, self._entry.mean)
        return {one.service.name: one for one in ranked}

    def _judge(self, service: Service, candidate: bool, share: float, score: Scored | None) -> Judged:
        slot, view = service.slot, self._view
        running = sum([row[slot] for row in view.loads])
        learned = view.learned[slot] if view.learned is not None else 0
        cap = cap_of(service.capacity or view.capacity, learned, service.generation)
        standing, why = self._standing(slot)
        if not candidate:
            standing, why = self._bar(service, running, cap, standing, why)
        elif standing:
            why = f"{why}; but nobody else is left" if standing in ("ejected", "rests") else why
            standing = ""
        return Judged(service, share, standing, why, running, cap, score)

    def _standing(self, slot: int) -> tuple[str, str]:
        """What its requests have brought the service: a word and a sentence, both "" for nothing."""
        view, now = self._view, self._now
        if (until := view.ejected_until[slot]) > now:
            return "ejected", f"its requests failed: it gets none for another {until - now:.1f} s"
        if (until := view.rest_until[slot]) > now:
            return "rests", f"it said that it has too much to do: others go first for another {until - now:.1f} s"
        if self._shared.undecided_until[slot] > now:
            return "trial", "its requests failed: the next one is the trial that may bring it back"
        if view.slow_until[slot] > now:
            since = view.slow_from[slot]
            part = part_of(since, view.slow_until[slot], now)
            return "returning", f"it came back {now - since:.1f} s ago and gets {part:.0%} of its share for now"
        return "", ""

    def _bar(self, service: Service, running: int, cap: int, standing: str, why: str) -> tuple[str, str]:
        """What keeps it from the request; the first thing that would have to change."""
        ask, model = self._ask, self._entry.model
        if not service.inference:
            return "no_engine", "it never gets prompts"
        if model and model not in service.models:
            return "other_model", f"it does not serve {model}"
        if not service.up:
            return "down", "it is not up"
        if self._kept and ask.remembered != service.slot:
            return "not_the_maker", "another service made the id that the request names"
        if standing in ("ejected", "rests"):
            return standing, why
        if cap and running >= cap:
            return "full", f"it is at its cap: {running} of {cap} requests in flight"
        if standing == "returning":
            return standing, why
        if ask.cache_type and service.cache_type != ask.cache_type:
            return "other_cache_type", f"a prompt of this size prefers services of cache_type {ask.cache_type}"
        return "other_part", "the request's key is looked for in another part of the services"


def _kept(result: Choice | Busy | Refusal, ask: Ask) -> bool:
    """Does only the service come into question that made an id?"""
    if isinstance(result, Choice):
        return result.reason == "remembered"
    return ask.remembered >= 0 and isinstance(result, Busy) and lonely(result.line)


def _waits(behind: bool) -> str:
    if behind:
        return "Others wait for this model already: it would wait behind them."
    return "All services that could get it are at their caps, or none is ready: it would wait."


def _says(result: Choice | Refusal, judged: Sequence[Judged], certain: bool) -> str:
    """Why it is so, in a sentence. `certain`: only who has just come back makes a difference."""
    if isinstance(result, Refusal):
        return "Nobody can get it: see what keeps each service from it."
    likely = [one for one in judged if one.share]
    if len(likely) > 1:
        return _RETURNS if certain else _SHARED.get(result.reason, _RETURNS)
    if result.reason == "prefix":
        return _compared(judged)
    if result.reason == "session" and judged[0].score is not None:
        costs = [one.score.cost for one in judged if one.score is not None]
        dearer = judged[0].score.cost - min(costs)
        return (
            f"{_ALONE['session']} It costs {1000 * dearer:.0f} ms more than the cheapest; {1000 * PIN:.0f} ms may be."
        )
    return _ALONE.get(result.reason, "It is chosen by its policy.")


def _compared(judged: Sequence[Judged]) -> str:
    """The policy `prefix`: what tells the chosen one from the next."""
    costs = sorted([one.score.cost for one in judged if one.score is not None])
    best = judged[0].score
    assert best is not None
    if best.cost > costs[0] + NEAR + NEAR_PART * costs[0]:
        return (
            f"Of so many services only some are looked at. Of those the first token comes soonest there, in"
            f" {1000 * best.cost:.1f} ms; the cheapest of all would be {1000 * costs[0]:.1f} ms."
        )
    if len(costs) > 1 and costs[1] > costs[0] + NEAR + NEAR_PART * costs[0]:
        return (
            f"The first token comes soonest there, in {1000 * best.cost:.1f} ms; next best: {1000 * costs[1]:.1f} ms."
        )
    return "Several cost practically the same: of those, it is the home of the part of the prompt that not all have."


_TURNS: Final = "each worker counts turns of its own, so which one is next cannot be told."
_SHARED: Final = {
    "prefix": f"Several cost practically the same, and the prompt is too short to have a home; {_TURNS}",
    "round_robin": f"Services take turns by weight; {_TURNS}",
    "session": f"The request has no key that would keep it at one service; {_TURNS}",
    "least_load": f"Several have the fewest requests in flight for their weight; {_TURNS}",
    "two_choices": "Of two services drawn by weight the less loaded one gets it.",
    "random": "Any service may get it, by weight.",
}
_RETURNS: Final = "A service that has just come back gets a part of its share, by chance."
_ALONE: Final = {
    "remembered": "It made the id that the request names: nobody else can answer.",
    "only": "No other service could get it now.",
    "session": "The request has a key, and this is where that key is at home.",
    "least_load": "It has the fewest requests in flight for its weight.",
}


class _Dice:
    """Chance that is the same every time: a linear congruential generator (Knuth, MMIX)."""

    def __init__(self) -> None:
        self._state = 1

    def random(self) -> float:
        """The next number from 0 up to, not including, 1."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return (self._state >> 11) / (1 << 53)


class _Luck:
    """Chance that is always the same."""

    def __init__(self, value: float) -> None:
        self._value = value

    def random(self) -> float:
        """Always the same."""
        return self._value


#: Lets everybody in who has just come back, and nobody of them.
_LUCKY: Final = _Luck(0.0)
_UNLUCKY: Final = _Luck(0.999_999)
