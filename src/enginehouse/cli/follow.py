"""Following a router's server-sent events, over lost connections and restarts.

Owns connecting, reading, waiting before the next try. May not live here: what the events mean to people.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

#: A stream on which nothing came for so long is dead: the router says something every 15 s at the latest. Seconds.
SILENCE: Final = 40.0
#: Seconds before the next try; doubles up to `LONGEST_PAUSE`.
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0
#: Bytes of one event; four thousand services with long lists of models fit.
LARGEST: Final = 64 * 1024 * 1024


class Lost(Exception):
    """The connection is lost, or was never there: why, in words for people. It is tried again."""


class NotThere(Exception):
    """The router answers, but has no such stream; trying again would not help."""


def follow(url: str, path: str, last_id: int | None = None) -> Iterator[Any]:
    """The data of each event as JSON, for ever; a `Lost` in between for each connection that ended.

    Events with ids go on after the last one seen, or after `last_id`. Raises `NotThere`.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            for found_id, told in _connected(url, path, last_id):
                last_id, pause = last_id if found_id is None else found_id, FIRST_PAUSE
                yield told
            yield Lost(f"{url} ended the connection")
        except OSError as error:
            yield Lost(f"{url} cannot be reached: {error.strerror or str(error) or type(error).__name__}")
        except (http.client.HTTPException, ValueError) as error:
            yield Lost(f"{url} broke off: {str(error) or type(error).__name__}")
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _connected(url: str, path: str, last_id: int | None) -> Iterator[tuple[int | None, Any]]:
    """Id (None where it has none) and data of each event of one connection."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=SILENCE)
    try:
        headers = {"accept": "text/event-stream"} | ({} if last_id is None else {"last-event-id": str(last_id)})
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        response = connection.getresponse()
        if response.status in (404, 405) or (not _is_stream(response) and response.status < 500):
            raise NotThere(f"{url} answers, but does not tell {path}: is it a router, and as new as this command?")
        if response.status != 200:
            raise ValueError(f"it answers {response.status}")
        found_id: int | None = None
        while line := response.readline(LARGEST):
            if line.startswith(b"id: "):
                found_id = int(line[4:])
            elif line.startswith(b"data: "):
                yield found_id, json.loads(line[6:])
                found_id = None
    finally:
        connection.close()


def _is_stream(response: http.client.HTTPResponse) -> bool:
    return response.headers.get_content_type() == "text/event-stream"
