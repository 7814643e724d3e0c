"""What must hold, and whether it does.

Owns the targets and the rules of judging. May not live here: where verdicts are shown.
A verdict needs data: without enough sound runs it is "not measured", never held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from bench.report import soak, words
from bench.report.medians import ratio, spread
from bench.report.results import STALLS, Results

AT_LEAST_RUNS: Final = 5
# A run in which more than this share of the requests failed says nothing about the cost of serving them.
MOST_ERRORS: Final = 0.001

JSON_LINE: Final = "JSON at 64 connections, all features on: CPU a request"
SSE_LINE: Final = "SSE: CPU a chunk"
BODY_LINE: Final = "A body of 1 MB"


class Held(Enum):
    YES = "held"
    NO = "**not held**"
    UNKNOWN = "not measured"


@dataclass(frozen=True)
class Figure:
    """Where a number stands: a case, a contestant, the figure's name."""

    case: str
    name: str = "cpu_us_per_unit"
    contestant: str = words.OURS


@dataclass(frozen=True)
class Quotient:
    """`top` ÷ `bottom`, run by run and of the medians, is at most `limit` (below it, if `strict`)."""

    what: str
    top: Figure
    bottom: Figure
    limit: float
    strict: bool = False


@dataclass(frozen=True)
class AtMost:
    """The median of a figure, or (`worst`) its highest run, is at most `limit`."""

    what: str
    figure: Figure
    limit: float
    write: words.Writer
    worst: bool = False


@dataclass(frozen=True)
class Steady:
    """Memory does not grow over the soak."""

    what: str


Target = Quotient | AtMost | Steady


def _against(line: str, case: str, peer: str, limit: float, strict: bool = False) -> Quotient:
    return Quotient(f"{line}, against {peer}", Figure(case), Figure(case, contestant=peer), limit, strict)


TARGETS: Final[tuple[Target, ...]] = (
    _against(JSON_LINE, "json-64", "nginx", 2.0),
    _against(JSON_LINE, "json-64", "vllm-router", 0.40),
    _against(JSON_LINE, "json-64", "sglang-router", 0.30),
    *(
        _against(f"{SSE_LINE}, {case.removeprefix('sse-')} connections", case, peer, limit, strict)
        for case in ("sse-64", "sse-512")
        for peer, limit, strict in (("nginx", 1.15, False), ("vllm-router", 1.0, True), ("sglang-router", 1.0, True))
    ),
    Quotient(
        "Keeping streams so that another engine can go on: CPU a chunk, against not keeping them",
        Figure("sse-64"),
        Figure("sse-64", contestant=words.NO_FAILOVER),
        1.08,
    ),
    AtMost("1,000 streams on one core: stalls", Figure("streams-1000", STALLS), 0, words.count, worst=True),
    AtMost(
        "1,000 streams: memory a stream at rest, what is kept for failover apart",
        Figure("streams-1000", "bytes_per_stream", words.NO_FAILOVER),
        12 << 10,
        words.memory,
    ),
    Quotient("CPU a request, 1,000 services against 2", Figure("services-1000"), Figure("services-2"), 1.3),
    Quotient("CPU a request, two workers against one", Figure("workers-2"), Figure("workers-1"), 1.1),
    AtMost(f"{BODY_LINE} of chat text: finding the model", Figure("find-model-1m"), 500, words.micros),
    _against(f"{BODY_LINE}: CPU a request", "body-1m", "nginx", 1.5),
    Steady("Memory over the soak: slope zero"),
)


@dataclass(frozen=True)
class Verdict:
    """One row of the table. `measured` and `of_medians` are as they are shown; `note` says what is to be known."""

    what: str
    target: str
    measured: str
    of_medians: str
    held: Held
    note: str = ""


def judge(results: Results, targets: tuple[Target, ...] = TARGETS) -> list[Verdict]:
    """A verdict for every target, in their order, whatever is missing."""
    return [_judge(results, target) for target in targets]


