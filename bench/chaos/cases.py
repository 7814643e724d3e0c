"""The rows of the table: what goes wrong, where, under which load, and what has to hold besides that nothing is lost.

Owns `Case` and the list of all. May not live here: doing it (`row`), overload (`overload`), which has rates of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.chaos import drills, faults, house_faults, system_faults
from bench.chaos.faults import Fault
from bench.chaos.load import Repeat
from bench.chaos.stage import House, Plain, Stage, simulated
from bench.common.processes import Processes

ENGINE, HOUSE, MACHINE, DRILL = "an engine", "the house", "the machine", "on purpose"
#: A stream of 60 tokens takes 1.2 s: wherever an engine is killed, most of its streams are in their middle.
LONG = {"ttft": 0.02, "time_per_token": 0.02, "tokens": 60}


def nothing(_stage: Stage) -> Sequence[str]:
    """No words before the command."""
    return ()


def nowhere() -> str:
    """Nothing stands in the way."""
    return ""


@dataclass(frozen=True)
class Case:
    """One row. `title` continues "when …"."""

    name: str
    group: str
    title: str
    fault: Callable[[Stage], Fault]
    stage: Callable[[Processes, Path], Stage] = Plain
    streams: bool = False
    """Long streams only, instead of everything."""
    repeat: Repeat = Repeat.NEVER
    whole: bool = False
    """Every single answer has to be right: an honest error is not enough."""
    alike: float = 0.0
    """This share of the right answers has to be byte for byte the undisturbed one."""
    seconds: float = 0.0
    """It lasts so long at least."""
    prefix: Callable[[Stage], Sequence[str]] = nothing
    obstacle: Callable[[], str] = nowhere
    """Why it cannot happen here, "" if it can."""


def _engine(name: str, title: str, fault: Callable[[Stage], Fault]) -> Case:
    return Case(name, ENGINE, title, fault)


def _sim(name: str, title: str, *wanted: str) -> Case:
    return _engine(name, title, faults.simulated(*wanted))


def _house(name: str, title: str, fault: Callable[[Stage], Fault], severs: bool = False) -> Case:
    return Case(name, HOUSE, title, fault, House, repeat=Repeat.SEVERED if severs else Repeat.NEVER)


def _drill(name: str, title: str, fault: Callable[[Stage], Fault]) -> Case:
    return Case(name, DRILL, title, fault, House, repeat=Repeat.CROSSED, whole=True)


CASES = [
    _engine("kill", "killed (`kill -9`)", faults.Killed),
    Case(
        "kill-streams", ENGINE, "two, killed in turn in the middle of streams", faults.KilledInTurn,
        partial(Plain, engine=simulated(**LONG)), streams=True, whole=True, alike=1.0, seconds=12.0,
    ),
    _engine("freeze", "frozen (SIGSTOP)", faults.Frozen),
    _sim("slow", "slow: its answers begin a second late", "silent:seconds=1"),
    _sim("reset-head", "resets the connection instead of answering", "reset:after=-1"),
    _sim("reset", "resets the connection within the answer", "reset:after=1"),
    _sim("half-close", "closes its half of the connection within the answer", "half_close:after=1"),
    _sim("close", "closes the connection within the answer", "close:after=1"),
    _sim("garbage", "sends garbage instead of an answer", "garbage"),
    _sim("too-long", "announces more than it sends", "wrong_length:by=9"),
    _sim("too-short", "announces less than it sends", "wrong_length:by=-9"),
    _sim("truncated-chunk", "breaks off in the middle of a chunk", "truncated_chunk:after=3"),
    _sim("stall-head", "falls silent in the middle of its head", "stall_head"),
    _sim("stall", "falls silent in the middle of the answer", "stall:after=1"),
    _sim("500", "answers 500 at once", "status:code=500"),
    _sim("503", "answers 503 at once", "status:code=503"),
    _engine("flapping", "killed and started every 0.7 s", faults.Flapping),
    _engine("reused-web", "killed, its port taken by a web server", faults.reused(faults.web_server)),
    _engine("reused-engine", "killed, its port taken by another engine", faults.reused(faults.other_engine)),
    _house("registry-kill", "registry killed", house_faults.killed("registry")),
    _house("registry-freeze", "registry frozen", house_faults.FrozenRegistry),
    _house("registry-wipe", "registry killed, its journal deleted", house_faults.WipedRegistry),
    Case(
        "registry-disk", HOUSE, "registry's disk full, and an engine dies and comes back", house_faults.FullDisk, House,
        prefix=system_faults.small_disk, obstacle=system_faults.no_mounts,
    ),
    _house("control-kill", "router's control killed", house_faults.killed("control")),
    _house("worker-kill", "one of two workers killed", house_faults.killed("worker"), severs=True),
    _house("worker-freeze", "one of two workers frozen", house_faults.frozen("worker"), severs=True),
    _house("supervisor-kill", "router's supervisor killed", house_faults.killed("router"), severs=True),
    _house("babysitter-kill", "babysitter killed, its engine with it", house_faults.killed("babysitter")),
    Case(
        "clock", MACHINE, "clock an hour ahead, then an hour behind", system_faults.ClockJumped, House,
        prefix=system_faults.ClockJumped.prefix, obstacle=system_faults.no_faketime,
    ),
    Case(
        "dns", MACHINE, "names of engines resolved no more", system_faults.NamesGone,
        partial(Plain, host=system_faults.HOST),
        prefix=system_faults.NamesGone.prefix, obstacle=system_faults.no_mounts,
    ),
    Case(
        "descriptors", MACHINE, "file descriptors of the workers used up by idle clients",
        system_faults.DescriptorsGone, prefix=system_faults.DescriptorsGone.prefix,
    ),
    _drill("rolling", "every engine in turn is stopped and started", drills.RollingRestart),
    _drill("reload", "the router's processes are replaced (`enginehouse reload`)", drills.Reload),
    _drill("drain", "an engine is drained (`enginehouse drain`) and taken in again", drills.Drained),
]  # fmt: skip
BY_NAME = {case.name: case for case in CASES}
