"""How `enginehouse top` looks: lines of text for a terminal of any size.

Owns the screen: a function of what is known, of how large the terminal is and of what the person chose. May not live
here: the terminal itself and its keys (`top`), putting the feed together (`top_state`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from rich.text import Text

from enginehouse.cli.terminal import printable
from enginehouse.cli.top_state import House, Row

#: What the lower part shows, and by what services are ordered; keys go round.
PANES: Final = ("events", "requests", "models")
ORDERS: Final = ("name", "state", "load", "rate")
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_STATES: Final = {
    "up": "green", "returning": "green", "down": "bold red", "ejected": "red", "trial": "yellow", "unknown": "dim",
    "withdrawn": "yellow", "draining": "yellow", "drained": "yellow",
}  # fmt: skip
#: Columns of a bar of load.
_BAR: Final = 10
#: Columns, and so seconds, of a line of little bars.
_SPARK: Final = 30


class Chosen(NamedTuple):
    """What the person chose."""

    order: str = "name"
    pane: str = "events"
    first: int = 0
    """The service that stands at the top."""
    paused: bool = False


class Column(NamedTuple):
    """One column: its heading, its width, whether numbers stand in it."""

    title: str
    width: int
    right: bool = False


_SERVICES: Final = (
    Column("SERVICE", 24), Column("STATE", 10), Column("LOAD", _BAR + 9), Column("REQ/S", 7, True),
    Column("TOK/S", 7, True), Column("P50", 7, True), Column("P90", 7, True), Column("REQUESTS", 9, True),
    Column("ERRORS", 7, True), Column("MODELS, OR WHY", 60),
)  # fmt: skip
_MODELS: Final = (
    Column("MODEL", 40), Column("HEALTHY", 9, True), Column("POLICY", 12), Column("IN FLIGHT", 9, True),
    Column("WAITING", 7, True), Column("REQ/S", 7, True), Column("P50", 7, True), Column("P90", 7, True),
    Column("CACHED", 6, True),
)  # fmt: skip
_REQUESTS: Final = (
    Column("WHEN", 8), Column("MODEL", 26), Column("SERVICE", 22), Column("STATUS", 6, True), Column("TOOK", 8, True),
    Column("FIRST", 8, True), Column("IN", 6, True), Column("OUT", 6, True), Column("HOW IT ENDED, OR WHERE IT IS", 40),
)  # fmt: skip


def screen(house: House, chosen: Chosen, router: str, width: int, height: int) -> list[Text]:
    """Exactly `height` lines, none wider than `width`."""
    head = [*_head(house, router, chosen), Text()]
    rows = house.sorted(chosen.order)
    room = height - len(head) - 2  # the headings and the keys
    # Few services leave their room to what is below them; many leave it a third.
    lower = max(0, room - max(len(rows), 2), min(height // 3, room - 3)) if room > 6 else 0
    shown = max(1, room - lower)
    first = first_row(chosen.first, len(rows), shown)
    lines = [*head, _headings(_SERVICES, width)]
    lines += [_service(row) for row in rows[first : first + shown]] if rows else _nobody()
    lines += [Text()] * (len(head) + 1 + shown - len(lines))
    if lower:
        lines += [Text(), *_pane(house, chosen.pane, width, lower - 1)]
    lines = lines[: height - 1]
    lines += [Text()] * (height - 1 - len(lines))
    lines.append(_keys(chosen, first, shown, len(rows)))
    for line in lines:
        line.rstrip()
        line.truncate(width, overflow="ellipsis")
    return lines


def first_row(wanted: int, count: int, shown: int) -> int:
    """The row at the top, so that no room is wasted."""
    return max(0, min(wanted, count - shown))


def _head(house: House, router: str, chosen: Chosen) -> list[Text]:
    totals, services = house.totals, len(house.services)
    when = datetime.fromtimestamp(house.head["time"]).astimezone()
    health = Text(f"{house.healthy} of {services} services healthy", "green" if house.healthy == services else "yellow")
    one = Text.assemble((router, "bold"), "  ", health, f"  policy {house.head['policy']}", f"  {when:%H:%M:%S}")
    if not house.head["synced"]:
        one.append("  the registry was not heard of yet", "yellow")
    if chosen.paused:
        one.append("  paused", "yellow")
    if house.lost:
        one.append(f"  {house.lost}; trying again", "red")
    first = totals["ttft"] or {}
    times = "  ".join(f"{name} {_seconds(first.get(name))}" for name in ("p50", "p90", "p99"))
    errors = Text(f"  errors {_number(totals['errors'])}", "red" if totals["errors"] else "")
    two = Text.assemble(
        ("requests/s ", "dim"), (f"{_number(totals['rate']):>6} ", "bold"), (_spark(house.rates), "cyan"),
        f"  in flight {_number(totals['in_flight'])}  waiting {_number(totals['waiting'])}", errors,
    )  # fmt: skip
    share = "-" if totals["hit_share"] is None else f"{totals['hit_share']:.0%}"
    three = Text.assemble(
        ("tokens/s   ", "dim"), (f"{_number(totals['tokens_out_rate']):>6} ", "bold"), (_spark(house.tokens), "cyan"),
        f"  read {_number(totals['tokens_in_rate'])}/s  of prompts in caches {share}",
    )  # fmt: skip
    four = Text.assemble(
        ("first byte ", "dim"), (f"{_seconds(first.get('p50')):>6} ", "bold"), (_spark(house.first_bytes), "cyan"),
        f"  {times}",
    )  # fmt: skip
    return [one, two, three, four]


def _nobody() -> list[Text]:
    return [
        Text("No service yet. Start an engine with `enginehouse babysitter`, or give the router static services."),
        Text("`enginehouse check FILE` says what is missing in a house of your own.", "dim"),
    ]


def _service(row: Row) -> Text:
    first, state = row["ttft"] or {}, str(row["state"])
    models = [printable(str(model)) for model in row["models"]]
    why = Text(printable(str(row["reason"])), "yellow") if row["reason"] else Text(", ".join(models), "dim")
    cells: list[str | Text] = [
        Text(printable(str(row["name"])), "bold"), Text(state, _STATES.get(state, "")), _load(row),
        _number(row["rate"]), _number(row["token_rate"]), _seconds(first.get("p50")), _seconds(first.get("p90")),
        _number(row["requests"]), Text(_number(row["errors"]), "red" if row["errors"] else ""), why,
    ]  # fmt: skip
    return _row(_SERVICES, cells)


def _load(row: Row) -> Text:
    """A bar where it is known how many it bears at once."""
    in_flight, capacity = row["in_flight"], row["capacity"]
    if not capacity:
        return Text(_number(in_flight))
    part = min(1.0, in_flight / capacity)
    full = round(part * _BAR)
    colour = "red" if part >= 0.9 else "green"
    return Text.assemble(("█" * full, colour), ("░" * (_BAR - full), "dim"), f" {in_flight}/{capacity}")


def _pane(house: House, pane: str, width: int, height: int) -> list[Text]:
    if pane == "models":
        return [_headings(_MODELS, width), *[_model(row) for row in house.models[:height]]]
    if pane == "requests":
        under_way = [_running(each, house.head["time"]) for each in house.under_way[: height // 2]]
        ended = [_ended(each) for each in list(house.recent)[: height - len(under_way)]]
        return [_headings(_REQUESTS, width), *under_way, *ended]
    return [Text("EVENTS", "dim"), *[_event(each) for each in list(house.events)[:height]]]


def _model(row: Row) -> Text:
    first, share = row["ttft"] or {}, row["hit_share"]
    cells: list[str | Text] = [
        Text(printable(str(row["id"])), "bold"), f"{row['healthy']}/{row['services']}", str(row["policy"]),
        _number(row["in_flight"]), _number(row["waiting"]), _number(row["rate"]), _seconds(first.get("p50")),
        _seconds(first.get("p90")), "-" if share is None else f"{share:.0%}",
    ]  # fmt: skip
    return _row(_MODELS, cells)


def _running(each: Row, now: float) -> Text:
    cells: list[str | Text] = [
        _clock(now - each["seconds"]), printable(str(each["model"])), printable(str(each["service"])) or "-", "",
        _seconds(each["seconds"]), "", "", "",
        Text(f"{each['phase']}{', a stream' if each['stream'] else ''}", "cyan"),
    ]  # fmt: skip
    return _row(_REQUESTS, cells)


def _ended(each: Row) -> Text:
    well = each["outcome"] == "answered" and each["status"] < 400
    first = None if each["ttft_ms"] is None else each["ttft_ms"] / 1000
    end = each["outcome"] if each["termination"] == "--" else f"{each['outcome']} ({each['termination']})"
    cells: list[str | Text] = [
        _clock(each["time"]), printable(str(each["model"])), printable(str(each["service"])) or "-",
        Text(str(each["status"] or "-"), "" if well else "red"), _seconds(each["ms"] / 1000), _seconds(first),
        _number(each["tokens_in"]), _number(each["tokens_out"]),
        Text(f"{end}  {each['reason']}".rstrip(), "" if well else "red"),
    ]  # fmt: skip
    return _row(_REQUESTS, cells)


def _event(each: Row) -> Text:
    kind = str(each["kind"]).replace("_", " ")
    name, reason = printable(str(each["service"])), printable(str(each["reason"]))
    return Text.assemble((_clock(each["time"]), "dim"), "  ", (f"{kind:<17}", "bold"), f" {name:<24} {reason}")


def _keys(chosen: Chosen, first: int, shown: int, count: int) -> Text:
    where = f"  services {first + 1}-{min(count, first + shown)} of {count}" if count > shown else ""
    keys = (("q", "quit"), ("s", f"order: {chosen.order}"), ("tab", chosen.pane), ("p", "pause"), ("↑↓", "scroll"))
    line = Text()
    for key, meaning in keys:
        line.append(f" {key} ", "reverse").append(f" {meaning}  ")
    return line.append(where, "dim")


def _headings(columns: Sequence[Column], width: int) -> Text:
    line = _row(columns, [column.title for column in columns])
    line.stylize("dim")
    line.truncate(width)
    return line


def _row(columns: Sequence[Column], cells: Sequence[str | Text]) -> Text:
    line = Text(no_wrap=True)
    for column, cell in zip(columns, cells, strict=True):
        text = cell.copy() if isinstance(cell, Text) else Text(cell)
        text.truncate(column.width, overflow="ellipsis")
        blanks = " " * (column.width - text.cell_len)
        line.append_text(Text(blanks) + text if column.right else text + Text(blanks)).append(" ")
    return line


def _spark(values: Sequence[float]) -> str:
    """The last of them as bars, the newest at the right."""
    last = list(values)[-_SPARK:]
    most = max(last, default=0.0) or 1.0
    return "".join(_LEVELS[min(7, int(value / most * 7.999))] for value in last).rjust(_SPARK)


def _number(value: Any) -> str:
    """Short: 12, 3.4, 1.2k, 5.6M; "-" for nothing."""
    if value is None:
        return "-"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            scaled = value / (1e3 if letter == "k" else size)
            return f"{scaled:.1f}{letter}" if scaled < 100 else f"{scaled:.0f}{letter}"
    return f"{value:.1f}" if isinstance(value, float) and value < 100 and value else f"{value:.0f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 0.01:
        return f"{value * 1000:.1f}ms"
    return f"{value * 1000:.0f}ms" if value < 1 else f"{value:.1f}s" if value < 100 else f"{value:.0f}s"


def _clock(time: float) -> str:
    return f"{datetime.fromtimestamp(time).astimezone():%H:%M:%S}"
