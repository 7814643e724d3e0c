"""The worker's end of the two wires: fleets come in, reports go out.

Owns: connecting to control (again and again: control may die and be restarted), framing, the rhythm of reports.
May not live here: what a fleet means (`policy.table`), what is counted (`counters`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from enginehouse.core.fleet import Fleet, encode_frame, split_frames
from enginehouse.core.glimpse import Glimpse

if TYPE_CHECKING:
    from enginehouse.data.worker import Worker

#: Seconds between two reports; failures are reported at once.
REPORT_INTERVAL: Final = 0.25
#: Seconds before control is tried again.
RECONNECT: Final = 0.05
#: Unsent bytes above which no more reports are made: control is not reading.
MAX_UNSENT: Final = 1024 * 1024


class ControlLink(asyncio.Protocol):
    """One connection to control."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._buffer = bytearray()
        self._decoder = msgspec.msgpack.Decoder(Fleet)
        self.transport: asyncio.Transport | None = None
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Take every whole fleet; only the newest one is used."""
        self._buffer += data
        try:
            frames = split_frames(self._buffer)
            if frames:
                self._worker.use_fleet(self._decoder.decode(frames[-1]))
                self.report()  # it tells control which fleet we have now
        except (ValueError, msgspec.DecodeError) as error:
            self._worker.report_bug(error)
            if self.transport is not None:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Control died or restarts: the last fleet stays in use."""
        self.transport = None
        self.lost.set()

    def report(self, glimpse: Glimpse | None = None) -> None:
        """Send what was counted since the last time, and what the requests do if that is to be shown."""
        transport, worker = self.transport, self._worker
        if transport is None or transport.get_write_buffer_size() > MAX_UNSENT:
            return
        transport.write(encode_frame(worker.reports.make(glimpse)))


async def follow_control(worker: Worker, path: str) -> None:
    """Stay connected to control until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            _, link = await loop.create_unix_connection(lambda: ControlLink(worker), path)
        except OSError:
            await asyncio.sleep(RECONNECT)
            continue
        worker.reports.meet(link)
        await link.lost.wait()
        worker.reports.link = None
        await asyncio.sleep(RECONNECT)
