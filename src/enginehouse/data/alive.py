"""`/livez` and `/readyz`, which a worker answers by itself, whatever else is broken.

Owns these two answers. May not live here: which paths they are (`wire.paths`), the router's other own paths (control).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginehouse.core.outcome import Outcome
from enginehouse.data import replies
from enginehouse.data.request import Request
from enginehouse.wire.errors import Dialect, Unreadable

if TYPE_CHECKING:
    from enginehouse.data.client_conn import ClientConn
    from enginehouse.data.worker import Worker


def answer_live(worker: Worker, conn: ClientConn, request: Request, path: str) -> None:
    """`/livez`: this process runs. `/readyz`: it takes requests and knows where to send them."""
    if request.head.method not in (b"GET", b"HEAD"):
        conn.refuse_whole(request, Dialect.OPENAI, Unreadable(Outcome.METHOD_NOT_ALLOWED, ""))
        return
    status, text = 200, b"ok\n"
    if path.rstrip("/") == "/readyz" and (worker.stopping or not worker.table.synced):
        status, text = 503, b"stopping\n" if worker.stopping else b"no answer from the registry yet\n"
    keep = request.keep_alive and not worker.stopping
    conn.transport.write(replies.plain(request, worker.id_of(request), status, text, keep))
    conn.answered(keep)
