"""The simulation's own endpoints below `/sim/`: what happened, what shall go wrong, and bodies made to order.

Owns those paths. May not live here: what an engine answers (`api`).
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

import msgspec

from enginehouse.core.config.base import ConfigError
from enginehouse.sim.answer import STATUS_LINES, Answer
from enginehouse.sim.faults import Fault, build, parse
from enginehouse.sim.shapes import dump
from enginehouse.sim.state import Sim

BLOCK = bytes(range(256)) * 256
BINARY = b"application/octet-stream"


def stats(sim: Sim, reply: Answer) -> None:
    """`GET /sim/stats`: the counters, and the last request that was no probe, as it arrived."""
    reply.whole(200, dump({"name": sim.name, "pid": sim.pid, **sim.stats.told()}))


def faults(sim: Sim, reply: Answer) -> None:
    """`GET /sim/faults` shows those in force, `POST {"faults": ["kind:field=value" or {"kind": …}]}` replaces them."""
    if reply.request.method == "POST":
        try:
            wanted = msgspec.json.decode(reply.request.body, type=dict[str, list[str | dict[str, object]]])
            sim.set_faults([parse(each) if isinstance(each, str) else build(each) for each in wanted["faults"]])
        except (msgspec.DecodeError, ConfigError, KeyError) as trouble:
            message = 'send {"faults": [...]}' if isinstance(trouble, KeyError) else str(trouble)
            reply.whole(400, dump({"error": {"message": message, "type": "sim_error", "param": None, "code": None}}))
            return
    reply.whole(200, msgspec.json.encode({"faults": [_told(fault) for fault in sim.book.faults]}))


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    slow_factor: float | None = None
    drop_cache: bool = False


def engine(sim: Sim, reply: Answer) -> None:
    """`GET /sim/engine` shows the engine model; `POST {"slow_factor": 3.0, "drop_cache": true}` changes it."""
    paced = sim.paced
    if paced is None:
        raise ValueError("this engine has no model: start it with --engine-model")
    if reply.request.method == "POST":
        change = msgspec.json.decode(reply.request.body, type=_Change)
        if change.slow_factor is not None:
            if not change.slow_factor > 0:
                raise ValueError("slow_factor: more than 0")
            paced.slow_down(change.slow_factor)
        if change.drop_cache:
            paced.model.cache.drop()
    model = paced.model
    told = {
        "running": model.running,
        "waiting": model.waiting,
        "finished": paced.finished,
        "preemptions": model.preemptions,
        "prompt_tokens": model.prompt_tokens,
        "cached_tokens": model.cached_tokens,
        "generated_tokens": model.generated(paced.now()),
        "blocks": {"held": model.cache.used, "kept": len(model.cache.idle), "all": model.cache.capacity},
        "block_size": model.constants.block_size,
        "slow_factor": model.slowness,
    }
    reply.whole(200, dump(told))


def _told(fault: Fault) -> dict[str, object]:
    return msgspec.structs.asdict(fault)


def some_bytes(sim: Sim, reply: Answer) -> None:
    """`GET /sim/bytes?n=…&chunked=1`: n bytes, made as fast as they are read and no faster."""
    wanted = _number(reply, "n", 0)
    left = wanted

    def pump() -> None:
        nonlocal left
        while left and not reply.blocked and not reply.done:
            piece = BLOCK[:left] if left < len(BLOCK) else BLOCK
            left -= len(piece)
            reply.chunk(piece)
        if not left:
            reply.end()

    def resume() -> None:
        sim.loop.call_soon(pump)  # not from here: the transport is not done telling that it is writable

    reply.resume = resume
    reply.begin(200, BINARY, None if _number(reply, "chunked", 0) else wanted)
    pump()


def some_status(sim: Sim, reply: Answer) -> None:
    """`/sim/status?code=204`: an answer with that status and, where it may have one, a body."""
    code = _number(reply, "code", 200)
    if code < 200 or code not in STATUS_LINES:
        raise ValueError(f"{code} is no status of an answer")
    reply.whole(code, dump({"status": code, "system_fingerprint": sim.name}))


def echo(_sim: Sim, reply: Answer) -> None:
    """`/sim/echo`: the body, as it came."""
    reply.whole(200, reply.request.body, reply.request.header(b"content-type") or BINARY)


def _number(reply: Answer, name: str, default: int) -> int:
    return int(parse_qs(reply.request.query).get(name, [str(default)])[0])


ROUTES: dict[tuple[str, str], Callable[[Sim, Answer], None]] = {
    ("GET", "/sim/stats"): stats,
    ("GET", "/sim/faults"): faults,
    ("POST", "/sim/faults"): faults,
    ("GET", "/sim/engine"): engine,
    ("POST", "/sim/engine"): engine,
    ("GET", "/sim/bytes"): some_bytes,
    **{(method, "/sim/status"): some_status for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")},
    **{(method, "/sim/echo"): echo for method in ("POST", "PUT", "PATCH", "DELETE")},
}
