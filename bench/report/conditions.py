"""Under which conditions something was measured: facts, settings, and every contestant as it was run.

Owns these sections, the same on every page. May not live here: figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench.report import words
from bench.report.results import About, Contestant


def facts(about: About) -> Iterator[str]:
    """A table of when, where, and with which settings."""
    told: list[tuple[str, object]] = [("started", about.started), ("took", f"{about.seconds / 60:.1f} minutes")]
    told += [("commit", about.commit), ("uncommitted changes", "yes" if about.dirty else "no")]
    if about.resumed:  # with the same sources under test, or it would have been refused
        later = [f"at {session['started']} (commit {session['commit']})" for session in about.resumed]
        told.append(("gone on with after interruptions", ", ".join(later)))
    told += [(key.replace("_", " "), value) for key, value in {**about.machine, **about.settings}.items()]
    yield from words.table(
        ("", ""), [(words.cell(key), words.cell(plain(value)) or words.NOTHING) for key, value in told], left=2
    )


def configurations(about: About) -> Iterator[str]:
    """Every contestant, folded; its files as they were, whatever is in them."""
    for each in words.ordered(about.contestants):
        yield from _configuration(words.name(each), about.contestants[each])


def _configuration(name: str, contestant: Contestant) -> Iterator[str]:
    yield f"<details><summary>{words.cell(f'{name} {contestant.version}'.strip())}</summary>\n"
    if contestant.counted:
        yield f"Counted: {words.cell(contestant.counted)}.\n"
    if contestant.command:
        yield from (*_fenced(contestant.command), "")
    for file, text in sorted(contestant.configs.items()):
        yield f"{words.cell(file)}:\n"
        yield from (*_fenced(text), "")
    yield "</details>\n"


def _fenced(text: str) -> tuple[str, str, str]:
    """A block of code, its fence longer than any inside it."""
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in re.findall("`+", text)), default=0))
    return f"{fence}text", text.strip("\n"), fence


def plain(value: object) -> str:
    """A setting in a table; what has parts is written as them."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)
