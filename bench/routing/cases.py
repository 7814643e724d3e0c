"""The matches of the contest over HTTP: which contestants play which load at which rate how often.

Owns the plan, the short one too. May not live here: playing (`match`).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from bench.routing.contestants import ALL, OURS
from bench.routing.loads import LOADS

Trouble = Literal["", "killed", "slowed"]
#: Seeds of what is compared, and of what is only looked at.
SEEDS, ONE = (1, 2, 3, 4, 5), (1,)
_EVERYBODY = tuple(ALL)
#: Those who look at prompts; the best of the others, too; those that are shown as they are by default.
_OWN = ("prefix", "least_load")
_LOOKING = tuple(name for name in ALL if name not in ("round_robin", "least_load", "nginx"))
_CLOSER = ("least_load", *_LOOKING)
_SOME = tuple(name for name in ALL if name != "round_robin" and not name.endswith("-tuned"))
#: Loads that are compared over several seeds, and by whom.
_COMPARED = {"conversation": _CLOSER, "agents": _LOOKING, "hot": _LOOKING, "chats": _OWN}
#: Of these some with one seed only: agents wait for each answer, and with these routers that takes minutes; with a hot
#: prefix their settings make no difference.
_FEWER = {
    "agents": ("sglang-router", "vllm-router-tuned"),
    "hot": ("sglang-router-tuned", "vllm-router-tuned"),
}
#: And with one seed: everybody once.
_ONCE = {"conversation-raw": _EVERYBODY}


class Case(NamedTuple):
    """Some contestants on one load."""

    name: str
    load: str
    rate: float
    contestants: tuple[str, ...]
    seeds: tuple[int, ...]
    once: tuple[str, ...] = ()
    """Of them, those that play with the first seed only."""
    workers: int = 1
    trouble: Trouble = ""
    """What an engine meets for a third of the load."""
    factor: float = 1.0
    """How many times as slow it is then."""
    time_scale: float = 0.0
    """0: that of the load."""
    requests: int = 0
    """0: the usual number."""

    @property
    def matches(self) -> int:
        """How many there are."""
        return len(self.seeds) * len(self.contestants) - (len(self.seeds) - 1) * len(self.once)


def whole() -> list[Case]:
    """Everything, within two hours; what matters most comes first."""
    compared = [_at_knee(load, SEEDS) for load in _COMPARED]
    once = [_at_knee(load, ONE) for load in _ONCE]
    sweep = [
        Case(f"conversation x{rate:g}", "conversation", rate, _SOME[:-1], ONE)
        for rate in LOADS["conversation"].rates
        if rate != LOADS["conversation"].knee
    ]
    return [*compared, workers(2, SEEDS), *once, *troubles(), *sweep]


def quick() -> list[Case]:
    """What is compared, with one seed, without those that take minutes."""
    found = [_at_knee(load, ONE) for load in _COMPARED]
    return [case._replace(contestants=tuple(n for n in case.contestants if n not in case.once)) for case in found]


def workers(count: int, seeds: tuple[int, ...]) -> Case:
    """Ours with so many workers on the conversations."""
    rate = LOADS["conversation"].knee
    return Case(f"conversation, {count} workers", "conversation", rate, OURS[:1], seeds, workers=count)


def troubles() -> list[Case]:
    """An engine dies and comes back, or is slow for a while: below the knee, and in slower time, as routers notice such
    things by real clocks."""
    usual = Case("", "conversation", LOADS["conversation"].rates[0], _SOME, ONE, time_scale=6.0)
    return [
        usual._replace(name="an engine is killed, and comes back", trouble="killed"),
        usual._replace(name="an engine is three times as slow", trouble="slowed", factor=3.0),
    ]


def _at_knee(load: str, seeds: tuple[int, ...]) -> Case:
    return Case(load, load, LOADS[load].knee, (_COMPARED | _ONCE)[load], seeds, _FEWER.get(load, ()))


def seconds(case: Case, matches: int) -> float:
    """About what so many of its matches take: engines' time of the load by its scale, starts and ends."""
    spans = {"conversation": 530.0, "conversation-raw": 530.0, "agents": 900.0, "hot": 1500.0, "chats": 420.0}
    scale = case.time_scale or LOADS[case.load].time_scale
    return matches * (10.0 + spans[case.load] / case.rate / scale)
