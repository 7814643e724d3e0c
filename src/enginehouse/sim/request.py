"""A request as it arrived. Owns the record only. May not live here: parsing it, or answering it."""

from __future__ import annotations

CONTROL = frozenset({"/sim/stats", "/sim/faults", "/sim/engine"})
"""What is for the simulation, not for the engine: not counted, and spared all faults."""


class Request:
    """One request. `target`, header names and values are the bytes received; `path` is the target without query."""

    __slots__ = ("body", "control", "headers", "keep_alive", "method", "path", "query", "reused", "target", "version")

    def __init__(self, method: str, target: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.headers = headers
        path, _, query = target.partition(b"?")
        self.path = path.decode("latin-1")
        self.query = query.decode("latin-1")
        self.body = b""
        self.control = self.path in CONTROL
        self.keep_alive = True
        self.reused = False

    def header(self, name: bytes) -> bytes:
        """The first value of a header, by its lower-case name; empty where there is none."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return b""
