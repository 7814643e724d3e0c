"""The client: connections, one call on each at a time, as little work a chunk as Python allows.

Owns sockets, HTTP/1.1 (llhttp parses), the pool, and deadlines. May not live here: what is asked when (`player`), what
an answer means (`call`).

The client shares a machine with what it measures, so what it costs counts: no tasks, timers or futures for a call, one
clock read for each read of a socket.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from time import perf_counter
from typing import Final, cast

import httptools

from enginehouse.replay.asking import Target
from enginehouse.replay.call import Call, Ending

CONNECT_TIMEOUT: Final = 10.0
SWEEP: Final = 0.5
"""Seconds between two looks at what has been silent for too long."""
IDLE: Final = 1024
"""Connections that are kept for the next call."""


class UnreachableError(Exception):
    """Nobody listens at the target: the address and what the system said."""


class Client:
    """Asks one target. `ended` is called with each call when it is over."""

    def __init__(self, to: Target, service_header: str, timeout: float) -> None:
        self._to = to
        self.service_header = service_header.lower().encode()
        self._timeout = timeout
        self.ended: Callable[[Call], None] = _nobody
        self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context() if to.tls else None
        self._address = to.host
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)

    async def start(self) -> None:
        """Find an address of the host that accepts connections, for all others too. Raises `UnreachableError`."""
        problem: Exception | None = None
        try:
            found = await self._loop.getaddrinfo(self._to.host, self._to.port, type=1)  # SOCK_STREAM
            for address in dict.fromkeys(str(info[4][0]) for info in found):
                self._address = address
                try:
                    self.free(await self._open())
                    return
                except OSError as error:
                    problem = error
        except OSError as error:
            problem = error
        raise UnreachableError(f"{self._to.authority} cannot be reached: {_words(problem)}")

    def ask(self, call: Call, request: bytes, fresh: bool = False) -> None:
        """Send it now: on a connection that is free, or on a new one (always on a `fresh` one if asked to)."""
        call.sent = perf_counter()
        if self._idle and not fresh:
            self._idle.pop().ask(call, request)
            return
        task = self._loop.create_task(self._ask_anew(call, request))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def close(self) -> None:
        """End what runs (its calls are unfinished), close everything."""
        self._sweeper.cancel()
        for connection in [*self._busy]:
            connection.fail(Ending.UNFINISHED, perf_counter())
        opening = [*self._opening]
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()
        await asyncio.sleep(0)  # the loop tells the connections that they are lost

    async def _ask_anew(self, call: Call, request: bytes) -> None:
        try:
            connection = await self._open()
        except (OSError, asyncio.CancelledError) as error:
            unfinished = isinstance(error, asyncio.CancelledError)
            call.over(Ending.UNFINISHED if unfinished else Ending.CONNECT, perf_counter(), _words(error))
            self.ended(call)
        else:
            connection.ask(call, request)

    async def _open(self) -> _Connection:
        """A new connection. Raises `OSError`, also where it takes too long."""
        name = self._to.host if self._tls else None
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, connection = await self._loop.create_connection(
                lambda: _Connection(self), self._address, self._to.port, ssl=self._tls, server_hostname=name
            )
        return connection

    def _sweep(self) -> None:
        now = perf_counter()
        for connection in [each for each in self._busy if now - each.spoke > self._timeout]:
            connection.fail(Ending.SILENT, now)
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)

    def busy(self, connection: _Connection) -> None:
        self._busy.add(connection)

    def free(self, connection: _Connection) -> None:
        """It may carry the next call."""
        self._busy.discard(connection)
        if len(self._idle) < IDLE:
            self._idle.append(connection)
        else:
            connection.transport.close()

    def gone(self, connection: _Connection) -> None:
        """It is closed."""
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


class _Connection(asyncio.Protocol):
    """One connection. httptools calls the `on_` methods."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._parser = httptools.HttpResponseParser(self)
        self._call: Call | None = None
        self._request = b""
        self._calls = 0
        self._now = 0.0
        self._in_head = True
        self._stream = False
        self.spoke = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def ask(self, call: Call, request: bytes) -> None:
        """Send a request; nothing else runs on this connection."""
        if self.transport.is_closing():
            self._client.gone(self)
            self._client.ask(call, request)
            return
        self._call = call
        self._request = request
        self._calls += 1
        self._in_head, self._stream = True, False
        self.spoke = perf_counter()
        self._client.busy(self)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.spoke = self._now = perf_counter()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail(Ending.FRAMING, self._now)

    def on_header(self, name: bytes, value: bytes) -> None:
        call = self._call
        if call is None or not self._in_head:
            return  # trailers come this way too
        name = name.lower()
        if name == b"content-type":
            self._stream = value.lower().startswith(b"text/event-stream")
        elif name == self._client.service_header:
            call.service = value.decode("latin-1")
        elif name == b"x-enginehouse-attempts" and value.isdigit():
            call.attempts = int(value)

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and self._call:
            self._in_head = False
            self._call.begun(status, self._stream, self._now)

    def on_body(self, body: bytes) -> None:
        if self._call:
            self._call.feed(body, self._now)

    def on_message_complete(self) -> None:
        if self._call is None or self._in_head:  # surplus bytes, or a 1xx before the answer
            return
        call, self._call, self._request = self._call, None, b""
        call.whole(self._now)
        if self._parser.should_keep_alive() and not self.transport.is_closing():
            self._client.free(self)
        else:
            self._client.gone(self)
            self.transport.close()
        self._client.ended(call)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.gone(self)
        call, self._call = self._call, None
        if call is None:
            return
        now = perf_counter()
        if not call.head and self._calls > 1:  # a kept connection; the next one will be new
            call.again()
            self._client.ask(call, self._request, fresh=True)
            return
        if call.status == 200 and call.done:  # an answer without length ends with its connection
            call.whole(now)
        else:
            call.over(Ending.LOST, now, _words(error) if error else "closed by the other side")
        self._client.ended(call)

    def fail(self, ending: Ending, now: float) -> None:
        """The call is over, and with it the connection."""
        call, self._call = self._call, None
        self._client.gone(self)
        self.transport.abort()
        if call:
            call.over(ending, now)
            self._client.ended(call)


def _nobody(_call: Call) -> None:
    """Nobody waits for the end of a call."""


def _words(error: BaseException | None) -> str:
    """What the system said, without addresses, so that equal errors count as one."""
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, ConnectionError) and error.errno:  # asyncio puts the address into what it says
        return os.strerror(error.errno)
    return str(getattr(error, "strerror", None) or error or "")[:80]