def _judge(results: Results, target: Target) -> Verdict:
    match target:
        case Quotient():
            return _quotient(results, target)
        case AtMost():
            return _at_most(results, target)
        case Steady():
            return _steady(results, target)


def sound(results: Results, figure: Figure) -> tuple[dict[int, float], int]:
    """run → value over the runs that went well, and how many did not: their errors are more than one in a thousand."""
    found = results.figure(figure.case, figure.contestant, figure.name)
    errors = results.figure(figure.case, figure.contestant, "errors")
    units = results.figure(figure.case, figure.contestant, "units")
    kept = {run: value for run, value in found.items() if errors.get(run, 0) <= MOST_ERRORS * units.get(run, 0)}
    return kept, len(found) - len(kept) + len(results.failed(figure.case, figure.contestant))


def _quotient(results: Results, target: Quotient) -> Verdict:
    (top, top_spoiled), (bottom, bottom_spoiled) = sound(results, target.top), sound(results, target.bottom)
    text = f"{'below' if target.strict else 'at most'} {words.times(target.limit)}"
    found = ratio(top, bottom)
    note = _note(found.by_run.runs if found else 0, max(top_spoiled, bottom_spoiled))
    if found is None:
        return Verdict(target.what, text, words.NOTHING, words.NOTHING, Held.UNKNOWN, _why_not(results, target))
    within: Callable[[float], bool] = (lambda x: x < target.limit) if target.strict else (lambda x: x <= target.limit)
    held = Held.UNKNOWN if found.by_run.runs < AT_LEAST_RUNS else Held.YES if within(found.worse) else Held.NO
    shown = words.spread(found.by_run, words.times)
    return Verdict(target.what, text, shown, words.times(found.of_medians), held, note)


def _at_most(results: Results, target: AtMost) -> Verdict:
    values, spoiled = sound(results, target.figure)
    found = spread(values.values())
    text = f"at most {target.write(target.limit)}" if target.limit else "none"
    if found is None:
        note = _note(0, spoiled) or f"nobody measured {target.figure.case}"
        return Verdict(target.what, text, words.NOTHING, words.NOTHING, Held.UNKNOWN, note)
    judged = found.high if target.worst else found.median
    held = Held.UNKNOWN if found.runs < AT_LEAST_RUNS else Held.YES if judged <= target.limit else Held.NO
    return Verdict(
        target.what, text, words.spread(found, target.write), words.NOTHING, held, _note(found.runs, spoiled)
    )


def _steady(results: Results, target: Steady) -> Verdict:
    text = f"growth at most {soak.ZERO:.0%} of the memory held"
    found = soak.read(results.about.soak)
    if found is None:
        return Verdict(target.what, text, words.NOTHING, words.NOTHING, Held.UNKNOWN, "no soak, or too few samples")
    shown = f"{found.share:+.2%}"
    return Verdict(target.what, text, shown, words.NOTHING, Held.YES if found.steady else Held.NO)


def _note(runs: int, spoiled: int) -> str:
    """Why a verdict has less to stand on than it should."""
    said = []
    if spoiled:
        said.append(f"{spoiled} run{'s' * (spoiled > 1)} failed")
    if 0 < runs < AT_LEAST_RUNS:
        said.append(f"{runs} of the {AT_LEAST_RUNS} runs it takes")
    return ", ".join(said)


def _why_not(results: Results, target: Quotient) -> str:
    skipped: Mapping[str, str] = results.about.skipped
    for figure in (target.top, target.bottom):
        if results.failed(figure.case, figure.contestant):
            return f"{words.name(figure.contestant)} failed in {figure.case}"
        if not results.figure(figure.case, figure.contestant, figure.name):
            why = (
                f" was skipped: {skipped[figure.contestant]}"
                if figure.contestant in skipped
                else f" has no {figure.case}"
            )
            return words.name(figure.contestant) + why
    return "no run has both"
