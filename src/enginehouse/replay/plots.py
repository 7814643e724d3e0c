"""Pictures of a replay: how long first tokens took, how that went over time, and who had how much to do.

Owns what they show. May not live here: drawing (`svg`), places on axes (`scales`), arithmetic (`figures`).
All times are model time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Final

from enginehouse.replay import svg
from enginehouse.replay.call import Call, Ending
from enginehouse.replay.figures import Figures, Service, percentile, ttft
from enginehouse.replay.player import Player
from enginehouse.replay.run import Options
from enginehouse.replay.scales import Scale, linear, logarithmic, rounded
from enginehouse.replay.svg import PAD, SMALL, TEXT, WIDTH
from enginehouse.replay.table import seconds

HEIGHT: Final = 320.0
TOP: Final = 70.0
BOTTOM: Final = HEIGHT - 52
LEFT: Final = PAD + 52
RIGHT: Final = float(WIDTH - PAD)
CURVE: Final = 240
"""Points of a curve, at most."""
SPANS: Final = 60
"""Parts of the replay, each a point of the picture over time, at most; fewer where there are few answers."""
ROW: Final = 30.0
ROWS: Final = 32
FLOOR: Final = 1e-3
"""Seconds: no axis begins below."""


def pictures(player: Player, told: Figures, chosen: Options) -> dict[str, str]:
    """The name of each picture's file, and the picture."""
    answered = [call for call in player.calls if call.ending is Ending.ANSWERED]
    title = f"{player.trace.name}, {told.answered:,} answers"
    drawn = {}
    if answered:
        first = sorted(ttft(call) * chosen.time_scale for call in answered)
        drawn["ttft.svg"] = distribution(title, first, told.objective.ttft)
        drawn["timeline.svg"] = timeline(title, player, answered, chosen.time_scale)
    if told.services:
        drawn["balance.svg"] = balance(title, told.services)
    return drawn


def distribution(title: str, ordered: Sequence[float], objective: float) -> str:
    """Which part of the answers had their first token within how long. `ordered`: seconds, the shortest first."""
    across = logarithmic([*ordered, objective], LEFT, RIGHT, FLOOR)
    up = Scale(0, 1, BOTTOM, TOP)
    parts = _head("Time to first token", title)
    parts += _across(across, 8, seconds) + _up(up, [0, 0.25, 0.5, 0.75, 1], "{:.0%}")
    at = across(objective)
    parts.append(svg.path([(at, TOP), (at, BOTTOM)], "mark", 1.5, "5 4"))
    late = at > (LEFT + RIGHT) / 2
    within = sum(value <= objective for value in ordered) / len(ordered)
    words = f"{within:.1%} within {seconds(objective)}"
    parts.append(svg.text(at + (-8 if late else 8), BOTTOM - 10, words, "soft", SMALL, "end" if late else ""))
    number = min(CURVE, len(ordered))
    places = [place / max(number - 1, 1) for place in range(number)]
    points = [(across(percentile(ordered, place)), up(place)) for place in places]
    parts.append(svg.path(points, "ours", 2.5))
    for place, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99")):
        value = percentile(ordered, place)
        x, y = across(value), up(place)
        words = f"{name} {seconds(value)}"
        parts.append(svg.mark(0, x, y, "ours"))
        ends = x + 14 + svg.text_width(words, SMALL)
        if ends < RIGHT and not x < at < ends:  # below the curve, else above it
            parts.append(svg.text(x + 10, y + 16, words, "ink", SMALL))
        else:
            parts.append(svg.text(x - 10, y - 8, words, "ink", SMALL, "end"))
    return svg.document("Time to first token", f"Distribution over {title}.", HEIGHT, parts)


