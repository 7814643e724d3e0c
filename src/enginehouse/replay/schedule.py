"""What a replay does to the times of a trace: faster arrivals, and arrivals spread over the ticks of a coarse clock.

Owns both. May not live here: model time and wall time (`player`), reading of traces.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random
from statistics import median

from enginehouse.replay.traces import Trace


def faster(trace: Trace, rate: float) -> Trace:
    """`rate` times as many sessions begin in a second. What lies between the turns of a session stays as it is."""
    return trace._replace(sessions=[session._replace(at=session.at / rate) for session in trace.sessions])


def jittered(trace: Trace, chance: Random) -> Trace:
    """Every session begins anywhere, evenly, between its time and the next time in the trace that is another.

    Recorders with a coarse clock put arrivals on ticks (Mooncake's are 3 s apart), which nobody's clients do. A lull in
    a trace is not filled: nothing moves by more than the median distance between times.
    """
    times = sorted({session.at for session in trace.sessions})
    gaps = [after - before for before, after in pairwise(times)]
    tick = median(gaps) if gaps else 0.0
    room = {at: min(gap, tick) for at, gap in zip(times, [*gaps, tick], strict=True)}
    moved = [session._replace(at=session.at + chance.random() * room[session.at]) for session in trace.sessions]
    return trace._replace(sessions=sorted(moved, key=lambda session: session.at))
