"""Charts for any bench: bars, dots on a range, lines over a size, and a course over time.

Owns their layout. May not live here: which figures they show.
Each returns its height and its parts, drawn from the top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.report import words
from bench.report.medians import Spread
from enginehouse.replay import svg
from enginehouse.replay.scales import Scale, apart, linear, logarithmic, off_the_scale, rounded
from enginehouse.replay.svg import PAD, SMALL, TEXT, WIDTH

Drawn = tuple[float, list[str]]
Point = tuple[float, float]

ROW: Final = 34.0
GUTTER: Final = 190.0  # names are cut beyond it
LOG_FROM: Final = 20.0  # an axis is logarithmic where the highest value is this many times the lowest


@dataclass(frozen=True)
class Bar:
    """One row. `value` None: `note` says why there is none."""

    label: str
    value: Spread | None
    ours: bool = False
    note: str = "not measured"


@dataclass(frozen=True)
class Range:
    """One row from a low figure to a high one, as p50 and p99, with a remark at its end."""

    label: str
    low: Spread | None
    high: Spread | None
    remark: str = ""
    ours: bool = False
    note: str = "not measured"


@dataclass(frozen=True)
class Line:
    """One contestant over sizes: (size, value) where it was measured."""

    label: str
    points: Sequence[tuple[float, Spread]]
    ours: bool = False


def heading(title: str, subtitle: str = "") -> Drawn:
    """The title of a panel, the rest of what it is after it or below it."""
    parts = [svg.text(PAD, 16, svg.clipped(title, WIDTH - 2 * PAD, TEXT, bold=True), bold=True)]
    after = PAD + svg.text_width(title, TEXT, bold=True) + 10
    if subtitle and after + svg.text_width(subtitle, SMALL) <= WIDTH - PAD:
        return 30, [*parts, svg.text(WIDTH - PAD, 16, subtitle, "soft", SMALL, "end")]
    lines = svg.wrapped(subtitle, WIDTH - 2 * PAD, SMALL)
    return 30 + 18.0 * len(lines), [
        *parts,
        *(svg.text(PAD, 36 + 18.0 * at, line, "soft", SMALL) for at, line in enumerate(lines)),
    ]


def bars(rows: Sequence[Bar], write: words.Writer) -> Drawn:
    """Bars from zero, medians written, whiskers from the lowest to the highest run. One beyond the scale is broken."""
    gutter = _gutter([(row.label, row.ours) for row in rows])
    values = [row.value for row in rows if row.value]
    top = off_the_scale(value.median for value in values)
    reach = max([value.high for value in values if value.median <= top], default=top)
    beyond = [value for value in values if value.median > top]
    written = [svg.text_width(write(value.median), TEXT, bold=True) for value in values if value.median <= top]
    end = WIDTH - PAD - max(written, default=60.0) - 12
    if beyond:
        end = min(end, WIDTH - PAD - 12 - max(svg.text_width(_beyond(value, write), TEXT) for value in beyond))
    scale = linear(max(top, reach), gutter, end)
    parts = [svg.path([(gutter, 0), (gutter, ROW * len(rows))], "axis")]
    for at, row in enumerate(rows):
        parts += _bar(row, scale, ROW * (at + 0.5), write, top)
    return ROW * len(rows), parts


def _bar(row: Bar, scale: Scale, y: float, write: words.Writer, top: float) -> list[str]:
    colour = "ours" if row.ours else "peer"
    parts = [_label(row.label, y, row.ours)]
    if row.value is None:
        return [
            *parts,
            svg.text(
                scale.start + 8, y + 5, svg.clipped(row.note, WIDTH - PAD - scale.start - 8, SMALL), "soft", SMALL
            ),
        ]
    if row.value.median > top:  # broken: it would reach far out of the picture
        parts.append(svg.rect(scale.start, y - 9, scale.end - scale.start, 18, colour))
        parts += [svg.path([(x - 4, y + 12), (x + 4, y - 12)], "card", 3) for x in (scale.end - 26, scale.end - 19)]
        return [*parts, svg.text(scale.end + 8, y + 5, _beyond(row.value, write))]
    parts.append(svg.rect(scale.start, y - 9, scale(row.value.median) - scale.start, 18, colour))
    if row.value.runs > 1:
        parts.append(svg.whisker(scale(row.value.low), scale(row.value.high), y))
    at = max(scale(row.value.high), scale(row.value.median)) + 9
    return [*parts, svg.text(at, y + 5, write(row.value.median), bold=row.ours)]


def _beyond(value: Spread, write: words.Writer) -> str:
    return f"{write(value.median)} · off the scale"


def ranges(rows: Sequence[Range], write: words.Writer, axis: str) -> Drawn:
    """A dot at each row's low figure, a ring at its high one, a line between, on one logarithmic axis.

    Whiskers reach from the lowest to the highest run, where they are wider than a mark.
    """
    gutter = _gutter([(row.label, row.ours) for row in rows])
    ends = [end for row in rows if row.low and row.high for end in (row.low, row.high)]
    remarks = max([svg.text_width(row.remark, SMALL) for row in rows if row.low], default=0.0)
    scale = logarithmic(
        [value for end in ends for value in (end.low, end.high)], gutter + 10, WIDTH - PAD - remarks - 18
    )
    height = ROW * len(rows)
    parts = [svg.path([(scale(tick), 0), (scale(tick), height)], "grid") for tick in scale.ticks(6)]
    if ends:
        parts += _tick_labels(scale, height + 18, write)
        parts.append(svg.text(scale.start, height + 38, axis, "soft", SMALL))
    for at, row in enumerate(rows):
        parts += _range(row, scale, ROW * (at + 0.5))
    return height + (46 if ends else 0), parts


def _range(row: Range, scale: Scale, y: float) -> list[str]:
    colour = "ours" if row.ours else "line"
    parts = [_label(row.label, y, row.ours)]
    if row.low is None or row.high is None:
        return [
            *parts,
            svg.text(scale.start, y + 5, svg.clipped(row.note, WIDTH - PAD - scale.start, SMALL), "soft", SMALL),
        ]
    low, high = scale(row.low.median), scale(row.high.median)
    parts.append(svg.path([(low, y), (high, y)], colour, 5, opacity=0.35))
    # A whisker that its mark would hide is left out.
    spreads = [end for end in (row.low, row.high) if scale(end.high) - scale(end.low) > 16]
    parts += [svg.whisker(scale(end.low), scale(end.high), y, colour, 5) for end in spreads]
    parts.append(svg.mark(0, low, y, colour, 6))
    parts.append(f'<circle cx="{svg.n(high)}" cy="{svg.n(y)}" r="5" class="f-card s-{colour}" stroke-width="2.5"/>')
    return [*parts, svg.text(WIDTH - PAD, y + 5, row.remark, "ink" if row.ours else "soft", SMALL, "end")]


def _tick_labels(scale: Scale, y: float, write: words.Writer) -> list[str]:
    """Under an axis; the unit with each, those that would touch the one before left out."""
    parts, free = [], 0.0
    for tick in scale.ticks(6):
        half = svg.text_width(words.tick(tick, write), SMALL) / 2
        x = min(scale(tick), WIDTH - PAD - half)
        if x - half >= free:
            parts.append(svg.text(x, y, words.tick(tick, write), "soft", SMALL, "middle"))
            free = x + half + 8
    return parts


def lines(
    series: Sequence[Line], sizes: Sequence[tuple[float, str]], write: words.Writer, height: float = 220
) -> Drawn:
    """A line for each contestant over sizes (a logarithmic axis), named at its end. `is_log`: the upright axis."""
    base, values = height - 30, [end for line in series for _, point in line.points for end in (point.low, point.high)]
    left = (
        PAD
        + max(
            [svg.text_width(words.tick(tick, write), SMALL) for tick in _upright(values, base, 10).ticks(5)],
            default=30.0,
        )
        + 10
    )
    names = [
        f"{svg.clipped(line.label, GUTTER, SMALL, line.ours)}  {write(line.points[-1][1].median)}" for line in series
    ]
    right = (
        WIDTH
        - PAD
        - max([svg.text_width(name, SMALL, line.ours) for name, line in zip(names, series, strict=True)], default=0.0)
    )
    across = Scale(sizes[0][0], sizes[-1][0], left + 30, right - 40, log=True)
    up = _upright(values, base, 10)
    parts = []
    for tick in up.ticks(5):
        parts.append(svg.path([(left, up(tick)), (right - 28, up(tick))], "grid"))
        parts.append(svg.text(left - 8, up(tick) + 5, words.tick(tick, write), "soft", SMALL, "end"))
    parts += [svg.text(across(size), height - 8, label, "soft", SMALL, "middle") for size, label in sizes]
    ends = apart([up(line.points[-1][1].median) for line in series], 18, 8, base)
    for at in sorted(range(len(series)), key=lambda at: series[at].ours):  # ours on top
        parts += _line(series[at], at, across, up, names[at], right, ends[at])
    return height, parts


def is_log(values: Sequence[float]) -> bool:
    """Whether `lines` shows these on a logarithmic axis."""
    return bool(values) and min(values) > 0 and max(values) >= LOG_FROM * min(values)


def _upright(values: Sequence[float], base: float, top: float) -> Scale:
    return logarithmic(values, base, top) if is_log(values) else rounded(max(values, default=1.0), base, top)


def _line(line: Line, shape: int, across: Scale, up: Scale, name: str, right: float, label_y: float) -> list[str]:
    colour = "ours" if line.ours else "line"
    points = [(across(size), up(value.median)) for size, value in line.points]
    parts = [svg.path([points[-1], (right - 24, points[-1][1]), (right - 6, label_y)], "axis")]
    for (x, _), (_, value) in zip(points, line.points, strict=True):
        if value.runs > 1:
            parts.append(svg.path([(x, up(value.low)), (x, up(value.high))], colour, 1.5))
    parts.append(svg.path(points, colour, 2.5 if line.ours else 1.75))
    parts += [svg.mark(shape, x, y, colour) for x, y in points]
    return [*parts, svg.text(right, label_y + 5, name, "ours" if line.ours else "soft", SMALL, bold=line.ours)]


def course(
    points: Sequence[Point],
    fit: Sequence[Point],
    write: words.Writer,
    across: words.Writer,
    unit: float,
    height: float = 200,
) -> Drawn:
    """One value over time from zero up, its fitted line dashed. `across` writes a time in seconds."""
    base = height - 30
    up = rounded(max(value for _, value in points), base, 10, unit)
    ticks = [tick * unit for tick in Scale(0, up.high / unit, 0, 1).ticks(5)]
    left = PAD + max(svg.text_width(words.tick(tick, write), SMALL) for tick in ticks) + 10
    time = Scale(0, max(points[-1][0], 1), left, WIDTH - PAD)
    parts = []
    for tick in ticks:
        parts.append(svg.path([(left, up(tick)), (WIDTH - PAD, up(tick))], "grid"))
        parts.append(svg.text(left - 8, up(tick) + 5, words.tick(tick, write), "soft", SMALL, "end"))
    minutes = Scale(0, time.high / 60, 0, 1).ticks(6)
    for tick in minutes:
        label = across(tick * 60)
        x = min(time(tick * 60), WIDTH - PAD - svg.text_width(label, SMALL) / 2)
        parts.append(svg.text(x, height - 8, label, "soft", SMALL, "middle"))
    placed = [(time(seconds), up(value)) for seconds, value in points]
    parts += [svg.area(placed, base, "ours", 0.13), svg.path(placed, "ours", 2)]
    parts.append(svg.path([(time(seconds), up(value)) for seconds, value in fit], "mark", 1.5, "5 5"))
    return height, parts


def stacked(drawings: Sequence[Drawn], gap: float = 0) -> Drawn:
    """One below the other."""
    y, parts = 0.0, []
    for at, (height, drawn) in enumerate(drawings):
        y += gap if at else 0
        parts.append(svg.moved(drawn, y))
        y += height
    return y, parts


def picture(title: str, subtitle: str, description: str, panels: Sequence[Drawn], foot: str = "") -> str:
    """The whole SVG file: a title, a line or more below it, panels, small print at the foot."""
    y, room = 44.0, WIDTH - 2 * PAD
    parts = [svg.text(PAD, y, svg.clipped(title, room, 19, bold=True), size=19, bold=True)]
    for line in svg.wrapped(subtitle, room, SMALL):
        y += 21 if len(parts) == 1 else 18
        parts.append(svg.text(PAD, y, line, "soft", SMALL))
    y += 22
    height, drawn = stacked(panels, 22)
    parts.append(svg.moved(drawn, y))
    y += height
    for at, line in enumerate(svg.wrapped(foot, room, SMALL)):
        y += 18 if at else 32
        parts.append(svg.text(PAD, y, line, "soft", SMALL))
    return svg.document(title, description, y + 22, parts)


def _gutter(labels: Sequence[tuple[str, bool]]) -> float:
    """Where the rows begin, after the longest name."""
    return PAD + min(max((svg.text_width(label, TEXT, ours) for label, ours in labels), default=0.0), GUTTER) + 12


def _label(label: str, y: float, ours: bool) -> str:
    return svg.text(PAD, y + 5, svg.clipped(label, GUTTER, TEXT, ours), "ours" if ours else "ink", TEXT, bold=ours)
