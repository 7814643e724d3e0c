"""The options of `enginehouse replay`.

Owns their names, defaults and bounds. May not live here: what is done with them (`replay`).
"""

from __future__ import annotations

import argparse
import math
import re
from typing import Final

from enginehouse.cli.parser import Parser
from enginehouse.replay.workloads import KINDS

KEY: Final = "ENGINEHOUSE_REPLAY_API_KEY"


def _made_up() -> str:
    """The loads that can be ordered, with what is taken where nothing else is."""
    return "\n".join(
        f"  {name}[:{','.join(f'{field}={value:g}' for field, value in kind._field_defaults.items())}]"
        for name, kind in KINDS.items()
    )


EPILOG: Final = f"""TRACE is a file, or a load that is made up:
  Mooncake   JSON lines with timestamp (ms), input_length, output_length, hash_ids (blocks of 512 tokens)
  Azure      CSV with TIMESTAMP,ContextTokens,GeneratedTokens; nothing is shared
  sessions   JSON lines with timestamp (ms) and turns, each with input_length, output_length, hash_ids and delay (ms)
{_made_up()}

An API key is read from ${KEY}, so that it stands in no list of processes.

A table on a terminal, JSON otherwise. Ctrl-C stops it and reports what was done.

Exit status: 0 if it was played, 1 if nothing was answered or the figures are void (the client itself was late),
2 if it cannot be played as it was ordered, 130 if it was stopped."""


def options(description: str | None) -> Parser:
    """All of them."""
    parser = Parser("replay", description, EPILOG)
    parser.add_argument("trace", metavar="TRACE", help="a file, or a load that is made up, as below")
    parser.add_argument("--url", metavar="URL", help="the API, like http://127.0.0.1:8080/v1")
    parser.add_argument(
        "--model", metavar="NAME", default="", help="the model to ask for (default: the only one there)"
    )
    _add_load(parser)
    _add_request(parser)
    report = parser.add_argument_group("report")
    report.add_argument(
        "--slo-ttft", metavar="S", type=_positive, default=2.0, help="objective: first token (default: %(default)g s)"
    )
    report.add_argument(
        "--slo-tpot", metavar="S", type=_positive, default=0.1, help="objective: each token (default: %(default)g s)"
    )
    report.add_argument("--json", metavar="FILE", help="write the report as JSON; `-`: to the standard output")
    report.add_argument("--calls", metavar="FILE", help="write every request as a line of JSON")
    report.add_argument("--plots", metavar="DIR", help="draw pictures (SVG) there")
    report.add_argument(
        "--services", metavar="N", type=_count, default=0, help="services there are, if some may get nothing"
    )
    report.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def _add_load(parser: Parser) -> None:
    load = parser.add_argument_group("load")
    load.add_argument("--requests", metavar="N", type=_count, default=0, help="only the first N requests")
    load.add_argument(
        "--rate-scale", metavar="X", type=_positive, default=1.0, help="arrivals X times as fast (default: %(default)g)"
    )
    load.add_argument(
        "--time-scale",
        metavar="X",
        type=_positive,
        default=1.0,
        help="X seconds of the trace in one second, for engines whose time is as fast; all times are told in the "
        "trace's seconds (default: %(default)g)",
    )
    load.add_argument(
        "--jitter", action="store_true", help="spread arrivals evenly over the ticks of the trace's clock"
    )
    load.add_argument("--seed", metavar="N", type=int, default=1, help="of all chance (default: %(default)s)")
    load.add_argument(
        "--concurrency",
        metavar="N",
        type=_count,
        default=0,
        help="closed loop: N sessions always run, whatever the trace's times are",
    )
    load.add_argument("--write", metavar="FILE", help="write the load, as it would be played, and play nothing")
    load.add_argument(
        "--block-tokens", metavar="N", type=_count, default=512, help="tokens of a block (default: %(default)s)"
    )


def _add_request(parser: Parser) -> None:
    request = parser.add_argument_group("requests")
    request.add_argument(
        "--api",
        choices=("chat", "completions"),
        default="chat",
        metavar="API",
        help="chat (the default) or completions",
    )
    request.add_argument(
        "--plain", action="store_true", help="send no field that OpenAI's API has not: answers may end early"
    )
    request.add_argument(
        "--bytes-per-token",
        metavar="X",
        type=_positive,
        default=4.0,
        help="of the text that is sent (default: %(default)g)",
    )
    request.add_argument("--salt", metavar="TEXT", default="", help="change all texts: nothing of them is in any cache")
    request.add_argument(
        "--session-header", metavar="NAME", type=_header, default="", help="a header with the session's number"
    )
    request.add_argument(
        "--service-header",
        metavar="NAME",
        type=_header,
        default="x-enginehouse-service",
        help="header of answers that names the service (default: %(default)s)",
    )
    request.add_argument(
        "--timeout",
        metavar="S",
        type=_positive,
        default=600.0,
        help="longest silence of an answer (default: %(default)g s)",
    )


def _positive(text: str) -> float:
    """A number above zero."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def _header(text: str) -> str:
    """The name of a header (RFC 9110, 5.6.2), or nothing."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{0,128}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a header")
    return text
