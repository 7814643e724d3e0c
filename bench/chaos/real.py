"""The shorter pass with real engines: llama.cpp with small models, greedy.

Owns its rows, its load, and asking the openai SDK whether it understands what came. May not live here: anything that
works with simulated engines too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench.chaos import asks, drills, faults, house_faults
from bench.chaos.cases import ENGINE, HOUSE, Case
from bench.chaos.row import Work
from bench.chaos.stage import MODEL, House, Plain, Stage
from bench.common.processes import BenchError

#: Real engines share two cores with all the rest: they get more time than simulated ones.
PATIENT = {"first_byte_timeout": 20, "idle_timeout": 10, "health_timeout": 3}
#: Greedy; the prompt is computed anew, so that it does not matter who was asked before.
GREEDY = {"temperature": 0, "seed": 1, "cache_prompt": False}
#: Different requests, their tokens, and how many are sent a second: well below what two engines bear.
ASKS, TOKENS, RATE = 6, 24, 0.5
TINY_RATE = 6.0
#: Seconds between two deaths: longer than a stream takes, for one that dies twice is not gone on with a third time.
BETWEEN_KILLS = 8.0
#: Share of the answers that is word for word the undisturbed one.
ALIKE = 0.95


def llama(model: str) -> Callable[[str, int], Sequence[str]]:
    """The words behind `python -m` for llama.cpp with a small model."""
    return lambda _, port: ["enginehouse.engines.llamacpp", *_flags(model), "--port", str(port)]


def _flags(model: str) -> list[str]:
    return ["--model", model, "--alias", MODEL, "--parallel", "8", "--ctx-size", "8192", "--cache-ram", "0"]


def _plain(name: str, title: str, fault: Callable[[Stage], faults.Fault], model: str = "tiny", **more: Any) -> Case:
    return Case(name, ENGINE, title, fault, partial(Plain, engine=llama(model), router=PATIENT), **more)


def _house(name: str, title: str, fault: Callable[[Stage], faults.Fault], **more: Any) -> Case:
    command = "{python} -m enginehouse.engines.llamacpp"
    backend = {"type": "llama.cpp", "command": command, "model": "tiny", "args": _flags("tiny")[2:]}
    return Case(name, HOUSE, title, fault, partial(House, backend=backend, router=PATIENT), **more)


CASES = [
    _plain(
        "kill-streams", "two, killed in turn in the middle of streams",
        partial(faults.KilledInTurn, between=BETWEEN_KILLS), "smollm2",
        streams=True, whole=True, alike=ALIKE, seconds=90.0,
    ),
    _plain("kill", "killed (`kill -9`)", faults.Killed),
    _plain("freeze", "frozen (SIGSTOP)", faults.Frozen),
    _plain("flapping", "killed and started every 0.7 s", faults.Flapping),
    _plain("reused-web", "killed, its port taken by a web server", faults.reused(faults.web_server)),
    _house("engine-kill", "an engine killed, its babysitter starts it again", house_faults.killed("engine")),
    _house("rolling", "every engine in turn is stopped and started", drills.RollingRestart, whole=True),
]  # fmt: skip
BY_NAME = {case.name: case for case in CASES}


async def work(case: Case, stage: Stage) -> Work:
    """Ask the second engine directly, while nothing is wrong."""
    port = stage.engine_port("b")
    make = asks.streams if case.streams else asks.mixed
    wanted = make(MODEL, ASKS, TOKENS, GREEDY)
    return Work(wanted, await asks.undisturbed(port, wanted), RATE if case.streams else TINY_RATE, sdk_reads)


def sdk_reads(told: Sequence[dict[str, Any]]) -> None:
    """Whether the events, or the whole answer, are what the openai SDK expects. Raises `ValueError` if not."""
    from openai.types import Completion
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    kinds: dict[object, Any] = {"chat.completion": ChatCompletion, "chat.completion.chunk": ChatCompletionChunk}
    for event in told:
        if kind := kinds.get(event.get("object")):
            kind.model_validate(event)
        else:  # llama.cpp itself streams completions that are not valid to the letter; the SDK does not look so closely
            Completion.construct(**event)


def require() -> None:
    """Make the models, if they are not there. Raises `BenchError` where there can be no real engines."""
    from enginehouse.engines import models

    try:
        import openai  # noqa: F401
        import xllamacpp  # noqa: F401

        for model in ("tiny", "smollm2"):
            models.find(model, models.default_cache())
    except ImportError as missing:
        raise BenchError(f"real engines need the package {missing.name}; scripts/test installs it") from None
    except (models.MissingPackage, OSError) as error:
        raise BenchError(str(error)) from None
