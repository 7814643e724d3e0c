"""A process that writes an access log: for tests that need several writers, or one whose file size can be limited.

Arguments: path, name of the writer, number of lines, number of requests between two flushes, capacity. Ids are
`NAME-NUMBER`. Waits for a line of standard input before it writes, and for another one before it closes.
"""

from __future__ import annotations

import sys
import time

from enginehouse.data.access_log import AccessLog
from tests.data.access_log_rig import entry


def main(path: str, name: str, count: str, batch: str, capacity: str) -> None:
    log = AccessLog(path, "json", int(capacity))
    sys.stdin.readline()
    for first in range(0, int(count), int(batch)):
        numbers = range(first, min(first + int(batch), int(count)))
        entries = [entry(f"{name}-{number}", model="m" * (number % 100)) for number in numbers]
        log.take(entries, time.monotonic() + first)  # as if a second passed for each request: the thread is woken
    log.take([], time.monotonic() + int(count))
    print("flushed", file=sys.stderr, flush=True)
    sys.stdin.readline()
    log.close(20.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
