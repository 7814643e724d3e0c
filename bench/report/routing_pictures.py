"""The pictures of the page about routing.

Owns which figures they show. May not live here: how anything is drawn (`charts`).
"""

from __future__ import annotations

from typing import Final

from bench.report import charts
from bench.report import routing_words as told
from bench.report.charts import Bar, Drawn, Line
from bench.report.medians import Spread, spread
from bench.report.results import Results, number

SHOWN: Final = ("conversation", "agents", "hot", "chats")
SWEPT: Final = "conversation"


def render(results: Results) -> dict[str, str]:
    """File name → SVG, for every picture that there are figures for."""
    drawn = {"routing-first-token.svg": first_tokens(results), "routing-rates.svg": rates(results)}
    return {name: text for name, text in drawn.items() if text is not None}


def first_tokens(results: Results) -> str | None:
    """Mean time to the first token of every contestant on every load that is compared."""
    panels: list[Drawn] = []
    for load in SHOWN:
        rows = [
            Bar(_plain(each), _median(results, load, each), each == told.OURS)
            for each in told.ordered(results.took_part(load))
        ]
        if rows:
            panels.append(charts.stacked([charts.heading(told.LOADS[load]), charts.bars(rows, told.seconds)]))
    if not panels:
        return None
    return charts.picture(
        "Time to the first token, mean",
        "In seconds of the simulated engines, eight of them behind each router. Shorter is better.",
        "Bars: mean time to the first token with each router, on each load.",
        panels,
        "Bar: median over the seeds. Line: lowest to highest seed.",
    )


def rates(results: Results) -> str | None:
    """Time to the first token over the rate of requests."""
    series: dict[str, list[tuple[float, Spread]]] = {}
    for case in results.cases():
        if case == SWEPT or case.startswith(f"{SWEPT} x"):
            for each in results.took_part(case):
                value, rate = _median(results, case, each), _rate(results, case)
                if value and rate:
                    series.setdefault(each, []).append((rate, value))
    lines = [
        Line(_plain(each), sorted(series[each]), each == told.OURS)
        for each in told.ordered(series)
        if len(series[each]) > 1
    ]
    ticks = sorted({rate for line in lines for rate, _ in line.points})
    if not lines:
        return None
    values = [end for line in lines for _, value in line.points for end in (value.low, value.high)]
    scale = "logarithmic scale" if charts.is_log(values) else ""
    drawn = charts.lines(lines, [(rate, f"×{rate:g}") for rate in ticks], told.seconds, 300)
    return charts.picture(
        "More and more conversations",
        "Mean time to the first token over the rate: how many times as fast as in Mooncake’s trace requests come.",
        "Lines: mean time to the first token with each router, over the rate of requests.",
        [charts.stacked([charts.heading(told.LOADS[SWEPT], scale), drawn], 6)],
        "Where several seeds were played: their median, and a line from the lowest to the highest.",
    )


def _plain(contestant: str) -> str:
    return told.name(contestant).replace("`", "")


def _median(results: Results, case: str, contestant: str) -> Spread | None:
    return spread(results.figure(case, contestant, "ttft_mean").values())


def _rate(results: Results, case: str) -> float | None:
    return next((number(row.get("rate")) for (its, _, _), row in results.rows.items() if its == case), None)
