"""The few lines about routing in the README.

Owns the choice of what a reader sees first. May not live here: arithmetic, judging.
"""

from __future__ import annotations

from typing import Final

from bench.report import routing_words as told
from bench.report import words
from bench.report.medians import ratio, spread
from bench.report.results import Results
from bench.report.routing_verdicts import BEATEN_ON, better

PAGE: Final = "docs/explanation/routing.md"
UNMEASURED: Final = "Routing has not been measured with this version yet."
FIGURE: Final = "ttft_mean"


def section(results: Results | None, picture: str = "") -> str:
    """What stands between the markers. `picture`: where the picture lies; empty where there is none."""
    if results is None or not results.rows:
        return UNMEASURED
    shown = [f"![Mean time to the first token with each router, over the rate of requests]({picture})", ""]
    rows = [
        [told.LOADS[load], *(_cell(results, load, each) for each in _compared(results, load))] for load in BEATEN_ON
    ]
    return "\n".join(
        [
            *(shown if picture else []),
            *words.table(["Time to the first token, mean", "**Enginehouse**", *told.PEERS], rows),
            "",
            "Eight simulated engines behind each router, real HTTP, each router with its default settings or tuned",
            "ones, whichever did better; in small print what Enginehouse takes, divided by what this one takes.",
            f"[Every match, and where others are ahead]({PAGE}).",
        ]
    )


def _compared(results: Results, load: str) -> list[str]:
    """Ours, and each peer as it did better."""
    return [told.OURS, *(better(results, load, peer) for peer in told.PEERS)]


def _cell(results: Results, load: str, contestant: str) -> str:
    theirs = results.figure(load, contestant, FIGURE)
    found = spread(theirs.values())
    if found is None:
        return words.NOTHING
    value = told.seconds(found.median)
    if contestant == told.OURS:
        return f"**{value}**"
    quotient = ratio(results.figure(load, told.OURS, FIGURE), theirs)
    return f"{value}<br><sub>{words.times(quotient.by_run.median)}</sub>" if quotient else value
