"""The short table of speed in the README.

Owns the choice of what a reader sees first, and the words that say how it was measured. May not live here: arithmetic,
markers (`markers`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench.report import medians, words
from bench.report.results import STALLS, Results
from bench.report.verdicts import Held, judge
from bench.report.words import DIRECT, OURS

PAGE: Final = "docs/explanation/speed.md"
COMPILE: Final = "docs/how-to/compile.md"
CPU: Final = "cpu_us_per_unit"
UNMEASURED: Final = """Figures are published here when they are measured, beside the others in one run, by the
benchmarks of this repository."""


@dataclass(frozen=True)
class Line:
    """A row: a figure of a case. `above`: what is shown is how much more it is than for this contestant, run by run."""

    what: str
    case: str
    figure: str
    write: words.Writer
    compared: bool = True
    above: str = ""


LINES: Final = (
    Line("JSON request, 64 connections: CPU", "json-64", "cpu_us_per_unit", words.micros),
    Line("SSE chunk, 64 connections: CPU", "sse-64", "cpu_us_per_unit", words.micros),
    Line("Request with a body of 1 MB: CPU", "body-1m", "cpu_us_per_unit", words.micros),
    Line("1,000 streams: stalls", "streams-1000", STALLS, words.count, compared=False),
    Line("… time added to a chunk, p99", "streams-1000", "added_ms_p99", words.millis, compared=False),
    Line("… memory a stream", "streams-1000", "bytes_per_stream", words.memory),
    Line("One connection: latency added, p50", "latency", "p50_us", words.micros, compared=False, above=DIRECT),
    Line("… p99", "latency", "p99_us", words.micros, compared=False, above=DIRECT),
    Line("Memory, all processes", "json-64", "rss_bytes", words.memory),
)


def section(results: Results | None, picture: str = "") -> str:
    """What stands between the markers. `picture`: where the picture lies; empty where there is none."""
    if results is None or not results.rows:
        return UNMEASURED
    head = [
        "",
        *(f"**{words.name(each)}**" if each == OURS else words.cell(words.name(each)) for each in words.COMPARED),
    ]
    rows = [[line.what, *(_cell(results, line, each) for each in words.COMPARED)] for line in LINES]
    shown = [f"![CPU time of Enginehouse and its peers, for a JSON request and for a chunk of a stream]({picture})", ""]
    lines = [
        *(shown if picture else []),
        *words.table(head, rows),
        "",
        *notes(results),
        "",
        *summary(results),
    ]
    return "\n".join(lines)


def values(results: Results, line: Line, contestant: str) -> Mapping[int, float]:
    """run → what a row shows of a contestant."""
    own = results.figure(line.case, contestant, line.figure)
    if not line.above:
        return own
    return medians.differences(own, results.figure(line.case, line.above, line.figure))


def _cell(results: Results, line: Line, contestant: str) -> str:
    """The median; below it in small print the lowest and highest run, and what ours is in proportion."""
    theirs = values(results, line, contestant)
    found = medians.spread(theirs.values())
    if found is None:
        return words.NOTHING
    value = line.write(found.median)
    small = [words.between(found.low, found.high, line.write)] if found.low < found.high else []
    if line.compared and contestant != OURS and (ratio := medians.ratio(values(results, line, OURS), theirs)):
        small.append(words.times(ratio.by_run.median))
    value = f"**{value}**" if contestant == OURS else value
    return f"{value}<br><sub>{' · '.join(small)}</sub>" if small else value


def notes(results: Results) -> list[str]:
    """How to read the table, and who is missing from it."""
    said = [
        "In small print: the lowest and the highest run; then what Enginehouse takes, divided by what this one takes,",
        "compared within each run (below 1× Enginehouse takes less). CPU and memory are those of all processes of a",
        f"contestant. {words.NOTHING}: not measured.",
    ]
    said += uncompiled(results)
    for contestant, why in sorted(results.about.skipped.items()):
        said.append(f"{words.cell(words.name(contestant))} was skipped: {words.cell(why)}.")
    return said


def uncompiled(results: Results) -> list[str]:
    """What the package costs as it installs by itself, without the compiled hot modules."""
    found = [medians.spread(results.figure(case, words.PURE, CPU).values()) for case in ("json-64", "sse-64")]
    costs = [words.micros(each.median) for each in found if each is not None]
    if len(costs) < len(found):
        return []
    return [
        f"Enginehouse is measured with its [hot modules compiled]({COMPILE}); as it installs by itself, without a",
        f"compiler, it takes {costs[0]} a JSON request and {costs[1]} a chunk.",
    ]


def summary(results: Results) -> list[str]:
    """How, when, where and of what it was measured, and how many targets are met."""
    verdicts = judge(results)
    count: Callable[[Held], int] = lambda held: sum(verdict.held is held for verdict in verdicts)  # noqa: E731
    missed = ", ".join(
        f"{number} {'is' if number == 1 else 'are'} {text}"
        for number, text in ((count(Held.NO), "not"), (count(Held.UNKNOWN), "not measured"))
        if number
    )
    met = f"Of {len(verdicts)} targets {count(Held.YES)} are held{f', {missed}' if missed else ''}"
    return [*how(results), f"{met}: [every case, target and configuration]({PAGE})."]


def how(results: Results) -> list[str]:
    """The sentences that say how it was measured."""
    about = results.about
    setting = about.settings.get
    pins = setting("pins")
    runs = Counter((case, contestant) for case, contestant, _ in results.rows).values()
    fewest, most = min(runs, default=0), max(runs, default=0)
    many = f"Medians of {most if fewest == most else f'{fewest} to {most}'} interleaved runs"
    said = ["One run" if most == 1 else many]
    if isinstance(seconds := setting("seconds_per_run"), int | float):
        said[-1] += f" of {seconds:g} s each"
    said[-1] += f", in one session of `scripts/bench {about.bench}`"
    said[-1] += f" on {about.started[:10]}" if about.started else ""
    said[-1] += "."
    if isinstance(pins, dict) and {"router", "load"} <= pins.keys():
        said.append(
            f"The router under test has core {pins['router']} to itself; load and backend are on core {pins['load']}."
        )
    if not about.finished:
        said.append("**The session did not finish**: what is missing was not reached.")
    said.append(f"Machine: {machine(results)}.")
    said.append(f"Versions: {versions(results)}.")
    return said


def machine(results: Results) -> str:
    told = results.about.machine
    named = [str(told["cpu"])] if told.get("cpu") else []
    named += [f"{told['cores']} cores"] if told.get("cores") else []
    named += [f"kernel {told['kernel']}"] if told.get("kernel") else []
    named += [f"Python {told['python']}"] if told.get("python") else []
    return words.cell(", ".join(named)) or "not told"


def versions(results: Results) -> str:
    """Of those in the table; ours with its commit."""
    about, said = results.about, []
    for each in (each for each in words.COMPARED if each in about.contestants):
        version = about.contestants[each].version
        if each == OURS and about.commit:
            version += f" at commit {about.commit[:12]}{' with uncommitted changes' if about.dirty else ''}"
        said.append(f"{words.name(each)} {version}".strip())
    return words.cell(", ".join(said)) or "not told"
