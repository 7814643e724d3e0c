"""How one worker wakes another: "a place at this service was freed, and it is your turn".

Owns the datagram sockets of the workers in the router's own directory, and their one message: a slot, and how many were
told of it before. A message that is lost costs a quarter of a second, until the sweep looks by itself. May not live
here: whose turn it is (`turns`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Final

#: Messages read at once; the rest is read in the loop's next round.
AT_ONCE: Final = 64
#: Slot and hops.
MESSAGE: Final = Struct("=II")


class Bell:
    """This worker's bell, and the way to those of the others."""

    def __init__(self, directory: str, index: int, rung: Callable[[int, int], None]) -> None:
        """`rung(slot, hops)` is called in the running loop. Raises `OSError` where the directory cannot be used."""
        self._directory = directory
        self._rung = rung
        own = self._path(index)
        with contextlib.suppress(FileNotFoundError):
            Path(own).unlink()  # of a worker that died
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind(own)
        except OSError:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _path(self, index: int) -> str:
        return f"{self._directory}/bell-{index}"

    def ring(self, worker: int, slot: int, hops: int) -> None:
        """Tell another worker. One that is gone has no line, and one that has many messages looks anyway."""
        with contextlib.suppress(OSError):
            self._socket.sendto(MESSAGE.pack(slot, hops), self._path(worker))

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(AT_ONCE):
                self._rung(*MESSAGE.unpack(self._socket.recv(MESSAGE.size)))

    def close(self) -> None:
        """Nobody rings any more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
