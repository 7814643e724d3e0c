"""A WebSocket on `/v1/realtime` whose model is named in its first event: accepted here, then joined to a service.

Owns: the handshake with the client and the wait for the first `session.update`. May not live here: frames
(`wire.realtime`), choosing and connecting (`driver`, as for every request), the joined connections (`tunnel`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enginehouse.core.outcome import Outcome
from enginehouse.data import replies
from enginehouse.data.driver import Driver
from enginehouse.data.intake import read_plan
from enginehouse.data.log_entries import refused
from enginehouse.wire import realtime
from enginehouse.wire.errors import Unreadable

if TYPE_CHECKING:
    from enginehouse.data.client_conn import ClientConn
    from enginehouse.data.request import Request
    from enginehouse.data.worker import Worker
    from enginehouse.wire.paths import Route


class Realtime:
    """Stands where the tunnel will be, until the model is known."""

    def __init__(self, worker: Worker, conn: ClientConn, request: Request, route: Route) -> None:
        self._worker = worker
        self._conn = conn
        self._request = request
        self._route = route
        self._events = realtime.FirstEvents()
        self._bytes = bytearray()
        self._due = worker.now() + worker.config.head_timeout

    def open(self) -> None:
        """Accept the client's handshake, without extensions: what follows is passed on as it is."""
        request = self._request
        key = realtime.accept_key(request.head.websocket_key)
        if key is None:
            problem = Unreadable(Outcome.BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64.")
            self._conn.refuse_whole(request, self._route.dialect, problem)
            return
        protocol = realtime.sub_protocol(request.head.protocols)
        early = self._conn.enter_tunnel(self)
        id = self._worker.id_of(request)
        self._conn.transport.write(replies.accepting(id, key, protocol))
        request.head = request.head.without(b"sec-websocket-extensions")
        request.head.request_id = id
        if early:
            self.from_client(early)

    def from_client(self, data: bytes) -> None:
        """Look for the model; with it, go the way of every request."""
        self._bytes += data
        try:
            model = self._events.feed(data)
            if model is None:
                return
            plan = read_plan(self._worker, self._request, self._route, realtime_model=model)
        except Unreadable as problem:
            self._refuse(problem.outcome, realtime.close_frame(1008, problem.message))
            return
        self._conn.await_tunnel(bytes(self._bytes))
        self._conn.driver = driver = Driver(self._worker, self._conn, self._request, plan)
        driver.start()

    def _refuse(self, outcome: Outcome, frame: bytes) -> None:
        self._conn.transport.write(frame)
        self._conn.leave_tunnel()
        self._log(outcome)

    def _log(self, outcome: Outcome) -> None:
        worker, request = self._worker, self._request
        now = worker.now()
        worker.ended.add(refused(request, request.head.request_id, now, outcome, 101, 0), now)

    def client_lost(self) -> None:
        """Nothing was begun for it."""
        self._log(Outcome.CLIENT_LEFT)

    def client_full(self) -> None:
        """Nothing is being sent."""

    def client_free(self) -> None:
        """Nothing is being sent."""

    def expire(self, now: float) -> None:
        """The first event must come as soon as a head must."""
        if now >= self._due:
            self._refuse(
                Outcome.CLIENT_TOO_SLOW, realtime.close_frame(1008, "No session.update with a model came in time.")
            )

    def stop(self) -> None:
        """The worker stops."""
        self._refuse(Outcome.STOPPING, realtime.close_frame(1013, "The router is stopping; connect again."))
