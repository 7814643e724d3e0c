"""The rest of a stream whose engine died, from another engine, on its way into the relay of the first.

Owns `Resumption`: a relay's other end as an attempt sees it. May not live here: whether and where to go on (`driver`,
`machines.exchange`), what becomes of the events (`wire.resumed`).
"""

from __future__ import annotations

from enginehouse.data.relay import Relay
from enginehouse.wire.resume import Kind, Partial
from enginehouse.wire.resumed import Splicer


class Resumption:
    """Takes the new engine's stream; what the client is to get of it goes into the relay."""

    __slots__ = ("_relay", "_splicer")

    def __init__(self, relay: Relay, kind: Kind, partial: Partial) -> None:
        self._relay = relay
        self._splicer = Splicer(kind, partial)

    def body(self, data: bytes) -> None:
        """Some bytes of the new stream."""
        rest = self._splicer.feed(data)
        if rest:
            self._relay.body(rest)

    def flush(self) -> None:
        """Write what is queued, at once."""
        self._relay.flush()

    @property
    def failed(self) -> bool:
        """It is not a stream that goes on with the first."""
        return self._splicer.failed

    @property
    def cut_short(self) -> bool:
        """It ended without its last event."""
        return not self._splicer.finished
