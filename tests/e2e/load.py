"""Steady load on a house: clients that ask again and again and check every answer whole.

Owns `Load`. May not live here: what goes wrong meanwhile, and which failures a test allows.
"""

from __future__ import annotations

import asyncio
import json
from typing import Self

from tests.e2e.program import DEADLINE, until_so
from tests.sim import raw

PAUSE = 0.01  # seconds between two requests of one client


class Client:
    """One of them: one kept connection, made anew where it broke. Every second request is streamed."""

    def __init__(self, port: int, model: str, repeats: bool) -> None:
        self.answered = 0
        self.crossed = 0
        """Requests on a kept connection that the other side was just closing, of which no byte was answered. Where it
        `repeats`, the client asks again on another connection, as HTTP clients have to; else each is a failure."""
        self.failures: list[str] = []
        self.local_port = 0
        """Of the connection it has, or had last: it tells which worker has the other end."""
        self.stopping = False
        self._port = port
        self._model = model
        self._repeats = repeats

    async def run(self) -> None:
        """Ask until told to stop; what was asked is still waited for."""
        while not self.stopping:
            try:
                async with raw.line(self._port) as line:
                    self.local_port = line.writer.get_extra_info("sockname")[1]
                    first = True
                    while await self._ask(line, first):
                        first = False
                        await asyncio.sleep(PAUSE)
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.failures.append(repr(error))
            await asyncio.sleep(PAUSE)

    async def _ask(self, line: raw.Line, first: bool) -> bool:
        """One request, the `first` on its connection or not. False where the connection has to be made anew."""
        stream = bool(self.answered % 2)
        try:
            await line.send(raw.chat(stream, model=self._model, max_tokens=3))
            begin = await line.until(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if first or not self._repeats or (isinstance(error, asyncio.IncompleteReadError) and error.partial):
                raise
            self.crossed += 1
            return False
        reply = await line.reply(begin)
        if not whole(reply, stream):
            self.failures.append(f"{reply.status} {reply.body.decode()}")
            return False
        self.answered += 1
        return not self.stopping and reply.headers.get("connection", "").lower() != "close"


class Load:
    """A context in which clients ask for one model all the time. Look at `failures` when it is over, or before."""

    def __init__(self, port: int, model: str, clients: int = 6, repeats: bool = False) -> None:
        self.clients = [Client(port, model, repeats) for _ in range(clients)]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def failures(self) -> list[str]:
        """What went wrong, all clients together."""
        return [failure for client in self.clients for failure in client.failures]

    @property
    def crossed(self) -> int:
        """Requests that crossed the end of a kept connection, all clients together."""
        return sum(client.crossed for client in self.clients)

    async def answers(self, count: int = 5) -> None:
        """Until every client has had so many more whole answers: the load goes on everywhere."""
        wanted = [(client, client.answered + count) for client in self.clients]
        await until_so(
            f"{count} more answers for every client; failures so far: {self.failures}",
            lambda: self._all_run() and all(client.answered >= goal for client, goal in wanted),
        )

    def _all_run(self) -> bool:
        for task in self._tasks:
            if task.done():
                task.result()
        return True

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(client.run()) for client in self.clients]
        await self.answers(2)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            client.stopping = True
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*self._tasks)


def whole(reply: raw.Reply, stream: bool) -> bool:
    """Whether it is a complete answer: an end that only looks like one does not count."""
    if reply.status != 200:
        return False
    if stream:
        return reply.body.endswith(b"data: [DONE]\n\n") and b'"error"' not in reply.body
    return json.loads(reply.body)["choices"][0]["finish_reason"] in ("length", "stop")
