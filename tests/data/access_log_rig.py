"""Requests for an access log, and what is found in what was written."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from enginehouse.core.outcome import Outcome
from enginehouse.wire.access_line import Entry, Record

DEADLINE = 20.0


def entry(id: str, model: str = "m", ended: float = 1000.0) -> Entry:
    """A request that was answered."""
    return Record(
        begun=ended - 0.5,
        ended=ended,
        first_byte=ended - 0.25,
        queued=0.0,
        id=id.encode(),
        client="127.0.0.1",
        method=b"POST",
        target=b"/v1/chat/completions",
        model=model,
        service="a",
        status=200,
        outcome=Outcome.ANSWERED,
        attempts=1,
        bytes_in=10,
        bytes_out=20,
        stream=False,
        usage=None,
        warm=-1.0,
        reason="only",
        key=b"",
        overhead=0.0001,
        own=False,
        prompt=0,
    )


class Found:
    """Everything in a log that holds whole lines only."""

    def __init__(self, text: bytes) -> None:
        assert not text or text.endswith(b"\n"), text[-300:]
        lines = [json.loads(line) for line in text.splitlines()]
        self.ids = [line["id"] for line in lines if "id" in line]
        self.dropped = sum(line["dropped"] for line in lines if "dropped" in line)

    @property
    def repeated(self) -> list[str]:
        return [id for id, count in Counter(self.ids).items() if count > 1]


def ids(path: Path) -> list[str]:
    """The ids in a file."""
    return Found(path.read_bytes()).ids


@contextlib.contextmanager
def both_ends() -> Iterator[tuple[int, int]]:
    """A pipe to read from and to write to; a test may close either end itself."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread or process does, which tells nobody when it is done."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
