"""The reference page of the state machines: diagrams drawn from their tables.

Owns the drawing. May not live here: any state or event.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from enginehouse.machines import child, exchange, health, lease

HEAD = """# State machines

Everything that has to decide over time is one of four machines: a table of states and events, and nothing else. The
diagrams are drawn from these tables. An event that leaves a state unchanged has no arrow.
"""

MACHINES: Final = [
    ("A request", exchange, "One request of a client, with all its attempts (`machines/exchange.py`)."),
    ("A service's health", health, "What the router thinks of one service (`machines/health.py`)."),
    ("A registration", lease, "A babysitter's registration with a registry (`machines/lease.py`)."),
    ("An engine's process", child, "A process that a babysitter looks after (`machines/child.py`)."),
]


def machines_page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, module, text in MACHINES:
        table: Mapping[tuple[Any, Any], Any] = module.TABLE
        parts.append(f"## {title}\n\n{text}\n\n```mermaid\nstateDiagram-v2\n" + "\n".join(_diagram(table)) + "\n```\n")
    return "\n".join(parts)


def _diagram(table: Mapping[tuple[Any, Any], Any]) -> Iterator[str]:
    """The arrows of one machine, events that go the same way joined."""
    kind: Any = type(next(iter(table))[0])
    states: list[Any] = list(kind)
    yield f"    [*] --> {states[0].name}"
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), step in table.items():
        for target in sorted(step[1], key=states.index):
            if target is not state:
                arrows.setdefault((state.name, target.name), []).append(_words(event))
    for (state, target), events in sorted(
        arrows.items(), key=lambda arrow: [_place(states, name) for name in arrow[0]]
    ):
        yield f"    {state} --> {target}: {', '.join(events)}"


def _place(states: list[Any], name: str) -> int:
    return [state.name for state in states].index(name)


def _words(event: Any) -> str:
    """`CONNECT_FAILED` or `ProbePassed` as words."""
    if isinstance(event, enum.Enum):
        return event.name.lower().replace("_", " ")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", event.__name__).lower()
