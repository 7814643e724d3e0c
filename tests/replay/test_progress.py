"""The line that shows how a replay goes on."""

from __future__ import annotations

import io
from time import perf_counter

from enginehouse.replay.asking import Asking, target
from enginehouse.replay.call import Call, Ending
from enginehouse.replay.player import Player
from enginehouse.replay.progress import Progress
from enginehouse.replay.text import Texts
from enginehouse.replay.traces import Session, Trace, Turn

TURN = Turn(1, 1, (1,))


async def test_the_line_counts_every_call_once_whenever_it_ends() -> None:
    player = Player(Trace("t", [Session(0.0, (TURN,))] * 8), Texts(), Asking(target("http://h/v1"), "m"))
    player.began = perf_counter() - 10
    out = io.StringIO()
    progress = Progress(player, out, time_scale=2.0)
    assert progress.line() == f"{'╺' * 24} 20 s · 0 of 8 asked · 0 in flight · 0 answered"
    calls = [Call(number, TURN, player.began) for number in range(4)]
    player.calls.extend(calls[:3])
    calls[0].first = player.began + 0.25
    calls[0].over(Ending.ANSWERED, player.began + 1)
    calls[1].over(Ending.LOST, player.began + 1)
    line = f"{'━' * 6}{'╺' * 18} 20 s · 3 of 8 asked · 0 in flight · 1 answered · 1 failed · first token 500 ms"
    assert progress.line() == progress.line() == line
    player.calls.append(calls[3])
    for call in calls[2:]:
        call.first = player.began + 0.75
        call.over(Ending.ANSWERED, player.began + 1)
    assert progress.line().endswith("4 of 8 asked · 0 in flight · 3 answered · 1 failed · first token 1.5 s")
    progress.close()
    assert out.getvalue().endswith("\r\x1b[K")
