"""The fleet as the workers see it: an immutable, versioned snapshot, and the two messages between control and workers.

Owns: `Service`, `Fleet` (control -> worker) and `Report` (worker -> control), with the framing both sides use.
May not live here: how a fleet is found out (control) or how one of its services is chosen (policy).
"""

from __future__ import annotations

import msgspec

from enginehouse.core.glimpse import Glimpse
from enginehouse.core.metrics import Series


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """An engine as registered: identity, where it is, what it serves, and what control thinks of it.

    `slot` is its row in shared memory; `generation` changes whenever a slot is given to another service (or to a
    new incarnation of the same one), so that late counts of the old one are recognised.
    """

    name: str
    slot: int
    generation: int
    host: str
    """Host name or address as registered: the Host header and the TLS server name."""
    addresses: tuple[str, ...]
    """IP addresses of `host`, as last resolved; empty while it cannot be resolved."""
    port: int
    tls: bool = False
    ca_file: str = ""
    prefix: str = ""
    """Path before every target, without a trailing slash ("" or "/engine1")."""
    api_key: str = ""
    models: tuple[str, ...] = ()
    weight: int = 1
    capacity: int = 0
    """Requests at once that its owner says it bears; 0: not said."""
    kv_tokens: int = 0
    """Tokens that its KV cache holds, as its owner or the engine says; 0: not told."""
    cache_type: str = ""
    """"static", "paged" or "" (CONTRACTS 1.2, size routing)."""
    continues: bool = False
    """It goes on with a last assistant message that is not complete, so it can take over a stream that broke."""
    inference: bool = True
    """False for a registered service that must never get a prompt (a babysitter)."""
    up: bool = False
    """Control's verdict: probed or confirmed healthy, not missing beyond the grace period."""


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a worker needs to route. Replaced as a whole, never changed."""

    version: int
    synced: bool
    """False until the first answer of every configured source: before it, a refusal may be wrong and is retryable."""
    services: tuple[Service, ...] = ()
    known_models: tuple[str, ...] = ()
    """Every model seen since control started, served now or not (bounded; sorted)."""


class ServiceCount(msgspec.Struct, frozen=True, array_like=True):
    """Counts of one service since the worker started: cumulative, so a lost report loses nothing."""

    slot: int
    generation: int
    requests: int
    errors: int
    """Attempts that ended in an outcome which blames the service."""
    first_byte_seconds: float
    """Sum over answered requests of the time from dispatch to the first byte."""
    answered: int
    rejections: int = 0
    """Answers that the engine can take nothing now."""
    failed: int = 0
    """Answers of the engine with a status of 500 or above that were passed on."""
    ejections: int = 0
    """Those that this worker decided on."""


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An attempt that blames a service, reported at once so that control probes it now."""

    slot: int
    generation: int
    outcome: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Worker -> control, a few times a second while anything changed. `epoch` changes when the worker restarts."""

    worker: int
    epoch: int
    fleet_version: int
    pid: int = 0
    """Of its process."""
    counts: tuple[ServiceCount, ...] = ()
    failures: tuple[Failure, ...] = ()
    mended: dict[str, int] = {}
    """What was done so that clients did not see a failure: counts by name since the worker started."""
    glimpse: Glimpse | None = None
    """What its requests do, now and then while somebody watches."""
    traced: bytes = b""
    """Requests traced since the last report, as `wire.span.encode_batch` has it."""
    measures: tuple[Series, ...] = ()
    """Counters and histograms that changed since the last report on this connection: cumulative since the start."""
    gauges: tuple[Series, ...] = ()
    """What is so now; empty where that was told a moment ago."""


#: Frames on the wire: 4 bytes little-endian length, then msgpack. A longer frame is a bug and closes the wire.
MAX_FRAME = 64 * 1024 * 1024


def encode_frame(message: Fleet | Report) -> bytes:
    """One message with its length prefix."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "little") + body


def split_frames(buffer: bytearray) -> list[bytes]:
    """Take every complete frame off the front of `buffer`, which is changed in place.

    Raises `ValueError` when a length exceeds `MAX_FRAME`.
    """
    frames: list[bytes] = []
    start = 0
    while len(buffer) - start >= 4:
        size = int.from_bytes(buffer[start : start + 4], "little")
        if size > MAX_FRAME:
            raise ValueError(f"a frame of {size} bytes; the limit is {MAX_FRAME}")
        if len(buffer) - start - 4 < size:
            break
        frames.append(bytes(buffer[start + 4 : start + 4 + size]))
        start += 4 + size
    del buffer[:start]
    return frames
