"""What must hold of routing, and whether it does.

Owns the targets and the rule of judging them. May not live here: where verdicts are shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.report import words
from bench.report.medians import Ratio, ratio, spread
from bench.report.results import Results
from bench.report.routing_words import LEAST, LOADS, OURS, PEERS
from bench.report.verdicts import AT_LEAST_RUNS, Held

KNEE: Final = "conversation"
TWO_WORKERS: Final = "conversation, 2 workers"
BEATEN_ON: Final = (KNEE, "agents", "hot")
AT_KNEE: Final = 1.5
NOT_WORSE: Final = 1.05
WORKERS_APART: Final = 1.05


@dataclass(frozen=True)
class Verdict:
    """One target. `target` and `measured` are quotients: ours, divided by theirs."""

    what: str
    held: Held
    target: str
    measured: str


def judge(results: Results) -> Iterator[Verdict]:
    """Every target in turn."""
    for load in BEATEN_ON:
        for peer in PEERS:
            best = better(results, load, peer)
            for figure, said in (("ttft_mean", "mean"), ("ttft_p90", "p90")):
                what = f"{LOADS[load]}: first token, {said}, below {best.replace('-tuned', ', tuned')}"
                yield _verdict(what, _ratio(results, load, OURS, load, best, figure), 1.0, strict=True)
    for peer in PEERS:
        found = _ratio(results, KNEE, OURS, KNEE, peer, "ttft_mean")
        yield _verdict(f"{LOADS[KNEE]}, at the knee: mean {AT_KNEE} × better than {peer}", found, 1 / AT_KNEE)
    found = _ratio(results, "chats", OURS, "chats", LEAST, "ttft_mean")
    yield _verdict(f"{LOADS['chats']}: mean at most 5 % above `{LEAST}`", found, NOT_WORSE)
    found = _ratio(results, TWO_WORKERS, OURS, KNEE, OURS, "ttft_mean")
    yield _verdict("Two workers: mean within 5 % of one", found, WORKERS_APART)


def better(results: Results, load: str, peer: str) -> str:
    """The setting of a peer with the lower mean time to the first token."""

    def middle(contestant: str) -> float:
        found = spread(results.figure(load, contestant, "ttft_mean").values())
        return found.median if found else float("inf")

    return min(PEERS[peer], key=middle)


def _ratio(results: Results, top: str, ours: str, bottom: str, theirs: str, figure: str) -> Ratio | None:
    return ratio(results.figure(top, ours, figure), results.figure(bottom, theirs, figure))


def _verdict(what: str, found: Ratio | None, limit: float, strict: bool = False) -> Verdict:
    target = f"{'below' if strict else 'at most'} {limit:.2f}"
    if found is None:
        return Verdict(what, Held.UNKNOWN, target, words.NOTHING)
    within = found.worse < limit if strict else found.worse <= limit
    measured = words.spread(found.by_run, lambda value: f"{value:.2f}")
    if found.by_run.runs < AT_LEAST_RUNS:
        return Verdict(what, Held.UNKNOWN, target, f"{measured} ({'within' if within else '**not** within'})")
    return Verdict(what, Held.YES if within else Held.NO, target, measured)
