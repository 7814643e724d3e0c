"""Making a case that shows a finding as small as it gets: what can be left out without losing the finding is left out.

Owns the search. May not live here: how it is told whether a smaller case still shows it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from bench.fuzz.case import Answer, Case, End, Leave

Shows = Callable[[Case], Awaitable[bool]]


async def minimise(case: Case, shows: Shows, seconds: float) -> Case:
    """The smallest case found within `seconds` that still `shows` what `case` shows."""
    deadline = time.monotonic() + seconds
    smaller = True
    while smaller and time.monotonic() < deadline:
        smaller = False
        for candidate in _candidates(case):
            if time.monotonic() > deadline:
                break
            if await shows(candidate):
                case, smaller = candidate, True
                break
    return case


def _candidates(case: Case) -> Iterator[Case]:
    """Cases that are one step smaller, the largest steps first."""
    for n in range(len(case.answers)):
        if len(case.answers) > 1:
            yield replace(case, answers=case.answers[:n] + case.answers[n + 1 :])
    if case.leave is not Leave.WAIT:
        yield replace(case, leave=Leave.WAIT)
    if case.cuts:
        yield replace(case, cuts=())
    for n, answer in enumerate(case.answers):
        for simpler in _simpler(answer):
            yield replace(case, answers=(*case.answers[:n], simpler, *case.answers[n + 1 :]))
    if not case.is_right:
        for data in without_parts(case.request):
            yield replace(case, request=data)


def _simpler(answer: Answer) -> Iterator[Answer]:
    if answer.early:
        yield replace(answer, early=False)
    if answer.end is not End.KEEP:
        yield replace(answer, end=End.KEEP)
    if answer.cuts:
        yield replace(answer, cuts=())
        yield replace(answer, cuts=answer.cuts[::2])
    for data in without_parts(answer.data):
        yield replace(answer, data=data)


def without_parts(data: bytes) -> Iterator[bytes]:
    """`data` less one part of it: halves, quarters … down to single bytes, where it is short enough for that."""
    size = len(data) // 2
    while size and len(data) // size <= 256:
        for start in range(0, len(data), size):
            yield data[:start] + data[start + size :]
        size //= 2
