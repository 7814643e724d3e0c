"""The wires to the workers: fleets go out, reports come in.

Owns `Publisher`: connections, framing, and which worker is sent which fleet when. A worker that reads slowly is sent
the newest fleet only, and delays nobody. May not live here: making fleets (`roster`), reading reports (`ledger`).

When control is restarted, the workers hold a fleet that is better than what control knows in its first moments. A
worker says in its reports which fleet it has (versions grow from one control to the next), so:
- a worker that has none is sent whatever is known as soon as every source has answered;
- one that has a fleet of an earlier control keeps it until every service of the new one has been looked at once, or
  a look at each must have ended (`settle_time`);
- while a source has not answered, after `PATIENCE` the workers without a fleet get what is known, and those with an
  earlier control's keep it, however long it takes: a registry that is down takes no service away.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import msgspec

from enginehouse.core.fleet import Fleet, Report, encode_frame, split_frames
from enginehouse.core.units import MAX_WORKERS, MIB

#: Seconds after the start until less than everything has to do.
PATIENCE = 3.0
#: Seconds a worker may take to read a fleet before its connection is closed; it comes back when it can.
SEND_DEADLINE = 10.0
#: Bytes of a report; one that counts `MAX_SERVICES` services has a quarter of it.
MAX_REPORT = MIB
#: Connections; old ones of restarted workers may linger for a moment.
MAX_CONNECTIONS = 4 * MAX_WORKERS

log = logging.getLogger(__name__)


class Publisher:
    """All workers' wires. `reported(report)` is called with each report.

    `settle_time`: seconds after the start by which a look at every service must have ended, one way or the other.
    """

    def __init__(self, reported: Callable[[Report], None], settle_time: float = PATIENCE) -> None:
        self._reported = reported
        self._settle_time = settle_time
        self._fleet = Fleet(version=0, synced=False)
        self._frame = b""
        self._up: frozenset[tuple[int, int]] = frozenset()
        self._first = 0
        self._settled = False
        self._late = self._overdue = False
        self._wires: set[_Wire] = set()

    def publish(self, fleet: Fleet, *, settled: bool) -> None:
        """The newest fleet. `settled`: every service in it has been looked at once."""
        self._fleet, self._frame = fleet, encode_frame(fleet)
        self._up = frozenset([(service.slot, service.generation) for service in fleet.services if service.up])
        self._first = self._first or fleet.version
        self._settled = self._settled or settled
        self._wake()

    async def serve(self, listener: socket.socket) -> None:
        """Take connections of workers on a listening socket until cancelled."""
        # Not `start_unix_server`, which from Python 3.13 on removes the socket's file: it belongs to who opened it.
        server = await asyncio.start_server(self._attend, sock=listener)
        try:
            await asyncio.sleep(PATIENCE)
            self._late = True
            self._wake()
            await asyncio.sleep(max(0.0, self._settle_time - PATIENCE))
            self._overdue = True
            self._wake()
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            for wire in self._wires:
                wire.abort()

    def newest_for(self, has: int | None) -> Fleet | None:
        """The fleet to send to a worker that says it has version `has` (None: it has not said yet), if any."""
        fleet = self._fleet
        if fleet.version == 0:
            return None
        if has == 0 or (has is not None and has >= self._first):
            return fleet if fleet.synced or self._late else None
        return fleet if fleet.synced and (self._settled or self._overdue) else None

    def tells_of(self, slot: int, generation: int) -> bool:
        """Whether the newest fleet lets requests go to this service."""
        return (slot, generation) in self._up

    @property
    def fleet(self) -> Fleet:
        """The newest one, of version 0 before the first."""
        return self._fleet

    @property
    def version(self) -> int:
        """Of the newest fleet, 0 before the first."""
        return self._fleet.version

    @property
    def workers(self) -> list[tuple[int, int]]:
        """(worker, version of its fleet) for each one connected that has reported, sorted."""
        return sorted((wire.worker, wire.has or 0) for wire in self._wires if wire.worker >= 0)

    def _wake(self) -> None:
        for wire in self._wires:
            wire.news.set()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._wires) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        wire = _Wire(writer)
        self._wires.add(wire)
        sending = asyncio.create_task(self._send(wire))
        try:
            await self._receive(wire, reader)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            log.warning("the wire of worker %d broke: %s", wire.worker, error)
        finally:
            self._wires.discard(wire)
            sending.cancel()
            wire.abort()

    async def _send(self, wire: _Wire) -> None:
        """Send the newest fleet whenever there is a newer one than sent before."""
        try:
            while True:
                wire.news.clear()
                fleet = self.newest_for(wire.has)
                if fleet is not None and fleet.version != wire.sent:
                    wire.sent = fleet.version
                    wire.writer.write(self._frame)
                    async with asyncio.timeout(SEND_DEADLINE):
                        await wire.writer.drain()
                else:
                    await wire.news.wait()
        except OSError:  # gone, or (TimeoutError) stopped
            wire.abort()

    async def _receive(self, wire: _Wire, reader: asyncio.StreamReader) -> None:
        """Take reports until the worker is gone. Raises `ValueError` for what is none."""
        decoder = msgspec.msgpack.Decoder(Report)
        buffer = bytearray()
        while data := await reader.read(65536):
            buffer += data
            for frame in split_frames(buffer):
                report = decoder.decode(frame)
                first, wire.worker, wire.has = wire.has is None, report.worker, report.fleet_version
                if first:
                    wire.news.set()
                self._reported(report)
            if len(buffer) > MAX_REPORT:
                raise ValueError(f"a report of more than {MAX_REPORT} bytes")


class _Wire:
    """One connection of a worker."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)  # drained means that the worker has taken everything
        self.writer = writer
        self.news = asyncio.Event()
        self.sent = 0
        self.worker = -1
        self.has: int | None = None

    def abort(self) -> None:
        """Close without waiting."""
        self.writer.transport.abort()
