"""`enginehouse replay`: plays a trace against any OpenAI endpoint and reports what its clients would feel.

Owns the command: what is checked before anything is sent, and where the report goes. May not live here: its options
(`replay_options`), traces, the client, figures and pictures (`enginehouse.replay`).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enginehouse.cli import ask
from enginehouse.cli.parser import Parser, fail, nearest
from enginehouse.cli.replay_options import KEY, options
from enginehouse.cli.terminal import wants_colour

if TYPE_CHECKING:
    from enginehouse.replay.figures import Figures
    from enginehouse.replay.player import Player
    from enginehouse.replay.run import Options
    from enginehouse.replay.traces import Trace

TIMEOUT: Final = 10.0
MODELS_SHOWN: Final = 8


class _Problem(Exception):
    """Why it cannot be played, and what to do instead."""


def replay(arguments: list[str]) -> int:
    """Play a trace against any OpenAI endpoint, and report times, goodput, hit share and balance."""
    parser = replay_parser()
    given = parser.parse_args(arguments)
    from enginehouse.replay.asking import TargetError
    from enginehouse.replay.client import UnreachableError
    from enginehouse.replay.run import load
    from enginehouse.replay.traces import TraceError

    try:
        trace = load(given.trace, given.seed, given.block_tokens)
        if given.write:
            return _write(trace, given)
        if not given.url:
            parser.error("--url is needed: the API to ask, like --url http://127.0.0.1:8080/v1")
        _can_write(given)
        chosen = _chosen(given)
        _begin(trace, chosen)
        played, stopped = _play(trace, chosen, given.quiet)
    except (TraceError, TargetError, UnreachableError, _Problem) as error:
        fail(parser.prog, str(error))
    except OSError as error:
        fail(parser.prog, f"{error.filename} cannot be written: {error.strerror}")
    told = _figures(played, chosen, given)
    _report(played, told, chosen, given)
    if stopped:
        return 130
    return 1 if told.lateness.void or not told.answered else 0


def replay_parser() -> Parser:
    """Options of `replay`."""
    return options(replay.__doc__)


def _chosen(given: argparse.Namespace) -> Options:
    from enginehouse.replay.asking import CHAT, COMPLETIONS, target
    from enginehouse.replay.run import Options

    target(given.url)  # before anything is asked there
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise _Problem(f"${KEY} is no key: it holds what cannot stand in a header")
    return Options(
        url=given.url,
        model=_model(given, key),
        requests=given.requests,
        rate_scale=given.rate_scale,
        time_scale=given.time_scale,
        jitter=given.jitter,
        seed=given.seed,
        concurrency=given.concurrency,
        timeout=given.timeout,
        api=CHAT if given.api == "chat" else COMPLETIONS,
        exact=not given.plain,
        api_key=key,
        service_header=given.service_header,
        session_header=given.session_header,
        bytes_per_token=given.bytes_per_token,
        salt=given.salt,
    )


def _model(given: argparse.Namespace, key: str) -> str:
    """The model to ask for, which the API has if it says what it has."""
    try:
        there = ask.models(given.url, key, TIMEOUT)
    except ask.NoAnswerError as error:
        more = f"; a key goes into ${KEY}" if "refuses" in str(error) else ""
        raise _Problem(f"{error}{more}") from None
    model = str(given.model)
    if not there:
        if not model:
            raise _Problem(f"{given.url} does not say which models it has: --model NAME")
        return model
    listed = ", ".join(there[:MODELS_SHOWN]) + (", …" if len(there) > MODELS_SHOWN else "")
    if not model and len(there) > 1:
        raise _Problem(f"which model? {given.url} has {listed}: --model NAME")
    if model and model not in there:
        raise _Problem(f"{given.url} has no model {model}{nearest(model, there)}: it has {listed}")
    return model or there[0]


def _write(trace: Trace, given: argparse.Namespace) -> int:
    """The load as a file of sessions."""
    from enginehouse.replay import workloads
    from enginehouse.replay.run import Options, shaped

    chosen = Options(
        url="", model="", requests=given.requests, rate_scale=given.rate_scale, jitter=given.jitter, seed=given.seed
    )
    part = shaped(trace, chosen)
    with Path(given.write).open("wb") as file:
        file.writelines(workloads.lines(part))
    print(f"{given.write}: {len(part.sessions)} sessions, {part.requests} requests")
    return 0


def _begin(trace: Trace, chosen: Options) -> None:
    """Say what is about to happen."""
    if sys.stderr.isatty():
        count = min(chosen.requests or trace.requests, trace.requests)
        print(f"{chosen.url}  {chosen.model}  {count} requests of {trace.name}", file=sys.stderr)


def _play(trace: Trace, chosen: Options, quiet: bool) -> tuple[Player, bool]:
    """Play it. Says whether it was stopped on the way."""
    import gc

    import uvloop

    from enginehouse.data.descriptors import raise_limit

    raise_limit()  # a connection for each request that runs
    gc.freeze()  # the trace is here to stay: the collector need not look at it again and again
    return uvloop.run(_run(trace, chosen, quiet))


async def _run(trace: Trace, chosen: Options, quiet: bool) -> tuple[Player, bool]:
    import asyncio
    import signal

    from enginehouse.replay.progress import Progress
    from enginehouse.replay.run import replay

    loop = asyncio.get_running_loop()
    shown: list[Progress] = []
    stopped = asyncio.Event()

    def begun(player: Player) -> None:
        def stop() -> None:
            stopped.set()
            player.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        if sys.stderr.isatty() and not quiet:
            shown.append(Progress(player, sys.stderr, chosen.time_scale))

    try:
        return await replay(trace, chosen, begun), stopped.is_set()
    finally:
        for progress in shown:
            progress.close()


def _figures(player: Player, chosen: Options, given: argparse.Namespace) -> Figures:
    from enginehouse.replay.figures import figures

    return figures(
        player.calls,
        planned=player.trace.requests,
        began=player.began,
        lags=player.lags,
        time_scale=chosen.time_scale,
        slo_ttft=given.slo_ttft,
        slo_tpot=given.slo_tpot,
        services=given.services,
    )


def _can_write(given: argparse.Namespace) -> None:
    """Whether the report can go where it is to go: known before anything is asked. Raises `OSError`."""
    if given.plots:
        Path(given.plots).mkdir(parents=True, exist_ok=True)
    for name in (given.json, given.calls):
        if name and name != "-":
            Path(name).open("ab").close()


def _report(player: Player, told: Figures, chosen: Options, given: argparse.Namespace) -> None:
    """To files, pictures, and the standard output: a table on a terminal, JSON otherwise."""
    from enginehouse.replay import records

    document = records.document(player.trace, told, chosen)
    if given.calls:
        with Path(given.calls).open("wb") as file:
            file.writelines(records.rows(player.calls, player.began))
    if given.plots:
        from enginehouse.replay.plots import pictures

        for name, picture in pictures(player, told, chosen).items():
            (Path(given.plots) / name).write_text(picture, encoding="utf-8")
    if given.json and given.json != "-":
        Path(given.json).write_bytes(document)
    if given.json == "-" or not sys.stdout.isatty():
        sys.stdout.write(document.decode())
    else:
        _show(told, chosen)


def _show(told: Figures, chosen: Options) -> None:
    from rich.console import Console

    from enginehouse.replay.table import report

    console = Console(highlight=False, markup=False, color_system="auto" if wants_colour(sys.stdout) else None)
    console.print(report(told, chosen.time_scale))
