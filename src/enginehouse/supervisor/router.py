"""The router's supervisor: the process one starts. Standard library only, nothing that can fail.

Owns: the listening sockets, the shared memory, control and the workers as children, the watchdog, the final stop.
May not live here: HTTP (but for one canned refusal while stopping), settings beyond what it needs to do this.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.shared import SIZE, Shared, WorkerState
from enginehouse.core.units import MAX_WORKERS
from enginehouse.supervisor import reload
from enginehouse.supervisor.door import DIRECTORY, Door
from enginehouse.supervisor.keeper import Child, Keeper, handover, replace
from enginehouse.supervisor.signals import Waiter
from enginehouse.supervisor.watchdog import Watchdog, cpu_of

TICK: Final = 0.25
#: While a reload goes on. Seconds.
RELOAD_TICK: Final = 0.02
BACKLOG: Final = 4096
#: Control may take this long to end. Seconds.
CONTROL_STOP: Final = 2.0
_BODY: Final = (
    b'{"error":{"message":"The router is stopping; try again in a moment.","type":"service_unavailable_error",'
    b'"param":null,"code":"server_is_overloaded"}}'
)
STOPPING_ANSWER: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b"x-enginehouse-service: -\r\nx-enginehouse-attempts: 0\r\nx-enginehouse-queue-ms: 0\r\n"
    b"x-enginehouse-overhead-ms: 0\r\nx-enginehouse-reason: stopping\r\nx-request-id: req-stopping-%%b\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` sockets that share one address, where the system balances between them, else one socket, `count` times.

    Raises `OSError` where the address cannot be had.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    balanced = sys.platform == "linux"
    probe = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without SO_REUSEPORT: an address that another program listens on is refused instead of shared with it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)
        address = probe.getsockname()
    finally:
        probe.close()
    sockets: list[socket.socket] = []
    for _ in range(count if balanced else 1):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if balanced:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        sockets.append(sock)
    return sockets if balanced else sockets * count


class Supervisor:
    """Starts control and the workers, restarts and replaces them, and stops them without losing a request."""

    def __init__(self, config: RouterConfig, waiter: Waiter, reread: Sequence[str] = (), settings: int = -1) -> None:
        """`reread`: the command that prints the settings anew, for a reload. `settings`: a `handover` that is kept up
        to date, for whoever starts this router again; -1 for none."""
        self.config = config
        self._waiter = waiter
        self._reread = reread
        self._settings_above = settings
        self._listeners = listen(config.host, config.port, config.workers)
        self._directory = tempfile.mkdtemp(prefix=DIRECTORY)  # mode 0700: the sockets inside are ours alone
        self._api = self._unix("api")
        self._wire = self._unix("wire")
        self._door = Door(self._directory, self._listeners[0].getsockname()[1], waiter, self._ask_for_reload)
        self._memory_file = handover(b"")
        os.ftruncate(self._memory_file, SIZE)
        self._memory = mmap.mmap(self._memory_file, SIZE)
        self.shared = Shared(memoryview(self._memory))
        self._settings = handover(msgspec.json.encode(config))
        self._settings_before: list[int] = []
        self._lifeline, self._lifeline_end = os.pipe()
        self._keeper = Keeper(self._died)
        self._watchdog = Watchdog(cpu_of)
        self._reload: reload.Steps | None = None
        self._stopping = False
        self.control = self.new_control()
        self.workers: list[Child] = []
        """One per listener, in their order; those that finish before their end are among the keeper's children only."""

    @property
    def url(self) -> str:
        """Where clients reach the router."""
        host, port = self._listeners[0].getsockname()[:2]
        if host in ("0.0.0.0", "::"):
            host = "127.0.0.1"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _unix(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(f"{self._directory}/{name}")
        sock.listen(BACKLOG)
        return sock

    def run(self) -> None:
        """Start everything, and keep it running until a stop is asked for."""
        self.start(self.control)
        for position in range(len(self._listeners)):
            worker = self.new_worker(position)
            assert worker is not None  # there are twice as many rows as workers may be configured
            self.workers.append(worker)
            self.start(worker)
        while not self._waiter.stop_asked:
            self._keeper.tick()
            self._kill_silent()
            if self._waiter.reopen_asked:
                self._reopen_logs()
            self._go_on_reloading()
            tick = RELOAD_TICK if self._reload else TICK
            self._waiter.wait(max(0.0, min(tick, self._keeper.next_start - time.monotonic())))

    # children

    def start(self, child: Child) -> None:
        """Start it, and keep it alive from then on."""
        self._keeper.add(child)

    def let_go(self, child: Child, number: signal.Signals) -> None:
        """Have it end, told by this signal, never to be started again."""
        self._keeper.let_go(child, number)

    def new_control(self) -> Child:
        """A control that is not started yet."""
        descriptors = {**self._common(), "api": self._api.fileno(), "wire": self._wire.fileno()}
        return Child("control", "control", descriptors, {"directory": self._directory})

    def new_worker(self, position: int) -> Child | None:
        """A worker for the listener at this position, not started yet; None while every row of the memory is taken."""
        free = set(range(MAX_WORKERS)) - {_row(worker) for worker in self._all_workers()}
        if not free:
            return None
        descriptors = {**self._common(), "listener": self._listeners[position].fileno()}
        paths = {"api_path": self._api.getsockname(), "wire_path": self._wire.getsockname()}
        return Child(f"worker {min(free)}", "worker", descriptors, {**paths, "index": min(free)})

    def accepts(self, worker: Child) -> bool:
        """Does this worker take new connections?"""
        return worker.alive and bool(self.shared.states[_row(worker)] == WorkerState.SERVING)

    def _common(self) -> dict[str, int]:
        return {"config": self._settings, "shared": self._memory_file, "lifeline": self._lifeline}

    def _all_workers(self) -> list[Child]:
        """Those that serve, and those that finish."""
        return [child for child in self._keeper.children if child.role == "worker"]

    def _died(self, child: Child, status: int) -> None:
        if child.role == "worker":
            self.shared.forget_worker(_row(child))
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if not self._stopping and child.wanted:
            say(f"{child.name} ended ({how}); starting it again")
        elif not self._stopping and child.role == "worker":
            say(f"{child.name} has finished" if status == 0 else f"{child.name} ended before it had finished ({how})")

    # reloading

    def _ask_for_reload(self) -> None:
        self._waiter.reload_asked = True

    def _go_on_reloading(self) -> None:
        if self._reload is None:
            if not self._waiter.reload_asked:
                return
            self._waiter.reload_asked = False
            self._door.begin()
            self._reload = reload.steps(self, self._reread)
        try:
            next(self._reload)
            return
        except StopIteration:
            finishing = len(self._all_workers()) - len(self.workers)
            self.tell(f"reloaded; workers from before that still finish what they have: {finishing}")
            self._door.finish(True)
            while self._settings_before:
                os.close(self._settings_before.pop())
        except Exception as error:  # whatever it was, the router goes on
            self.tell(f"not reloaded: {error if isinstance(error, reload.Refused) else repr(error)}")
            self._door.finish(False)
        self._reload = None

    def use(self, config: RouterConfig, settings: bytes) -> None:
        """Children that are made from now on get these settings. Those that are there keep theirs, restarted or not."""
        self.config = config
        self._settings_before.append(self._settings)
        self._settings = handover(settings)
        if self._settings_above >= 0:
            replace(self._settings_above, settings)

    def tell(self, text: str) -> None:
        """A line for people, and for who asked for a reload."""
        say(text)
        self._door.tell(text)

    # watching

    def _kill_silent(self) -> None:
        """A worker that is frozen holds its share of the connections: replace it."""
        now = time.monotonic()
        for worker in self._all_workers():
            if worker.process is None:
                continue
            row = _row(worker)
            limit = self._watchdog.overdue(row, worker.process.pid, self.shared.beats[row], worker.started, now)
            if limit:
                say(f"{worker.name} gave no sign of life for {limit:.0f} s; killing it")
                worker.signal(signal.SIGKILL)
                worker.started = now

    def _reopen_logs(self) -> None:
        """Pass SIGUSR1 on. A worker without a beat would die of it, and has not opened its log yet."""
        self._waiter.reopen_asked = False
        for worker in self._all_workers():
            if self.shared.beats[_row(worker)]:
                worker.signal(signal.SIGUSR1)

    # stopping

    def stop(self) -> None:
        """Let the workers finish, refuse what still arrives, then close. A second signal ends them at once."""
        self._stopping, self._waiter.stop_asked = True, False
        if self._reload is not None:
            self._reload.close()
        deadline = time.monotonic() + self.config.drain_timeout + CONTROL_STOP
        self._keeper.stop(self._all_workers(), deadline, self._refuse_meanwhile)
        controls = list(self._keeper.children)
        self._keeper.stop(controls, time.monotonic() + CONTROL_STOP, lambda: self._waiter.wait(0.01))
        self._refuse_waiting()
        for listener in self._listeners:
            listener.close()

    def _refuse_meanwhile(self) -> None:
        if WorkerState.SERVING not in self.shared.states.tolist():
            self._refuse_waiting()
        self._waiter.wait(0.02)
        if self._waiter.stop_asked:
            for worker in self._all_workers():
                worker.signal(signal.SIGKILL)

    def _refuse_waiting(self) -> None:
        """Answer connections that wait in the accept queue: closing the socket would reset them."""
        for listener in set(self._listeners):
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, contextlib.suppress(OSError):
                        client.setblocking(False)
                        client.send(STOPPING_ANSWER % os.urandom(6).hex().encode())
                        client.shutdown(socket.SHUT_WR)
                        client.recv(65536)

    def close(self) -> None:
        """Remove what was made."""
        self._door.close()
        for sock in (self._api, self._wire):
            sock.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def _row(worker: Child) -> int:
    """Its row of the shared memory."""
    return int(worker.values["index"])


def say(text: str) -> None:
    """A line for whoever looks at the supervisor."""
    with contextlib.suppress(OSError):  # nobody looks any more
        sys.stderr.write(f"router: {text}\n")
        sys.stderr.flush()


def supervise(config: RouterConfig, reread: Sequence[str] = (), settings: int = -1) -> int:
    """Run the router until SIGTERM or SIGINT; the exit status. `reread` and `settings` as in `Supervisor`."""
    waiter = Waiter()
    try:
        supervisor = Supervisor(config, waiter, reread, settings)
    except OSError as error:
        say(f"cannot listen on {config.host} port {config.port}: {error.strerror}; choose another with --router-port")
        waiter.close()
        return 1
    print(supervisor.url, flush=True)
    try:
        supervisor.run()
        supervisor.stop()
    finally:
        supervisor.close()
        waiter.close()
    return 0
