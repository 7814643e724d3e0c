"""The access log of a whole house: the process that one starts passes the signal on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.e2e.conftest import StartHouse
from tests.e2e.house import simulated
from tests.e2e.program import until_so
from tests.sim import raw


async def test_a_signal_to_the_whole_house_has_the_routers_log_opened_again_and_ends_nobody(
    start_house: StartHouse, tmp_path: Path
) -> None:
    log, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    house = start_house(simulated("a", "shared"), access_log=str(log))
    await house.ready()
    router = house.pid_of("router")
    assert (await raw.once(house.port, raw.chat(model="shared"))).status == 200
    await until_so("a line in the log", lambda: log.exists() and log.stat().st_size)
    log.rename(moved)
    os.kill(house.pid, signal.SIGUSR1)
    await until_so("a new file", log.exists)
    before = moved.stat().st_size
    assert (await raw.once(house.port, raw.chat(model="shared"))).status == 200
    await until_so("a line in the new file", lambda: log.stat().st_size)
    assert moved.stat().st_size == before
    assert house.pid_of("router") == router


async def test_a_signal_to_a_house_that_is_starting_ends_nobody(start_house: StartHouse) -> None:
    house = start_house(simulated("a", "shared"))
    await until_so("its first line", lambda: house.url in house.output)
    os.kill(house.pid, signal.SIGUSR1)
    await house.ready()
    assert "started again" not in house.output
