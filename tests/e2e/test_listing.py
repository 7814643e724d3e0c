"""What the router lists and what it serves are the same thing at every moment."""

from __future__ import annotations

from tests.e2e.conftest import StartHouse
from tests.e2e.house import simulated
from tests.e2e.program import until
from tests.sim import raw

CYCLES = 5


async def test_who_sees_a_model_in_the_list_can_ask_for_it_at_once(start_house: StartHouse) -> None:
    """Control knows of a service a moment before the workers do; it may not tell clients in that moment."""
    house = start_house(simulated("a", "m"))
    await house.ready()
    async with raw.line(house.port) as line:

        async def listed() -> bool:
            return bool((await line.ask("GET", "/v1/models")).json["data"])

        async def unlisted() -> bool:
            return not await listed()

        for _ in range(CYCLES):
            house.kill9("engine", "a")
            await until("its disappearance", unlisted, pause=0.0)
            await until("its return", listed, pause=0.0)
            reply = await line.ask("POST", "/v1/chat/completions", {"model": "m", "messages": [], "max_tokens": 1})
            assert reply.status == 200, reply
