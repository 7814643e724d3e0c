"""Ports for tests: chosen by the system, one at a time or two in a row.

Owns `Ports`. May not live here: servers.
"""

import socket


class Ports:
    """Ports of 127.0.0.1 chosen by the system and held until the test ends, so that no other test is given them.

    A held port is bound, not listening: a server that sets SO_REUSEADDR or SO_REUSEPORT (asyncio, uvicorn and
    llama.cpp do) can listen on it, and until it does a connection is refused.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def one(self) -> int:
        """A free port."""
        return self._hold(0)

    def pair(self) -> int:
        """A free port whose successor is free too, as an engine and its babysitter need."""
        for _ in range(100):
            port = self._hold(0)
            try:
                self._hold(port + 1)
            except (OSError, OverflowError):
                continue
            return port
        raise RuntimeError("no two free ports in a row")

    def release(self) -> None:
        """Give all of them back."""
        for held in self._held:
            held.close()

    def _hold(self, port: int) -> int:
        held = socket.socket()
        self._held.append(held)
        # A port that somebody uses is refused although both options are set, because they are set after the bind.
        held.bind(("127.0.0.1", port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return int(held.getsockname()[1])