def timeline(title: str, player: Player, answered: Sequence[Call], scale: float) -> str:
    """Median and p90 of the time to the first token, by when a request was due, and how many were running."""
    length = max(max(call.end for call in player.calls) - player.began, 1e-9)
    spans = min(max(len(answered) // 10, 6), SPANS)
    due: list[list[float]] = [[] for _ in range(spans)]
    for call in answered:
        due[min(spans - 1, max(0, int((call.due - player.began) / length * spans)))].append(ttft(call) * scale)
    middles = [(at + 0.5) * length * scale / spans for at in range(spans)]
    sorts = [sorted(values) for values in due]
    low, high = ([percentile(values, part) if values else None for values in sorts] for part in (0.5, 0.9))
    running = _running(player, length, spans)
    across = linear(length * scale, LEFT, RIGHT)
    split = TOP + (BOTTOM - TOP) * 0.62
    upper = logarithmic([value for value in [*low, *high] if value is not None], split, TOP, FLOOR)
    lower = rounded(max(running), BOTTOM, split + 30)
    parts = _head("Time to first token, over time", title)
    parts += _across(across, 6, "{:g}".format)
    parts.append(svg.text(RIGHT, BOTTOM + 38, "seconds of model time", "soft", SMALL, "end"))
    for tick in upper.ticks(4):
        parts += _tick(upper(tick), seconds(tick))
    for tick in lower.ticks(2):
        parts += _tick(lower(tick), f"{tick:g}")
    curves = ((high, "line", "p90"), (low, "ours", "p50"))
    for values, colour, _ in curves:
        points = [None if v is None else (across(at), upper(v)) for at, v in zip(middles, values, strict=True)]
        parts += _line(points, colour)
    x = LEFT + 4
    for _, colour, name in reversed(curves):
        parts.append(svg.path([(x, TOP - 10), (x + 18, TOP - 10)], colour, 2.5))
        parts.append(svg.text(x + 24, TOP - 5, name, "soft", SMALL))
        x += 70
    parts.append(svg.text(LEFT + 4, split + 22, "running at the same time", "soft", SMALL))
    shape = [(across(middle), lower(value)) for middle, value in zip(middles, running, strict=True)]
    parts.append(svg.area(shape, BOTTOM, "peer", 0.5))
    parts.append(svg.path(shape, "line", 1.5))
    return svg.document("Time to first token over time", f"Median and p90 of {title}.", HEIGHT, parts)


def balance(title: str, services: Sequence[Service]) -> str:
    """Two bars for each service: requests, and prompt tokens computed. The line is the mean."""
    shown = services[:ROWS]
    name_room = min(max(svg.text_width(service.name, SMALL) for service in shown) + 14, 190.0)
    half = (WIDTH - 2 * PAD - name_room - 24) / 2
    height = TOP + 20 + ROW * len(shown) + (28 if len(services) > len(shown) else 10)
    parts = _head("Balance", f"{title}; dashed: the mean")
    columns = (
        ("requests", [service.requests for service in services]),
        ("prompt tokens computed", [service.computed for service in services]),
    )
    for column, (heading, values) in enumerate(columns):
        start = PAD + name_room + column * (half + 24)
        room = half - max(svg.text_width(f"{value:,}", SMALL) for value in values) - 8
        scale = Scale(0, max(*values, 1), start, start + room)
        parts.append(svg.text(start, TOP, heading, "soft", SMALL))
        for at, value in enumerate(values[: len(shown)]):
            y = TOP + 20 + ROW * at
            parts.append(svg.rect(start, y - 1, scale(value) - start, 16, "ours"))
            parts.append(svg.text(start + half, y + 12, f"{value:,}", "ink", SMALL, "end"))
        mean = scale(sum(values) / len(values))
        parts.append(svg.path([(mean, TOP + 12), (mean, TOP + 16 + ROW * len(shown))], "mark", 1.5, "5 4"))
    for at, service in enumerate(shown):
        parts.append(svg.text(PAD, TOP + 32 + ROW * at, _ending(service.name, name_room - 10), size=SMALL))
    if len(services) > len(shown):
        more = f"and {len(services) - len(shown)} more"
        parts.append(svg.text(PAD, height - 12, more, "soft", SMALL))
    return svg.document("Balance", f"What each service had to do: {title}.", height, parts)


def _head(title: str, subtitle: str) -> list[str]:
    room = WIDTH - 2 * PAD
    return [
        svg.text(PAD, 30, title, size=TEXT + 1, bold=True),
        svg.text(
            RIGHT,
            30,
            svg.clipped(subtitle, room - svg.text_width(title, TEXT + 1, True) - 12, SMALL),
            "soft",
            SMALL,
            "end",
        ),
    ]


def _across(scale: Scale, most: int, write: Callable[[float], str]) -> list[str]:
    """A grid and labels for the axis at the bottom."""
    parts = []
    for tick in scale.ticks(most):
        parts.append(svg.path([(scale(tick), TOP), (scale(tick), BOTTOM)], "grid"))
        half = svg.text_width(write(tick), SMALL) / 2
        parts.append(svg.text(min(scale(tick), WIDTH - 6 - half), BOTTOM + 18, write(tick), "soft", SMALL, "middle"))
    return parts


def _up(scale: Scale, ticks: Sequence[float], form: str) -> list[str]:
    return [part for tick in ticks for part in _tick(scale(tick), form.format(tick))]


def _tick(y: float, words: str) -> list[str]:
    return [svg.path([(LEFT, y), (RIGHT, y)], "grid"), svg.text(LEFT - 8, y + 5, words, "soft", SMALL, "end")]


def _line(points: Iterable[tuple[float, float] | None], colour: str) -> list[str]:
    """A line, broken where there is no point; a point between two gaps is a dot."""
    parts = []
    for there, group in groupby(points, key=lambda point: point is not None):
        run = [point for point in group if point]
        if there:
            parts.append(svg.path(run, colour, 2) if len(run) > 1 else svg.mark(0, *run[0], colour, 3))
    return parts


def _running(player: Player, length: float, spans: int) -> list[float]:
    """In each part of the replay, how many calls ran, in the mean."""
    width = length / spans
    busy = [0.0] * spans
    for call in player.calls:
        begin, end = max(call.sent or call.due, player.began) - player.began, call.end - player.began
        for at in range(max(0, int(begin / width)), min(spans - 1, int(end / width)) + 1):
            busy[at] += max(0.0, min(end, (at + 1) * width) - max(begin, at * width)) / width
    return busy


def _ending(name: str, room: float) -> str:
    """The name, or an ellipsis and its end, in which the names of services differ."""
    if svg.text_width(name, SMALL) <= room:
        return name
    while name and svg.text_width(f"…{name}", SMALL) > room:
        name = name[1:]
    return f"…{name}"
