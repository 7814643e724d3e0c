"""A client that sends what a case says, and judges what comes back and whether it comes at all.

Owns one case's connection from its beginning to its end. May not live here: what any answer must be (`reply`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from bench.fuzz import reply
from bench.fuzz.case import Case, Kind, Leave, pieces
from bench.fuzz.corpus import LIVEZ, TAG
from bench.fuzz.engine import PAUSE, Report
from bench.fuzz.reply import Reply, WrongError

#: Every connection must be answered and ended within this, many times the router's own deadlines. Seconds.
PATIENCE: Final = 60.0
#: So many requests in one line take as long as one that meets every deadline.
_IN_LINE: Final = 5
#: Of a slow reader, between two reads of so many bytes. Seconds.
_SLOWLY, _SIP = 0.02, 2000
#: Of loopback addresses, so that closed connections do not use up the ports of one.
_ADDRESSES: Final = 200
#: A client of ours that took longer than this to send was held up by this machine, and the router may have given up on
#: it: half the least of its deadlines. Seconds.
_LATE: Final = 0.5
#: Status of an honest error: nobody could serve it just then.
_HONEST: Final = frozenset((408, 429, 502, 503, 504))


class Client:
    """Plays cases against one port and counts what came."""

    def __init__(self, port: int, report: Report, patience: float = PATIENCE) -> None:
        self._port = port
        self._report = report
        self._patience = patience
        self.counts: Counter[str] = Counter()
        """Of statuses, of ways in which connections ended, of plain cases answered right and refused honestly."""

    async def play(self, case: Case) -> None:
        """One case, to its end. Requests that stand in one line are answered one after the other."""
        patience = self._patience * (1 + case.request.count(b" HTTP/1.") // _IN_LINE)
        try:
            async with asyncio.timeout(patience):
                await _Playing(case, self._port, self.counts).play()
        except WrongError as wrong:
            self._report("client got what is wrong", str(wrong), case.number)
        except TimeoutError:
            self._report("connection hung", f"neither answered nor ended within {patience:.0f} s", case.number)


class _Playing:
    """The connection of one case."""

    def __init__(self, case: Case, port: int, counts: Counter[str]) -> None:
        self._case = case
        self._port = port
        self._counts = counts
        self._received = bytearray()
        self._was_late = False

    async def play(self) -> None:
        number = self._case.number % (_ADDRESSES * _ADDRESSES)
        address = f"127.7.{number // _ADDRESSES}.{1 + number % _ADDRESSES}"
        began = time.monotonic()
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(address, 0))
        try:
            try:
                await self._send(self._case.request)
            finally:
                self._was_late = time.monotonic() - began > _LATE
            await self._leave()
        except ConnectionError:
            pass  # what came before is judged all the same
        finally:
            self._writer.transport.abort()
        self._judge()

    async def _send(self, data: bytes) -> None:
        cuts = self._case.cuts
        for piece in pieces(data, cuts):
            self._writer.write(piece)
            await self._writer.drain()
            if cuts:
                await asyncio.sleep(PAUSE)

    async def _leave(self) -> None:
        leave = self._case.leave
        if leave in (Leave.WAIT, Leave.SLOW):
            await self._read(1 if leave is Leave.WAIT else 0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._case.number % 7 * 0.01):
                await self._read(0)
        self._counts[f"client {leave.value}"] += 1
        if leave is Leave.RESET:
            sock = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif leave is Leave.HALF:
            self._writer.write_eof()
            await self._read(0)

    async def _read(self, again: int) -> None:
        """Until the connection ends. Behind the one answer to a right request one is asked for `again`: is it ours?"""
        slowly = self._case.leave is Leave.SLOW
        while data := await self._reader.read(_SIP if slowly else 1 << 16):
            self._received += data
            if slowly:
                await asyncio.sleep(_SLOWLY)
            if self._case.is_right and again and self._first_is_whole():
                again = 0
                self._writer.write(LIVEZ.replace(TAG, self._case.tag))
                await self._read_live()
                return

    def _first_is_whole(self) -> bool:
        found = self._replies(1)
        return bool(found) and found[0].whole and not found[0].close and found[0].status != 101

    async def _read_live(self) -> None:
        while len(self._replies(2)) < 2 or not self._replies(2)[1].whole:
            data = await self._reader.read(1 << 16)
            if not data:
                break
            self._received += data
        found = self._replies(2)
        if len(found) == 2 and (found[1].status, found[1].body) != (200, b"ok\n"):
            raise WrongError(
                f"the answer to the next request is not its own: {found[1].status} {found[1].body[:200]!r}"
            )

    def _replies(self, count: int) -> list[Reply]:
        """The first answers, as far as they have come."""
        data, start = bytes(self._received), 0
        found: list[Reply] = []
        while len(found) < count and start < len(data):
            one = reply.read(data, start, _method(self._case.request) if not found else b"GET")
            if one is None:
                break
            found.append(one)
            start = one.end
        return found

    def _judge(self) -> None:
        """What came, all together."""
        if self._case.is_right:
            self._judge_one(self._replies(3))
            return
        found = self._replies(1) if b"HEAD" in self._case.request.upper() else self._replies(200)
        self._count(found)

    def _count(self, found: Sequence[Reply]) -> None:
        for one in found:
            self._counts[f"status {one.status}"] += 1
        if not found:
            self._counts["no answer"] += 1
        elif not found[-1].whole:
            self._counts["answer cut short"] += 1

    def _judge_one(self, found: list[Reply]) -> None:
        self._count(found)
        case = self._case
        if len(found) > 2:
            raise WrongError(f"{len(found)} answers to one request")
        if case.leave not in (Leave.WAIT, Leave.SLOW):
            return
        if not found and self._was_late:
            self._counts["sent too late"] += 1
            return
        if not found:
            raise WrongError(f"no answer to a right request, but {bytes(self._received[:200])!r}")
        if case.kind is not Kind.PLAIN:
            return
        first = found[0]
        told = b'"case":"%b"' % case.tag in first.body or b"case %b" % case.tag in first.body.partition(b"[DONE]")[0]
        if first.status == 200 and first.whole and told:
            self._counts["plain answered"] += 1
        elif first.status in _HONEST and first.whole:
            self._counts["plain refused"] += 1
        else:
            raise WrongError(
                f"a plain request was answered with {first.status} {first.body[:300]!r}, whole: {first.whole}"
            )


def _method(request: bytes) -> bytes:
    return request.lstrip(b"\r\n").partition(b" ")[0]
