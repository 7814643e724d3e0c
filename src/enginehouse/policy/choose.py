"""Which service gets the request: the table of choosers, and the one function that asks them.

Owns `choose`, its three answers and the chooser of each policy. Everything is an argument, nothing is touched.
May not live here: filtering (`candidates`), counting of turns and loads (the worker), what a refusal looks like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

from enginehouse.core.ask import Ask, Prompt
from enginehouse.core.fleet import Service
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import Shared
from enginehouse.policy.admission import with_room
from enginehouse.policy.affinity import SHARDS, digest, home
from enginehouse.policy.candidates import Chance, awake, candidates, usable
from enginehouse.policy.line import line_at, line_for
from enginehouse.policy.prefix import Scored, pick, score
from enginehouse.policy.prefix_index import PrefixIndex
from enginehouse.policy.shortlist import shortlist, window
from enginehouse.policy.spread import smooth
from enginehouse.policy.table import MANY, Entry, Table


class LoadView:
    """What changes between two snapshots, as far as choosing reads it: views on the shared memory, no copies."""

    __slots__ = (
        "capacity",
        "ejected_until",
        "held",
        "index",
        "latest_ejection",
        "learned",
        "loads",
        "queued",
        "rest_until",
        "slow_from",
        "slow_until",
    )

    def __init__(self, shared: Shared, workers: int, capacity: int = 0, learn: bool = False) -> None:
        """`capacity`: cap of services that state none, 0 for none. `learn`: mind the learned caps."""
        self.ejected_until = shared.ejected_until
        self.rest_until = shared.rest_until
        self.slow_from = shared.slow_from
        self.slow_until = shared.slow_until
        self.latest_ejection = shared.latest_ejection
        self.loads: Sequence[memoryview[int]] = tuple(shared.loads[:workers])
        """Per worker that lives a row of in-flight requests per slot."""
        self.queued: Sequence[memoryview[int]] = tuple(shared.queued[:workers])
        """The same of tokens still to be computed."""
        self.held: Sequence[memoryview[int]] = tuple(shared.held[:workers])
        """The same of tokens of the prompts in flight."""
        self.index = PrefixIndex(shared)
        self.capacity = capacity
        self.learned: memoryview[int] | None = shared.learned if learn else None

    def look(self, shared: Shared, own: int) -> None:
        """Who lives has changed: whose rows count, beside those of worker `own`."""
        self.loads = shared.living(own)
        self.queued = shared.living_queued(own)
        self.held = shared.living_held(own)
        self.index.look()


class Choice(NamedTuple):
    """Who gets it, and why in one word (the policy's name, or `only`, `session`, `remembered`)."""

    service: Service
    reason: str
    score: Scored | None = None
    """What the prompt is expected to cost there; None where the policy does not look at prompts."""


class Refusal(NamedTuple):
    """Nobody can. `model` is the name asked for, "" where none was."""

    outcome: Outcome
    model: str


class Busy(NamedTuple):
    """Nobody can now, but somebody may in a moment: all are at their caps, or none is ready."""

    line: str
    """Where to wait: the model asked for ("" where none was), or a line beside that one (`policy.line`)."""
    refusal: Refusal
    """What to answer where waiting is not possible."""


def choose(
    table: Table, ask: Ask, tried: tuple[str, ...], view: LoadView, now: float, turn: int, rng: Chance
) -> Choice | Busy | Refusal:
    """Choose a service for one attempt.

    `tried` are names of services that had their attempt. `turn` counts the choices made for this model (`Ask.model`,
    "" being one of its own) by this worker: one counter for all models would give each of two models that take turns
    one service only. `now` is the clock of `view.ejected_until`, in seconds.
    """
    entry = table.models.get(ask.model) if ask.model else table.everyone
    if entry is None or not entry.services:
        return _not_ready(table, ask, entry, tried)
    if ask.remembered >= 0:
        keeper = _keeper(table, ask.remembered, entry.model)
        # Nobody else has what the id stands for, so an ejection does not matter here.
        if keeper is not None and keeper.name not in tried:
            if entry.capped and not _with_room((keeper,), view):
                return Busy(line_at(keeper), Refusal(Outcome.QUEUE_FULL, ask.model))
            return _alone(keeper, "remembered", entry, ask, view)
    policy, prompt = policy_of(ask, entry), ask.prompt
    if policy == "prefix" and prompt is not None:
        return _warmest(table, entry, ask, prompt, tried, view, now, turn, rng)
    if ask.session:
        return _at_home(table, entry, ask, tried, view, now, rng)
    many = len(entry.services) > MANY
    found = open_to(entry, window(entry.rotation, turn) if many else (), ask, tried, view, now, rng, 0)
    if not found:
        return _all_taken(table, ask, entry, tried, found)
    if len(found) == 1:
        return Choice(found[0], "only")
    if found is entry.services:
        rotation: Sequence[Service] = entry.rotation
    elif many:
        rotation = found
    else:
        rotation = [found[index] for index in smooth(tuple([s.weight for s in found]))]
    return Choice(CHOOSERS[policy](found, rotation, view.loads, turn, rng), policy)


def policy_of(ask: Ask, entry: Entry) -> str:
    """Which policy chooses: `prefix` where there is no prompt is `least_load`."""
    policy = ask.policy or entry.policy
    return "least_load" if policy == "prefix" and ask.prompt is None else policy


def _alone(service: Service, reason: str, entry: Entry, ask: Ask, view: LoadView) -> Choice:
    """No other one comes into question; what it is to compute counts all the same."""
    if ask.prompt is None or policy_of(ask, entry) != "prefix":
        return Choice(service, reason)
    return Choice(
        service, reason, score(ask.prompt, service, view.loads, view.queued, view.held, view.index, entry.mean)
    )


def _warmest(
    table: Table,
    entry: Entry,
    ask: Ask,
    prompt: Prompt,
    tried: tuple[str, ...],
    view: LoadView,
    now: float,
    turn: int,
    rng: Chance,
) -> Choice | Busy | Refusal:
    """Where the first token comes soonest; a session's home, if it does not take much longer there."""
    key = digest(ask.session) if ask.session else 0
    part = shortlist(prompt.chunks, entry, view.index.learners, turn) if entry.by_slot else ()
    found = open_to(entry, part, ask, tried, view, now, rng, key)
    if not found:
        return _all_taken(table, ask, entry, tried, found)
    at_home: Service | None = None
    if key and part:
        # Where a key is at home may not depend on what else is looked at.
        at_home = home(key, open_to(entry, entry.shards[key % SHARDS], ask, tried, view, now, rng, key) or found)
        if at_home not in found:
            found = [*found, at_home]
    elif key:
        at_home = home(key, found)
    if len(found) == 1:
        return _alone(found[0], "only", entry, ask, view)
    chosen, reason = pick(prompt, found, view.loads, view.queued, view.held, view.index, entry.mean, at_home, turn)
    return _alone(chosen, reason, entry, ask, view)


def open_to(
    entry: Entry,
    part: Sequence[Service],
    ask: Ask,
    tried: tuple[str, ...],
    view: LoadView,
    now: float,
    rng: Chance,
    key: int,
) -> Sequence[Service] | None:
    """Who may get the attempt now: somebody of `part` if possible, else of all. Empty: all that are left are at their
    caps; None: nobody is left. `key` is the digest of the session, 0 for none."""
    found = usable(part, tried, view, now, rng, key, ask.cache_type) if part else part
    if not entry.capped:
        return found or candidates(entry.services, tried, view, now, rng, key, ask.cache_type) or None
    if found and (free := _with_room(found, view)):
        return free
    # The preferred type is looked for among those with room: better another one now than the right one later.
    found = candidates(entry.services, tried, view, now, rng, key, "")
    if not found:
        return None
    free = _with_room(found, view) or _with_room(awake(entry.services, tried, view, now), view)
    return [service for service in free if service.cache_type == ask.cache_type] or free if ask.cache_type else free


def _with_room(services: Sequence[Service], view: LoadView) -> Sequence[Service]:
    return with_room(services, view.loads, view.capacity, view.learned)


def has_room(service: Service, view: LoadView) -> bool:
    """Is the service below its cap?"""
    return bool(_with_room((service,), view))


def _all_taken(
    table: Table, ask: Ask, entry: Entry, tried: tuple[str, ...], found: Sequence[Service] | None
) -> Busy | Refusal:
    if found is None:
        return _refusal(table, ask, entry)
    return Busy(line_for(ask.model, bool(tried)), Refusal(Outcome.QUEUE_FULL, ask.model))


def _not_ready(table: Table, ask: Ask, entry: Entry | None, tried: tuple[str, ...]) -> Busy | Refusal:
    """Nobody serves it now. Worth waiting for, where somebody did before or may when all is told."""
    refusal = _refusal(table, ask, entry)
    outcome = refusal.outcome
    if tried or outcome is Outcome.MODEL_UNKNOWN or outcome is Outcome.MODEL_UNKNOWN_404:
        return refusal
    if outcome is Outcome.NO_SERVICE and table.all_told and not table.known:
        return refusal
    return Busy(ask.model, refusal)


def _refusal(table: Table, ask: Ask, entry: Entry | None) -> Refusal:
    if not table.synced:
        return Refusal(Outcome.NOT_SYNCED, ask.model)
    if not ask.model:
        return Refusal(Outcome.NO_SERVICE, "")
    if (entry is not None and entry.services) or (entry.model if entry else ask.model) in table.known:
        return Refusal(Outcome.NO_SERVICE_FOR_MODEL, ask.model)
    if not table.all_told:
        return Refusal(Outcome.NOT_SYNCED, ask.model)
    return Refusal(Outcome.MODEL_UNKNOWN_404 if table.unknown_is_404 else Outcome.MODEL_UNKNOWN, ask.model)


def _keeper(table: Table, slot: int, model: str) -> Service | None:
    """The service that made the id, if it may still serve this request."""
    service = table.by_slot.get(slot)
    if service is None or not service.up or not service.inference:
        return None
    return service if not model or model in service.models else None


def _at_home(
    table: Table, entry: Entry, ask: Ask, tried: tuple[str, ...], view: LoadView, now: float, rng: Chance
) -> Choice | Busy | Refusal:
    """Affinity goes before the policy, and works within the preferred cache type."""
    key = digest(ask.session)
    found = open_to(entry, entry.shards[key % SHARDS] if entry.shards else (), ask, tried, view, now, rng, key)
    if not found:
        return _all_taken(table, ask, entry, tried, found)
    return Choice(found[0], "only") if len(found) == 1 else Choice(home(key, found), "session")


Chooser = Callable[[Sequence[Service], Sequence[Service], "Sequence[memoryview[int]]", int, Chance], Service]
"""(candidates, the same in smooth weighted order, loads, turn, rng) -> the chosen one. At least two candidates."""


def load_of(service: Service, loads: Sequence[memoryview[int]]) -> float:
    """Requests in flight per unit of weight."""
    slot = service.slot
    total = 0
    for row in loads:
        total += row[slot]
    return total / service.weight


def round_robin(
    _found: Sequence[Service], rotation: Sequence[Service], _loads: Sequence[memoryview[int]], turn: int, _rng: Chance
) -> Service:
    """Each in its turn, as often as its weight says, never in bursts."""
    return rotation[turn % len(rotation)]


def least_load(
    found: Sequence[Service], rotation: Sequence[Service], loads: Sequence[memoryview[int]], turn: int, _rng: Chance
) -> Service:
    """The one with the fewest requests in flight per unit of weight; those that tie take turns by weight."""
    least = inf
    tied: list[Service] = []
    for service in found:
        slot = service.slot
        total = 0
        for row in loads:
            total += row[slot]
        load = total / service.weight
        if load < least:
            least = load
            tied = [service]
        elif load == least:
            tied.append(service)
    if len(tied) == 1:
        return tied[0]
    if len(tied) == len(found):
        return rotation[turn % len(rotation)]
    order = smooth(tuple([service.weight for service in tied]))
    return tied[order[turn % len(order)]]


def two_choices(
    _found: Sequence[Service], rotation: Sequence[Service], loads: Sequence[memoryview[int]], _turn: int, rng: Chance
) -> Service:
    """Two drawn by weight; the less loaded of them (Mitzenmacher, "The power of two choices", 2001)."""
    places = len(rotation)
    at = int(rng.random() * places)
    first = rotation[at]
    step = int(rng.random() * (places - 1)) + 1
    second = rotation[(at + step) % places]
    return second if load_of(second, loads) < load_of(first, loads) else first


def random(
    _found: Sequence[Service], rotation: Sequence[Service], _loads: Sequence[memoryview[int]], _turn: int, rng: Chance
) -> Service:
    """Any, as often as its weight says."""
    return rotation[int(rng.random() * len(rotation))]


#: All but `prefix`, which looks at more (`policy_of`).
CHOOSERS: dict[str, Chooser] = {
    "round_robin": round_robin,
    "least_load": least_load,
    "two_choices": two_choices,
    "session": round_robin,  # a request with a session never gets here, whatever the policy; others take turns
    "random": random,
}
