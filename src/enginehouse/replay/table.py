"""A replay's figures for people: tables for a terminal.

Owns their layout and how figures are written there. May not live here: arithmetic (`figures`), pictures (`plots`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from enginehouse.replay.figures import Figures, Spread, Times

SERVICES_SHOWN: Final = 32


def seconds(value: float) -> str:
    """`12.3 s`, `812 ms`, `0.42 ms`: three digits that count."""
    if value >= 1:
        return f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"
    return f"{value * 1000:.0f} ms" if value >= 0.1 else f"{value * 1000:.3g} ms"


def rate(value: float) -> str:
    """In a second."""
    return f"{value:,.0f}/s" if value >= 100 else f"{value:.3g}/s"


def report(told: Figures, time_scale: float) -> RenderableType:
    """Everything there is to say, in the order in which one asks."""
    parts: list[RenderableType] = []
    if told.lateness.void:
        parts.append(Text(f"VOID: {told.lateness.void}. Give the client a core of its own.", "bold red"))
    parts += [_times(told.model), Text(), *_sums(told, time_scale)]
    if told.errors:
        parts += [Text(), _errors(told)]
    if told.services:
        parts += [Text(), _services(told)]
    return Group(*parts)


def _table(*headings: str) -> Table:
    made = Table(box=None, pad_edge=False, header_style="dim")
    made.add_column(headings[0], overflow="fold")
    for heading in headings[1:]:
        made.add_column(heading, justify="right", no_wrap=True)
    return made


def _times(times: Times) -> Table:
    made = _table("", "MEAN", "P50", "P90", "P99", "MAX")
    for name, spread in (
        ("time to first token", times.ttft),
        ("time per output token", times.tpot),
        ("end to end", times.end_to_end),
    ):
        made.add_row(Text(name, "bold"), *_cells(spread, seconds))
    return made


def _cells(spread: Spread | None, write: Callable[[float], str]) -> list[str]:
    if spread is None:
        return ["–"] * 5
    return [write(value) for value in (spread.mean, spread.p50, spread.p90, spread.p99, spread.max)]


def _sums(told: Figures, time_scale: float) -> Iterator[RenderableType]:
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    model, goal, tokens = told.model, told.objective, told.tokens
    clock = f" of model time ({seconds(told.wall.seconds)} by the clock)" if time_scale != 1 else ""
    asked = f"{told.answered} of {told.asked} asked, in {seconds(model.seconds)}{clock}"
    left = told.planned - told.asked
    made.add_row("answered", asked + (f"; {left} of the trace not asked" if left else ""))
    if told.unfinished:
        made.add_row("unfinished", f"{told.unfinished} when it was stopped")
    within = f"{goal.share:.1%} within {seconds(goal.ttft)} to the first token and {seconds(goal.tpot)} a token"
    made.add_row("goodput", f"{rate(model.goodput)} of {rate(model.answered_per_second)}; {within}")
    throughput = f"{rate(model.output_tokens_per_second)} out, {rate(model.prompt_tokens_per_second)} in"
    made.add_row("tokens", f"{throughput}; {tokens.output:,} out where {tokens.asked_output:,} were asked for")
    if tokens.hit_share is None:
        made.add_row("hit share", Text("not known: no answer tells `cached_tokens`", "dim"))
    else:
        of = "" if tokens.told == told.answered else f" ({tokens.told} of {told.answered} answers tell)"
        made.add_row("hit share", f"{tokens.hit_share:.1%} of the prompts' tokens were cached{of}")
    if told.retries or told.resent:
        made.add_row("retries", f"{told.retries} by the router, {told.resent} on a new connection by the client")
    if (send := told.lateness.send) and (loop := told.lateness.loop):
        late = f"{seconds(send.mean)} in the mean, {seconds(send.p99)} at p99; its loop {seconds(loop.p99)} at p99"
        made.add_row("client late", Text(f"{late} (by the clock)", "red" if told.lateness.void else ""))
    yield made


def _errors(told: Figures) -> Table:
    made = _table("ERRORS", "REQUESTS")
    for kind, number in told.errors.items():
        made.add_row(Text(kind, "red"), str(number))
    return made


def _services(told: Figures) -> Table:
    made = _table("SERVICE", "REQUESTS", "ERRORS", "COMPUTED", "OUTPUT", "IN FLIGHT", "TTFT")
    for service in told.services[:SERVICES_SHOWN]:
        made.add_row(
            Text(service.name, "bold"),
            str(service.requests),
            Text(str(service.errors), "red" if service.errors else ""),
            f"{service.computed:,}",
            f"{service.output:,}",
            f"{service.in_flight:.1f}",
            "–" if service.ttft is None else seconds(service.ttft),
        )
    if len(told.services) > SERVICES_SHOWN:
        made.add_row(Text(f"and {len(told.services) - SERVICES_SHOWN} more", "dim"))
    balance = told.balance
    even = ["–" if value is None else f"{value:.2f}×" for value in (balance.requests, balance.computed)]
    flying = "–" if balance.in_flight is None else f"{balance.in_flight:.2f}×"
    made.add_row(Text("max ÷ mean", "dim"), even[0], "", even[1], "", flying, "")
    return made
