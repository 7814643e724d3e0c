"""A replay from a trace to its calls: what can be chosen, and everything put together.

Owns `Options`. May not live here: terminals and the environment (`cli.replay`), figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from enginehouse.replay import traces, workloads
from enginehouse.replay.asking import CHAT, Asking, target
from enginehouse.replay.client import Client
from enginehouse.replay.player import Player
from enginehouse.replay.schedule import faster, jittered
from enginehouse.replay.text import BYTES_PER_TOKEN, Texts
from enginehouse.replay.traces import BLOCK_TOKENS, Trace

SERVICE_HEADER: Final = "x-enginehouse-service"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What of a trace is asked of whom, and how. Times are seconds."""

    url: str
    model: str
    requests: int = 0
    """The first so many; 0: all."""
    rate_scale: float = 1.0
    time_scale: float = 1.0
    """Seconds of model time in a second of the wall clock: as fast as the engines' time is."""
    jitter: bool = False
    seed: int = 1
    concurrency: int = 0
    """Sessions that always run, in place of the trace's times; 0: the trace's times."""
    timeout: float = 600.0
    """Wall time for which an answer may be silent."""
    api: str = CHAT
    exact: bool = True
    api_key: str = ""
    service_header: str = SERVICE_HEADER
    """Of the answers, with the name of the service that gave it."""
    session_header: str = ""
    """Of the requests, with the number of their session; "" for none."""
    bytes_per_token: float = BYTES_PER_TOKEN
    salt: str = ""
    """Changes all texts, so that nothing of them is in any cache."""


def load(words: str, seed: int = 1, block_tokens: int = BLOCK_TOKENS) -> Trace:
    """The whole trace of a file, or of a load that is made up (`agents:sessions=64`). Raises `TraceError`."""
    path = Path(words)
    made = None if path.is_file() else workloads.ordered(words)
    return workloads.make(made, Random(seed), block_tokens) if made else traces.read(path, block_tokens)


def shaped(trace: Trace, options: Options) -> Trace:
    """The part of the trace that is played, with its times as they are played (model time)."""
    part = trace.first(options.requests) if options.requests else trace
    if options.jitter:
        part = jittered(part, Random(options.seed))
    return faster(part, options.rate_scale)


def player(trace: Trace, options: Options) -> Player:
    """A player of a trace that is shaped already. Raises `TargetError` where the URL is none."""
    asking = Asking(
        target(options.url),
        options.model,
        api=options.api,
        exact=options.exact,
        key=options.api_key,
        session_header=options.session_header,
    )
    texts = Texts(trace.block_tokens, options.bytes_per_token, options.salt)
    return Player(trace, texts, asking, time_scale=options.time_scale, concurrency=options.concurrency)


async def replay(trace: Trace, options: Options, begun: Callable[[Player], None] = lambda _: None) -> Player:
    """Play the trace, shaped as the options say. `begun` gets the player before it starts, to watch or to stop it.

    Raises `TargetError`, or `UnreachableError` where nobody listens.
    """
    made = player(shaped(trace, options), options)
    client = Client(target(options.url), options.service_header, options.timeout)
    try:
        await client.start()
        begun(made)
        await made.play(client)
    finally:
        await client.close()
    return made
