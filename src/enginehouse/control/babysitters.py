"""What babysitters say of the engines they look after.

Owns `Babysitters`: asking one, and noticing that an engine was started again. May not live here: the request itself
(`engine_client`), who has a babysitter (`roster`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import aiohttp
import msgspec

from enginehouse.control.engine_client import Answer, EngineClient
from enginehouse.control.events import Kind, Tell
from enginehouse.control.roster import Entry, is_looked_after
from enginehouse.core.proof import logs_of, proof
from enginehouse.core.units import MAX_SERVICES

#: Of what a babysitter tells, these are passed on: it is told to whoever looks at the page.
_INFO: Final = ("service_type", "uptime", "restart_count")
#: Babysitters asked at once because their engines joined.
MAX_ASKED: Final = 16
#: Lines of an engine's output that a page gets.
LINES: Final = 200
_NO_ANSWER: Final = (TimeoutError, aiohttp.ClientError, OSError, ValueError)


class Babysitters:
    """Asks babysitters; `tell` hears of engines that were started again."""

    def __init__(self, client: EngineClient, tell: Tell) -> None:
        self._client = client
        self._tell = tell
        self._restarts: dict[str, int] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Semaphore(MAX_ASKED)

    async def told(self, entry: Entry) -> dict[str, Any] | None:
        """`state` and `reason` of the engine, `uptime` of the babysitter in seconds, `restart_count`, `service_type`.
        `{"error": why}` where it does not answer; None where there is no babysitter."""
        if not is_looked_after(entry.record):
            return None
        try:
            health, info = await asyncio.gather(self._ask(entry, "/health"), self._ask(entry, "/info"))
        except _NO_ANSWER:
            return {"error": "it does not answer"}
        told = {key: info.get(key) for key in _INFO}
        return told | {"state": health.get("status"), "reason": health.get("reason")}

    def joined(self, entry: Entry) -> None:
        """It was registered (anew): ask its babysitter whether the engine was started again."""
        if is_looked_after(entry.record):
            task = asyncio.create_task(self._compare(entry))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def close(self) -> None:
        """Ask nobody any more."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _compare(self, entry: Entry) -> None:
        try:
            async with self._gate:
                count = (await self._ask(entry, "/info")).get("restart_count")
        except _NO_ANSWER:
            return
        if not isinstance(count, int):
            return
        before = self._restarts.get(entry.name)
        if before is not None and count > before:
            self._tell(Kind.ENGINE_RESTARTED, entry.name, f"by its babysitter: restart {count}")
        if before is not None or len(self._restarts) < MAX_SERVICES:
            self._restarts[entry.name] = count

    async def lines(self, entry: Entry, token: str) -> list[str]:
        """The last lines that the engine printed, for who has the token; none where the babysitter has another one."""
        if not is_looked_after(entry.record):
            return []
        shown = proof(token, logs_of(entry.name, entry.record.port), time.time())
        try:
            told = await self._ask(entry, f"/logs?limit={LINES}", shown)
        except _NO_ANSWER:
            return []
        lines = told.get("lines")
        return [str(line) for line in lines[:LINES]] if isinstance(lines, list) else []

    async def _ask(self, entry: Entry, path: str, authorization: str = "") -> dict[str, Any]:
        """JSON of the babysitter, which stands beside the engine, at the next port. Raises as the client does."""
        answer: Answer = await self._client.get_beside(entry, path, authorization)
        told = msgspec.json.decode(answer.body)
        if not isinstance(told, dict):
            raise ValueError("no object")
        return told
