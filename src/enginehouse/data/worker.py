"""One worker process of the router: what its connections share, and its life from start to drained stop.

Owns: the current table, the pool, counters, limits over all connections, the sweep of deadlines, starting and
stopping. May not live here: anything about one request (`driver`) or one connection (`client_conn`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import random
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.fleet import Fleet, Service
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import CONTROL_SLOT, Shared, WorkerState
from enginehouse.data import allocator
from enginehouse.data.access_log import AccessLog
from enginehouse.data.alive import answer_live
from enginehouse.data.bell import Bell
from enginehouse.data.client_conn import ClientConn
from enginehouse.data.control_link import REPORT_INTERVAL, follow_control
from enginehouse.data.counters import Counters
from enginehouse.data.driver import Driver
from enginehouse.data.ended import Ended, Taker
from enginehouse.data.engine_pool import UNIX, EnginePool
from enginehouse.data.glimpses import Glimpses
from enginehouse.data.intake import read_plan
from enginehouse.data.measures import Measures
from enginehouse.data.mended import Mended
from enginehouse.data.realtime import Realtime
from enginehouse.data.replay import ReplayMemory
from enginehouse.data.reports import Reports
from enginehouse.data.request import Request
from enginehouse.data.traces import Traces
from enginehouse.data.waiting import WaitingRoom
from enginehouse.policy.admission import learned_from
from enginehouse.policy.choose import Choice, LoadView
from enginehouse.policy.remembered import recall, remember
from enginehouse.policy.retry import Retries
from enginehouse.policy.table import Table, build
from enginehouse.wire.errors import Unreadable
from enginehouse.wire.known_heads import KnownHeads
from enginehouse.wire.paths import Classifier, Kind, Where
from enginehouse.wire.request_head import RequestHead

#: Seconds between two looks at every connection's deadline.
SWEEP: Final = 0.25
#: Idle connections of clients stay this long after a stop was asked for: a request on its way is still answered, with
#: `Connection: close`. Seconds.
STOP_GRACE: Final = 1.0
#: The same where a successor serves already, so that nothing is in a hurry: most clients close what they do not use
#: before that (httpx after 5 s), or ask again. Seconds.
RETIRE_GRACE: Final = 15.0
#: A new worker waits this long for the first fleet before it accepts connections. Seconds.
FIRST_FLEET: Final = 2.0
#: So long after a worker's first beat all others count its load, so no sooner does it accept anything: else each would
#: fill every service to its cap for itself. Seconds.
SEEN: Final = 1.5 * SWEEP
#: Tables of turns are started anew above this many models.
MAX_TURNS: Final = 10000
BACKLOG: Final = 4096


class Worker:
    """Shared by every connection of this process."""

    def __init__(self, config: RouterConfig, shared: Shared, index: int, api_path: str) -> None:
        self.config = config
        self.index = index
        self.epoch = time.time_ns()
        self.now = time.monotonic
        self.rng = random.Random(self.epoch)  # noqa: S311 (spreads load, guards nothing)
        # routing
        self.fleet_version = 0
        self.table: Table = build(Fleet(version=0, synced=False), config)
        self.classify = Classifier(config)
        self.loads = LoadView(shared, config.workers, config.service_capacity, config.learn_capacity)
        self._turns: dict[str, int] = {}
        self.shared = shared
        control = Service(
            name="router",
            slot=CONTROL_SLOT,
            generation=1,
            host="router",
            addresses=(UNIX + api_path,),
            port=80,
            up=True,
        )
        self.control = Choice(control, "own")
        self.retries = Retries(config)
        self.replay_memory = ReplayMemory(config.failover_memory)
        self.mended = Mended()
        self.access_log = AccessLog(config.access_log, config.access_log_format, config.access_log_buffer)
        self.measures = Measures(index)
        glimpses = Glimpses(shared)
        self.reports = Reports(self, glimpses)
        takers: list[Taker] = [self.measures, glimpses]
        self.ended = Ended([self.access_log, *takers] if self.access_log.is_on else takers, self.report_bug)
        self.traces = Traces(config) if config.otlp_endpoint else None
        if self.traces is not None:
            self.ended.takers.append(self.traces)
        # connections
        self.known_heads: KnownHeads[RequestHead] = KnownHeads()
        self.pool = EnginePool(config)
        self.pool.retain((control,))
        self.counters = Counters(shared, index, config, lambda: self.now(), self.measures)
        self.room = WaitingRoom(config, shared, index, self.loads, self._ring)
        self._learns = config.learn_capacity
        self.crowded = shared.crowded
        """One item: not 0 while a request waits for a service, in this worker or another one."""
        self._freed: dict[int, Service] = {}
        self._bell: Bell | None = None
        self.clients: set[ClientConn] = set()
        # limits, ids
        self._bodies = 0
        self._id_base = b"req-%b-" % os.urandom(6).hex().encode()
        self._id_count = 0
        self.stopping = False
        self._end_by = math.inf
        """When what still runs is cut, and when idle connections are closed; set when a stop is asked for."""
        self._close_idle_at = math.inf
        self._succeeded = False
        """Another worker serves in this one's place."""
        self._synced = asyncio.Event()

    # -- for one request -----------------------------------------------------------------------------------------------

    def begin(self, conn: ClientConn, request: Request) -> None:
        """A whole request is there: answer it here, or send it to a service."""
        head = request.head
        route = head.route
        if route is None:
            route = head.route = self.classify(head.method, head.target)
        if route.kind is Kind.LIVE:
            answer_live(self, conn, request, route.path)
            return
        if self.traces is not None and (route.kind is Kind.INFERENCE or route.kind is Kind.OTHER):
            self.traces.begin(request)
        if request.websocket and route.where is Where.REALTIME and b"model=" not in route.target:
            Realtime(self, conn, request, route).open()
            return
        try:
            plan = read_plan(self, request, route)
        except Unreadable as problem:
            conn.refuse_whole(request, route.dialect, problem)
            return
        conn.driver = driver = Driver(self, conn, request, plan)
        driver.start()

    def turn(self, model: str, first: bool) -> int:
        """The number of this choice among those for the model; workers begin at different ones.

        Only the `first` choice of a request takes a turn: repetitions would put all requests in step, so that each
        would begin with the same service.
        """
        turns = self._turns
        turn = turns.get(model, self.index)
        if first:
            if len(turns) > MAX_TURNS:
                turns.clear()
            turns[model] = turn + 1
        return turn

    def id_of(self, request: Request) -> bytes:
        """The client's own id, or one that nobody else makes: 48 random bits of this process and a count."""
        if request.head.request_id:
            return request.head.request_id
        self._id_count += 1
        return b"%b%x" % (self._id_base, self._id_count)

    def remember(self, made_id: str, service: Service) -> None:
        """A service made this id: every worker sends what is asked about it there."""
        remember(self.shared, made_id, service)

    def recall(self, made_id: str) -> int:
        """Slot of the service that made the id, -1 if unknown or gone."""
        return recall(self.shared, self.table, made_id)

    def take_body(self, size: int) -> bool:
        """Reserve bytes of the budget for bodies; False when it is spent."""
        if self._bodies + size > self.config.body_budget:
            return False
        self._bodies += size
        return True

    @property
    def bodies_held(self) -> int:
        """Bytes of request bodies in memory."""
        return self._bodies

    def give_body(self, size: int) -> None:
        """Bytes of a body are no longer held."""
        self._bodies -= size

    def freed(self, service: Service, outcome: Outcome) -> None:
        """A request to this service has ended: somebody who waits may have its place, when this step is over."""
        if self._learns:
            self._learn(service, outcome)
        if self.crowded[0]:
            if not self._freed:
                asyncio.get_running_loop().call_soon(self._offer_freed)
            self._freed[service.slot] = service

    def _learn(self, service: Service, outcome: Outcome) -> None:
        slot, learned = service.slot, self.shared.learned
        load = sum([row[slot] for row in self.loads.loads]) + 1
        learned[slot] = learned_from(learned[slot], service.generation, load, outcome)

    def _offer_freed(self) -> None:
        freed, self._freed = self._freed, {}
        for service in freed.values():
            self.room.offer(service, self.now())

    def _ring(self, worker: int, slot: int, hops: int) -> None:
        if self._bell is not None:
            self._bell.ring(worker, slot, hops)

    def _rung(self, slot: int, hops: int) -> None:
        """Another worker says that it is our turn to take a place at a service."""
        service = self.table.by_slot.get(slot)
        if service is not None:
            self.room.offer(service, self.now(), hops)

    def service_failed(self) -> None:
        """An attempt blamed its service."""
        self.reports.hurry()

    def report_bug(self, error: BaseException) -> None:
        """Tell about an error that is ours; the request has been answered."""
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        sys.stderr.write("router worker: a bug, please report it:\n" + "".join(lines))

    # -- for control ---------------------------------------------------------------------------------------------------

    def use_fleet(self, fleet: Fleet) -> None:
        """Replace the table; requests that run keep what they have chosen."""
        if fleet.synced:
            self._synced.set()
        self.fleet_version = fleet.version
        self.table = build(fleet, self.config)
        self.loads.index.use(fleet.services)
        self.pool.retain((*fleet.services, self.control.service))
        self.reports.size(len(fleet.services))
        self.counters.use({**self.table.by_slot, CONTROL_SLOT: self.control.service})
        self.measures.use({service.name for service in fleet.services}, self.table.known, self.now())
        self.room.offer_all(self.now())

    # -- life ----------------------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Look at every deadline, tell the supervisor that we live, report to control."""
        now = self.now()
        self.shared.beats[self.index] = now
        self.loads.look(self.shared, self.index)
        for conn in tuple(self.clients):
            try:
                conn.expire(now)
            except Exception as error:  # one connection's bug must not stop the deadlines of all others
                self.report_bug(error)
                conn.transport.abort()
        self.room.sweep(now)
        self.pool.sweep(now)
        self.retries.turn(now)
        self.ended.flush(now)
        self.counters.tick(now)
        self.reports.beat(now)

    async def run(
        self, listener: socket.socket, wire_path: str, stop: asyncio.Event, serving: Callable[[], None] | None = None
    ) -> None:
        """Serve until `stop` is set and everything is drained, or the deadline has passed.

        `serving` is called when connections are accepted. Who wants to be told waits for the first fleet however long
        it takes: another worker serves meanwhile.
        """
        loop, start = asyncio.get_running_loop(), self.now()
        with contextlib.suppress(OSError):  # without it, others find out by their sweep
            self._bell = Bell(str(Path(wire_path).parent), self.index, self._rung)
        link = loop.create_task(follow_control(self, wire_path))
        beating = loop.create_task(self._beat_forever())
        with contextlib.suppress(TimeoutError):
            # Connections wait in the queue of a socket that the supervisor holds: better than to refuse them.
            await asyncio.wait_for(self._synced.wait(), None if serving else FIRST_FLEET)
        if serving or self.config.workers > 1:
            await asyncio.sleep(max(0.0, start + SEEN - self.now()))
        allocator.tune()
        server = await loop.create_server(self.client, sock=listener, backlog=BACKLOG)
        self.shared.states[self.index] = WorkerState.SERVING
        if serving:
            serving()
        gc.collect()
        gc.freeze()
        # Requests leave no cycles behind, so what a collection finds is rare; each one looks at everything young.
        gc.set_threshold(50_000, 20, 100)
        await stop.wait()
        if self._end_by == math.inf:
            self.end(successor=False)
        self.stopping = True
        self.shared.states[self.index] = WorkerState.STOPPING
        server.close()
        await self._drain()
        self.ended.flush(self.now())
        if self.reports.link is not None:
            self.reports.link.report()
        link.cancel()
        beating.cancel()
        if self._bell is not None:
            self._bell.close()
        self.pool.close()

    def close(self) -> None:
        """Write what is still to be logged. Blocks."""
        self.ended.flush(self.now())
        self.access_log.close()

    def end(self, *, successor: bool) -> None:
        """A stop was asked for; `successor`: because another worker serves in this one's place. May come again."""
        now, config = self.now(), self.config
        limit = config.reload_timeout if successor else config.drain_timeout
        grace = RETIRE_GRACE if successor else min(STOP_GRACE, config.drain_timeout / 2)
        self._end_by = min(self._end_by, now + limit)
        self._close_idle_at = min(self._close_idle_at, now + grace)
        self._succeeded = successor

    def client(self) -> asyncio.BaseProtocol:
        """A new connection of a client."""
        return cast("asyncio.BaseProtocol", ClientConn(self))

    async def _beat_forever(self) -> None:
        pause, lag = min(SWEEP, REPORT_INTERVAL), self.measures.lag.histogram
        while True:
            self.beat()
            begun = self.now()
            await asyncio.sleep(pause)
            lag.add(max(0.0, self.now() - begun - pause))

    async def _drain(self) -> None:
        """Finish what runs; cut what is left at the deadline."""
        while self.clients and (now := self.now()) < self._end_by:
            if now >= self._close_idle_at:
                for conn in tuple(self.clients):
                    if conn.is_idle:
                        conn.transport.close()
            self._end_watching()
            if self.room.waiting and not self._succeeded:
                self._refuse_waiting()
            await asyncio.sleep(SWEEP if self._succeeded else 0.02)
        for conn in tuple(self.clients):
            if conn.tunnel is not None:
                conn.tunnel.stop()
            elif conn.driver is not None:
                conn.driver.stop()
        await asyncio.sleep(0.05 if self.clients else 0)
        for conn in tuple(self.clients):
            conn.transport.abort()

    def _end_watching(self) -> None:
        """Who follows what happens here would keep a worker from ending, and finds the next one at once."""
        for conn in tuple(self.clients):
            driver = conn.driver
            if driver is not None and driver.plan.own and driver.reply.relay is not None:
                driver.stop()

    def _refuse_waiting(self) -> None:
        """What waits for a service would keep a router from ending that nobody takes the place of."""
        for conn in tuple(self.clients):
            if conn.driver is not None and conn.driver.waits_since:
                conn.driver.stop()
