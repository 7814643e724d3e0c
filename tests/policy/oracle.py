"""The policy `prefix` once more, by brute force: dicts and lists, every candidate and every chunk looked at.

Owns `Plain`: what is warm where, what runs, and who should get a prompt. Only constants are the policy's own, and what
answers have taught (`Figures`), which has tests of its own. May not live here: tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import NamedTuple

from enginehouse.core.ask import Prompt
from enginehouse.core.fleet import Service
from enginehouse.policy import prefix
from enginehouse.policy.affinity import PRIME, seed_of
from enginehouse.policy.prefix_index import KV_TOKENS, RENEW, Figures

#: Costs are compared with this error, in seconds: they are added up in another order here.
ROUNDING = 1e-9


class Given(NamedTuple):
    """A prompt that a service was given, until it is over."""

    worker: int
    name: str
    queued: int
    """Tokens of it that were still to be computed when it came."""
    held: int
    """All its tokens."""
    before: dict[int, int | None]
    """Chunks that were paid for, with when they had been before; None: never."""
    after: dict[int, int]
    """When they were paid for then."""


class Plain:
    """A model's services, their requests and their chunks."""

    def __init__(self, members: Sequence[Service]) -> None:
        self.members = {member.name: member for member in members}
        self.paid: dict[str, dict[int, int]] = {name: {} for name in self.members}
        """For each service, when each chunk was last paid for, by its clock."""
        self.clocks = dict.fromkeys(self.members, 0)
        self.running: list[Given] = []
        self.waiting: list[Given] = []
        """Those of `running` that have no first token yet."""
        self.out: set[str] = set()

    # -- what happens --------------------------------------------------------------------------------------------------

    def give(self, worker: int, name: str, prompt: Prompt, queued: int, held: int, span: int) -> Given:
        """The service gets the prompt, of which some tokens are to be computed."""
        paid, due = self.paid[name], self.clocks[name] - int(span * RENEW)
        given = Given(worker, name, queued, held, {}, {})
        starts = (0, *prompt.ends)
        for start, end, chunk in reversed(list(zip(starts, prompt.ends, prompt.chunks, strict=False))):
            if chunk not in paid or paid[chunk] <= due:
                self.clocks[name] += (end - start) // 1024
                given.before[chunk] = paid.get(chunk)
                given.after[chunk] = paid[chunk] = self.clocks[name]
        self.running.append(given)
        self.waiting.append(given)
        return given

    def first_token(self, given: Given) -> None:
        """It has computed the prompt."""
        self.waiting.remove(given)

    def end(self, given: Given) -> None:
        """The request is over."""
        self.running.remove(given)
        if given in self.waiting:
            self.waiting.remove(given)

    def undo(self, given: Given) -> None:
        """It never got it."""
        paid = self.paid[given.name]
        for chunk, before in given.before.items():
            if paid.get(chunk) == given.after[chunk]:
                del paid[chunk]
                if before is not None:
                    paid[chunk] = before

    def crash(self, worker: int) -> None:
        """The worker is gone, and with it its connections."""
        for given in [given for given in self.running if given.worker == worker]:
            self.end(given)

    def forget(self, name: str) -> None:
        """Nothing is warm there."""
        self.paid[name] = {}

    # -- what should follow --------------------------------------------------------------------------------------------

    def warm(self, name: str, prompt: Prompt, span: int) -> list[bool]:
        """Of each chunk, whether it is warm there."""
        paid, clock = self.paid[name], self.clocks[name]
        return [chunk in paid and clock - paid[chunk] < span for chunk in prompt.chunks]

    def cost(self, name: str, prompt: Prompt, depth: int, figures: Figures) -> float:
        """Seconds until the first token, were `depth` chunks warm there."""
        member = self.members[name]
        uncached = 1 + int((prompt.size - (prompt.ends[depth - 1] if depth else 0)) / figures.token_bytes)
        room = member.kv_tokens or KV_TOKENS
        seconds = (sum(given.queued for given in self.waiting if given.name == name) + uncached) / figures.rate
        for given in self.running:
            if given.name == name:
                beside = prefix.PER_REQUEST + prefix.FULL * given.held / room
                seconds += beside + beside * uncached / prefix.STEP_TOKENS
        weights = [each.weight for each in self.members.values()]
        return seconds * sum(weights) / len(weights) / member.weight

    def allowed(self, tried: Sequence[str], cache_type: str) -> list[str] | None:
        """Who may get a request; none: all are full; None: nobody is left."""
        left = [name for name in self.members if name not in tried]
        if not left:
            return None
        up = [name for name in left if name not in self.out] or left
        loads = {name: sum(1 for given in self.running if given.name == name) for name in up}
        room = [name for name in up if not self.members[name].capacity or loads[name] < self.members[name].capacity]
        return [name for name in room if self.members[name].cache_type == cache_type] or room if cache_type else room

    def who(self, prompt: Prompt, costs: dict[str, float], depths: dict[str, int], key: int) -> set[tuple[str, str]]:
        """Who should get it and why: more than one where costs are too near to a limit to tell, or turns decide."""
        least, found = min(costs.values()), set[tuple[str, str]]()
        for error in (-ROUNDING, ROUNDING):
            at_home = self.home(key, list(costs)) if key else ""
            if key and costs[at_home] <= least + prefix.PIN + error:
                found.add((at_home, "session"))
                continue
            limit = least + prefix.NEAR + prefix.NEAR_PART * least + error
            tied = [name for name, cost in costs.items() if cost <= limit]
            if prompt.chunks:
                first = [*prompt.chunks, prompt.chunks[-1]][min(depths.values())]
                tied = [self.home(first % (PRIME - 1) + 1, tied)]
            found |= {(name, "prefix") for name in tied}
        return found

    def home(self, key: int, names: Sequence[str]) -> str:
        """By rendezvous: each has a number for the key, the greatest wins; a weight of two is two numbers' chance."""
        return max(names, key=lambda name: log(key * seed_of(name) % PRIME / PRIME) / self.members[name].weight)
