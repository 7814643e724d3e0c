"""What the discrete-event mode is asked: each request with its whole prompt as blocks, and what follows what.

Owns `Job` and making jobs of a trace. May not live here: reading and drawing traces (`enginehouse.replay`,
`workloads`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from enginehouse.replay.traces import Session, Trace


class Job(NamedTuple):
    """One request. Its prompt is blocks of the trace's size, of which the last may be partly used."""

    at: float
    """Seconds from the beginning; where it follows another one, seconds after the end of that one's answer."""
    blocks: tuple[int, ...]
    """Equal numbers from the first one on are equal text, and so an equal prefix."""
    tokens: int
    output: int
    kept: tuple[int, ...]
    """Full blocks that an engine has when it has answered: of the prompt, and of the answer as far as a later turn asks
    for it again."""
    after: int = -1
    """Place in the list of the job that it follows; -1: of none."""


def jobs(trace: Trace) -> list[Job]:
    """The requests of a trace; those of a session follow each other."""
    found: list[Job] = []
    fresh = 1 + max((block for session in trace.sessions for turn in session.turns for block in turn.blocks), default=0)
    for session in trace.sessions:
        found += _turns(session, trace.block_tokens, fresh, len(found))
        if len(session.turns) > 1:
            fresh += len(found[-1].kept) + 1
    return found


def _turns(session: Session, size: int, fresh: int, place: int) -> Iterator[Job]:
    """A session's prompts: what was said before, answers included, lies before the new text.

    The first turn has the blocks of the trace. What comes after it does not begin where a block does, so its blocks
    are numbered anew: nobody else has them.
    """
    first = session.turns[0]
    tokens, full = first.tokens, first.blocks[: first.tokens // size]
    goes_on = len(session.turns) > 1
    answered = range(fresh + len(full), fresh + (tokens + first.answer) // size) if goes_on else ()
    yield Job(session.at, first.blocks, tokens, first.answer, (*full, *answered))
    for turn, before in zip(session.turns[1:], session.turns, strict=False):
        tokens += before.answer + turn.tokens
        blocks = (*full, *range(fresh + len(full), fresh - (-tokens // size)))
        kept = (*full, *range(fresh + len(full), fresh + (tokens + turn.answer) // size))
        yield Job(turn.delay, blocks, tokens, turn.answer, kept, place)
        place += 1
