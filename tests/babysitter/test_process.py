"""One run of an engine, as its owner sees it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from enginehouse.babysitter import guard, process
from enginehouse.babysitter.guard import Order
from enginehouse.babysitter.process import CannotStart, Process, ending, spawn
from tests.babysitter.house import alive, gone, until

Spawn = Callable[[str], Awaitable[Process]]
ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Spawn]:
    """`run(script)`: a shell under a guard; killed at the end."""
    made: list[Process] = []
    file = os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT)

    async def begin(script: str) -> Process:
        made.append(await spawn(Order(["/bin/sh", "-c", script], ENV, str(tmp_path)), file))
        return made[-1]

    yield begin
    for each in made:
        each.kill()
        await each.gone()
    os.close(file)


async def test_how_it_ended_is_told_to_everybody_who_waits(run: Spawn) -> None:
    engine = await run("exit 9")
    assert set(await asyncio.gather(engine.exited(), engine.exited())) == {"ended with exit status 9"}
    await engine.gone()
    assert await engine.exited() == "ended with exit status 9"


async def test_who_stops_waiting_takes_nothing_from_others(run: Spawn) -> None:
    engine = await run("sleep 0.3; exit 1")
    with suppress(TimeoutError):
        await asyncio.wait_for(engine.exited(), 0.01)
    assert await engine.exited() == "ended with exit status 1"


async def test_terminate_reaches_the_whole_group(run: Spawn, tmp_path: Path) -> None:
    engine = await run("sh -c 'echo $$ > child; exec sleep 600' & wait")

    async def written() -> str:
        return (tmp_path / "child").read_text() if (tmp_path / "child").exists() else ""

    child = int(await until("the child's pid", written))
    engine.terminate()
    assert await engine.exited() == "was ended by SIGTERM"
    await gone([child])


async def test_kill_ends_what_is_deaf(run: Spawn) -> None:
    engine = await run("trap '' TERM INT; while :; do sleep 1; done")
    engine.terminate()
    engine.kill()
    assert await engine.exited() == "was ended by SIGKILL"
    await engine.gone()
    assert not alive(engine.pid)


async def test_signals_to_one_that_is_gone_do_nothing(run: Spawn) -> None:
    engine = await run("exit 0")
    await engine.gone()
    engine.terminate()
    engine.kill()
    assert await engine.exited() == "ended with exit status 0"


async def test_a_guard_that_is_killed_takes_the_engine_with_it(run: Spawn) -> None:
    engine = await run("sleep 600 & sleep 600 & wait")

    async def both() -> list[psutil.Process] | None:
        found = psutil.Process(engine.pid).children()
        return found if len(found) == 2 else None

    family = [engine.pid, *(child.pid for child in await until("two children", both))]
    psutil.Process(engine.pid).parent().kill()  # type: ignore[union-attr]
    assert await engine.exited() == "its guard process was killed"
    await gone(family)


async def test_a_guard_that_hangs_is_killed_after_its_deadline(run: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "END_DEADLINE", 0.3)
    engine = await run("sleep 600")
    psutil.Process(engine.pid).parent().suspend()  # type: ignore[union-attr]
    engine.kill()
    await engine.gone()
    await gone([engine.pid])


async def test_a_guard_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(CannotStart, match="the guard process cannot be started: No such file"):
        await spawn(Order(["true"], ENV, ""), 1)


async def test_a_guard_that_does_not_take_its_order_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deaf = tmp_path / "deaf.py"
    deaf.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(guard, "__file__", str(deaf))
    monkeypatch.setattr(process, "START_DEADLINE", 0.3)
    monkeypatch.setattr(process, "END_DEADLINE", 0.1)
    with pytest.raises(CannotStart, match="took no order"):
        await spawn(Order(["true"], ENV, ""), 1)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit status 0"),
        (139, "ended with exit status 139"),
        (-9, "was ended by SIGKILL"),
        (-40, "was ended by signal 40"),
    ],
)
def test_an_ending_in_words(code: int, words: str) -> None:
    assert ending(code) == words
