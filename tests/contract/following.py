"""A client that follows server-sent events of a router.

Owns reading them with a deadline. May not live here: what a test expects of them.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.contract.router import DEADLINE, Router


class Following:
    """An open stream. `ids` are those of the events seen."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response
        self.ids: list[int] = []

    def next(self) -> Any:
        """The data of the next event; `EOFError` where the stream ends."""
        while line := self.response.readline():
            if line.startswith(b"id: "):
                self.ids.append(int(line[4:]))
            if line.startswith(b"data: "):
                return json.loads(line[6:])
        raise EOFError

    def until(self, holds: Callable[[Any], object], what: str) -> Any:
        """The next event of which something holds."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            if holds(found := self.next()):
                return found
        raise AssertionError(f"not within {DEADLINE:g} s: {what}")


@contextmanager
def following(router: Router, path: str, headers: Mapping[str, str] | None = None) -> Iterator[Following]:
    """The events of a path, which answers with a stream."""
    connection = http.client.HTTPConnection("127.0.0.1", router.port, timeout=DEADLINE)
    try:
        connection.request("GET", path, headers={"accept": "text/event-stream"} | dict(headers or {}))
        response = connection.getresponse()
        assert (response.status, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        yield Following(response)
        response.close()
    finally:
        connection.close()
