"""The pictures of the bench of the router.

Owns which figures each picture shows and what it says about them. May not live here: how anything is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.report import charts, soak, words
from bench.report.charts import Bar, Drawn, Line, Range
from bench.report.medians import Spread, spread
from bench.report.results import STALLS, Results

CPU: Final = "cpu_us_per_unit"
SERVICES: Final = ((2.0, "services-2"), (100.0, "services-100"), (1000.0, "services-1000"))
BODIES: Final = ((1.0, "body-1k"), (64.0, "body-64k"), (1024.0, "body-1m"))


def render(results: Results) -> dict[str, str]:
    """File name → SVG, for every picture that there are figures for."""
    drawn = {"speed-cpu.svg": cpu, "speed-sizes.svg": sizes, "speed-streams.svg": streams, "speed-soak.svg": memory}
    return {name: text for name, draw in drawn.items() if (text := draw(results)) is not None}


def cpu(results: Results) -> str | None:
    """What a JSON request and an SSE chunk cost each contestant."""
    panels: list[Drawn] = []
    for case, title, subtitle in (
        ("json-64", "A JSON chat request", "64 connections"),
        ("sse-64", "A chunk of a stream", "64 connections, 100 chunks an answer"),
    ):
        if any(_median(results, case, each, CPU) for each in words.COMPARED):
            panels.append(
                charts.stacked([charts.heading(title, subtitle), charts.bars(_bars(results, case), words.micros)])
            )
    if not panels:
        return None
    return charts.picture(
        "CPU time, on one core",
        "Of all of a router’s processes, user and system. Shorter is better.",
        "Bars: median CPU time of each router for one JSON request and for one chunk of a stream.",
        panels,
        "Bar: median over the runs. Line: lowest to highest run. Interleaved runs of one session on one machine.",
    )


def _bars(results: Results, case: str) -> list[Bar]:
    """The cheapest first; who was not measured last."""
    rows = [Bar(words.name(each), _median(results, case, each, CPU), each == words.OURS) for each in words.COMPARED]
    return sorted(rows, key=lambda row: row.value.median if row.value else float("inf"))


def sizes(results: Results) -> str | None:
    """Cost over the number of services, and over the size of the body."""
    panels: list[Drawn] = []
    for cases, labels, title in (
        (SERVICES, ("2 services", "100", "1,000"), "A JSON request, by services known"),
        (BODIES, ("1 KB", "64 KB", "1 MB"), "A JSON request, by size of its body"),
    ):
        if series := _lines(results, cases):
            values = [end for line in series for _, value in line.points for end in (value.low, value.high)]
            scale = "logarithmic scale" if charts.is_log(values) else ""
            ticks = [(size, label) for (size, _), label in zip(cases, labels, strict=True)]
            panels.append(charts.stacked([charts.heading(title, scale), charts.lines(series, ticks, words.micros)], 6))
    if not panels:
        return None
    return charts.picture(
        "What size costs",
        "CPU time a request of all of a router’s processes. Lower is better, and so is flatter.",
        "Lines: median CPU time of each router for one request, over the number of services and the size of the body.",
        panels,
        "Mark: median over the runs. Upright line: lowest to highest run. The figure beside a name is the last mark’s.",
    )


def _lines(results: Results, cases: Sequence[tuple[float, str]]) -> list[Line]:
    """Those that were measured at more than one size."""
    found = []
    for each in words.COMPARED:
        points = [(size, value) for size, case in cases if (value := _median(results, case, each, CPU))]
        if len(points) > 1:
            found.append(Line(words.name(each), points, each == words.OURS))
    return found


def streams(results: Results) -> str | None:
    """Time added to each chunk, and stalls, with many streams open."""
    panels: list[Drawn] = []
    for case, title in (("streams-1000", "1,000 streams at once"), ("streams-4000", "4,000 streams at once")):
        if any(_median(results, case, each, "added_ms_p99") for each in words.COMPARED):
            axis = "time added to a chunk (logarithmic scale)"
            rows = _ranges(results, case)
            panels.append(
                charts.stacked(
                    [charts.heading(title, "20 chunks a second each"), charts.ranges(rows, words.millis, axis)]
                )
            )
    if not panels:
        return None
    return charts.picture(
        "Steadiness of streams, on one core",
        "Time added to a chunk on its way, and stalls: gaps of more than three intervals. Further left is better.",
        "Dots: median and 99th percentile of the time that each router adds to a chunk, with the number of stalls.",
        panels,
        "Dot: half of the chunks are faster. Ring: 99 of 100 are. Medians over the runs; thin lines from the lowest to "
        "the highest, where wider than a mark; stalls are those of the worst run.",
    )


def _ranges(results: Results, case: str) -> list[Range]:
    rows = []
    for each in words.COMPARED:
        low, high = (_median(results, case, each, figure) for figure in ("added_ms_p50", "added_ms_p99"))
        stalls = _median(results, case, each, STALLS)
        remark = "" if stalls is None else "no stalls" if stalls.high == 0 else f"{words.count(stalls.high)} stalls"
        rows.append(Range(words.name(each), low, high, remark, each == words.OURS))
    return rows


def memory(results: Results) -> str | None:
    """Memory over the soak, with its slope."""
    found = soak.read(results.about.soak)
    if found is None:
        return None
    last = found.samples[-1][0]
    fit = [(seconds, found.fit(seconds)) for seconds in (found.fitted_from, last)]
    drawn = charts.course(_thinned(found.samples), fit, words.memory, lambda s: f"{s / 60:.0f} min", 1 << 20)
    each = "" if found.per_request is None else f", {words.figures(found.per_request)} bytes a request"
    return charts.picture(
        "Memory over the soak",
        f"All of Enginehouse’s processes under load for {last / 60:.0f} minutes. Slope: "
        f"{words.memory(found.slope * 60)} a minute{each}.",
        "A line: memory over time, and its fitted slope.",
        [drawn],
        f"Dashed: the slope after the first {soak.WARM_UP:.0%}. Steady: it adds at most {soak.ZERO:.0%} by the end.",
    )


def _thinned(samples: Sequence[soak.Sample], most: int = 260) -> list[tuple[float, float]]:
    """At most so many points: of each stretch the highest, so that no peak is lost."""
    every = -(-len(samples) // most)
    stretches = [samples[at : at + every] for at in range(0, len(samples), every)]
    return [(stretch[-1][0], max(sample[1] for sample in stretch)) for stretch in stretches]


def _median(results: Results, case: str, contestant: str, figure: str) -> Spread | None:
    return spread(results.figure(case, contestant, figure).values())
