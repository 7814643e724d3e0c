"""One registration: carries out what its lease machine decides.

Owns the calls, one at a time, and the words about them. May not live here: when to call again (`machines.lease`), what
is registered (`agent`), HTTP (the client is handed in).
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from typing import NamedTuple, Protocol

from enginehouse.core.record import Record
from enginehouse.machines import lease
from enginehouse.machines.lease import Lease, State

#: Seconds that taking back a registration may take when we stop.
RELEASE_DEADLINE = 2.0


class RegistryClient(Protocol):
    """Calls to one registry. Each is bounded in time and raises one of `Errors` where it was not carried out."""

    async def register(self, record: Record, lease: str) -> str:
        """POST a record."""

    async def heartbeat(self, name: str, lease: str, status: str) -> None:
        """Renew it. The status is the record's: a heartbeat may not make a degraded engine look well."""

    async def unregister(self, name: str, lease: str) -> None:
        """DELETE it."""


class Errors(NamedTuple):
    """What the client raises. `failed` is the base of the others; its text may be shown."""

    unknown: type[Exception]
    conflict: type[Exception]
    failed: type[Exception]


class Registration:
    """One record under its lease machine."""

    def __init__(self, client: RegistryClient, errors: Errors, interval: float, say: Callable[[str], None]) -> None:
        """`interval`: seconds between two heartbeats."""
        self._client = client
        self._errors = errors
        self._say = say
        self._lease = Lease(interval, random.random)
        self._record: Record | None = None
        self._offered = False
        self._call: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._told = ""

    def publish(self, record: Record) -> None:
        """Register this, or change what is registered to this."""
        if self._offered and record == self._record:
            return
        self._record = record
        self._tell(lease.Changed() if self._offered else lease.Offered(uuid.uuid4().hex))
        self._offered = True

    def withdraw(self) -> None:
        """Take the registration back, if there is one."""
        if self._offered:
            self._offered = False
            self._tell(lease.Withdrawn())

    async def close(self) -> None:
        """Withdraw, and wait for it, but not for ever: a registry that is gone forgets us by itself."""
        self.withdraw()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RELEASE_DEADLINE
        while self._call and self._lease.busy and (left := deadline - loop.time()) > 0:
            await asyncio.wait([self._call], timeout=left)
        if self._timer:
            self._timer.cancel()
        if self._call:
            self._call.cancel()
            await asyncio.wait([self._call])

    def _tell(self, event: lease.Event) -> None:
        loop = asyncio.get_running_loop()
        for command in self._lease.handle(event, loop.time()):
            self._call = asyncio.create_task(self._carry_out(command))
        if self._timer:
            self._timer.cancel()
        wake_at = self._lease.wake_at
        self._timer = None if wake_at is None else loop.call_at(wake_at, self._tell, lease.Woken())
        self._report()

    async def _carry_out(self, command: lease.Command) -> None:
        answer: lease.Event = lease.Accepted()
        try:
            await self._make_call(command)
        except self._errors.unknown:
            answer = lease.Unknown()
        except self._errors.conflict:
            answer = lease.Superseded()
        except self._errors.failed as error:
            answer = lease.Failed(str(error))
        self._tell(answer)

    async def _make_call(self, command: lease.Command) -> None:
        assert self._record is not None
        match command:
            case lease.Register(token):
                await self._client.register(self._record, token)
            case lease.Heartbeat(token):
                await self._client.heartbeat(self._record.name, token, self._record.status)
            case lease.Release(token):
                await self._client.unregister(self._record.name, token)

    def _report(self) -> None:
        """One line when something changes, not one for each attempt."""
        assert self._record is not None
        name = self._record.name
        match self._lease.state:
            case State.REGISTERED:
                text = f"registered as {name} with {self._record.url}"
            case State.BACKING_OFF:
                text = f"{name} is not registered: {self._lease.reason}; trying again until it is"
            case State.SUPERSEDED:
                text = f"another babysitter has registered {name}: stop one of the two, or give one another name"
            case State.UNREGISTERED:
                text = ""
            case _:
                return
        if text and text != self._told:
            self._say(text)
        self._told = text
