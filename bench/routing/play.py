"""`python -m bench.routing.play '{"url": …}'`: one load played once against one router, its figures as JSON.

Owns that process: the client has one to itself, so that what it does is not in the way of the bench. May not live here:
the client (`enginehouse.replay`), which loads there are (`loads`).
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from pathlib import Path

import msgspec
import uvloop

from bench.routing.loads import LOADS
from enginehouse.replay.figures import figures
from enginehouse.replay.run import Options, replay


class Order(msgspec.Struct, frozen=True):
    """What is to be played."""

    url: str
    model: str
    load: str
    rate: float
    seed: int
    time_scale: float
    requests: int
    traces: str
    """Folder."""
    services: int


async def play(order: Order) -> dict[str, object]:
    """Play it; every figure of the replay, and the CPU that the client needed for it (`client_cpu_s`)."""
    trace = LOADS[order.load].trace(Path(order.traces), order.rate, order.seed, order.requests)
    gc.freeze()
    before = time.process_time()
    options = Options(url=f"{order.url}/v1", model=order.model, time_scale=order.time_scale, timeout=120.0)
    player = await replay(trace, options)
    spent = time.process_time() - before
    found = figures(
        player.calls,
        planned=trace.requests,
        began=player.began,
        lags=player.lags,
        time_scale=order.time_scale,
        services=order.services,
    )
    told = msgspec.to_builtins(found)
    assert isinstance(told, dict)
    return {**told, "client_cpu_s": round(spent, 3)}


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[1], type=Order)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.buffer.write(msgspec.json.encode(runner.run(play(given))) + b"\n")
