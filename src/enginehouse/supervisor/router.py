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
from typing import Final

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.shared import SIZE, Shared, WorkerState
from enginehouse.supervisor.keeper import Child, Keeper, handover
from enginehouse.supervisor.signals import Waiter
from enginehouse.supervisor.watchdog import Watchdog, cpu_of

TICK: Final = 0.25
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
    """Starts control and the workers, restarts them, and stops them without losing a request."""

    def __init__(self, config: RouterConfig, settings: bytes, waiter: Waiter) -> None:
        self._config = config
        self._waiter = waiter
        self._listeners = listen(config.host, config.port, config.workers)
        self._directory = tempfile.mkdtemp(prefix="enginehouse-")  # mode 0700: the sockets inside are ours alone
        self._api = self._unix("api")
        self._wire = self._unix("wire")
        self._memory_file = handover(b"")
        os.ftruncate(self._memory_file, SIZE)
        self._memory = mmap.mmap(self._memory_file, SIZE)
        self.shared = Shared(memoryview(self._memory))
        self._settings = handover(settings)
        self._lifeline, self._lifeline_end = os.pipe()
        self._keeper = Keeper(self._died)
        self._workers: list[Child] = []
        self._watchdog = Watchdog(cpu_of)
        self._stopping = False

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

    def start(self) -> None:
        """Start everything."""
        common = {"config": self._settings, "shared": self._memory_file, "lifeline": self._lifeline}
        self._control = Child(
            "control",
            "control",
            {**common, "api": self._api.fileno(), "wire": self._wire.fileno()},
            {"directory": self._directory},
        )
        self._keeper.add(self._control)
        paths = {"api_path": self._api.getsockname(), "wire_path": self._wire.getsockname()}
        for index, listener in enumerate(self._listeners):
            worker = Child(
                f"worker {index}", "worker", {**common, "listener": listener.fileno()}, {**paths, "index": index}
            )
            self._workers.append(worker)
            self._keeper.add(worker)

    def _died(self, child: Child, status: int) -> None:
        if child.role == "worker":
            self.shared.forget_worker(int(child.values["index"]))
        if not self._stopping:
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            say(f"{child.name} ended ({how}); starting it again")

    def run(self) -> None:
        """Until a stop is asked for."""
        while not self._waiter.stop_asked:
            self._keeper.tick()
            self._kill_silent()
            if self._waiter.reopen_asked:
                self._reopen_logs()
            self._waiter.wait(max(0.0, min(TICK, self._keeper.next_start - time.monotonic())))

    def _kill_silent(self) -> None:
        """A worker that is frozen holds its share of the connections: replace it."""
        now = time.monotonic()
        for worker in self._workers:
            if worker.process is None:
                continue
            index = int(worker.values["index"])
            limit = self._watchdog.overdue(index, worker.process.pid, self.shared.beats[index], worker.started, now)
            if limit:
                say(f"{worker.name} gave no sign of life for {limit:.0f} s; killing it")
                worker.signal(signal.SIGKILL)
                worker.started = now

    def _reopen_logs(self) -> None:
        """Pass SIGUSR1 on. A worker without a beat would die of it, and has not opened its log yet."""
        self._waiter.reopen_asked = False
        for worker in self._workers:
            if self.shared.beats[int(worker.values["index"])]:
                worker.signal(signal.SIGUSR1)

    def stop(self) -> None:
        """Let the workers finish, refuse what still arrives, then close. A second signal ends them at once."""
        self._stopping, self._waiter.stop_asked = True, False
        deadline = time.monotonic() + self._config.drain_timeout + CONTROL_STOP
        self._keeper.stop(self._workers, deadline, self._refuse_meanwhile)
        self._keeper.stop([self._control], time.monotonic() + CONTROL_STOP, lambda: self._waiter.wait(0.01))
        self._refuse_waiting()
        for listener in self._listeners:
            listener.close()

    def _refuse_meanwhile(self) -> None:
        states = [self.shared.states[int(worker.values["index"])] for worker in self._workers]
        if all(state != WorkerState.SERVING for state in states):
            self._refuse_waiting()
        self._waiter.wait(0.02)
        if self._waiter.stop_asked:
            for worker in self._workers:
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
        for sock in (self._api, self._wire):
            sock.close()
        shutil.rmtree(self._directory, ignore_errors=True)


def say(text: str) -> None:
    """A line for whoever looks at the supervisor."""
    sys.stderr.write(f"router: {text}\n")
    sys.stderr.flush()


def supervise(config: RouterConfig, settings: bytes) -> int:
    """Run the router until SIGTERM or SIGINT; the exit status. `settings` is `config` as its children read it."""
    waiter = Waiter()
    try:
        supervisor = Supervisor(config, settings, waiter)
    except OSError as error:
        say(f"cannot listen on {config.host} port {config.port}: {error.strerror}; choose another with --router-port")
        waiter.close()
        return 1
    print(supervisor.url, flush=True)
    supervisor.start()
    try:
        supervisor.run()
        supervisor.stop()
    finally:
        supervisor.close()
        waiter.close()
    return 0
