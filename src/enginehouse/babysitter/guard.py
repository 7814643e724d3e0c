"""The guard: one small process between a babysitter and its engine, so that no engine outlives its babysitter.

Owns the starting of one program in a process group of its own, the passing on of signals to that group, and the killing
of everything that descends from it. May not live here: anything but the standard library (it has to start in
milliseconds and stay small), restarting, output, decisions.

It is a program of its own, `python -I -S guard.py FD`, in a session of its own. FD is one end of a socket pair:

    babysitter -> guard   the order to start (`Order.pack`), then one byte for each signal to pass on (9: kill all)
    guard -> babysitter   lines: `pid N`, or `failed TEXT`; then `exited N` as soon as the program has ended, N being
                          its exit status, or minus the signal that ended it

When the socket ends, however the babysitter ended, the guard kills the program and all its descendants. A
parent-death signal would not do: it fires when the *thread* that forked ends, and it does not reach grandchildren.
On Linux the guard is a child subreaper, so descendants that changed their session or lost their parent (a daemon's
double fork, an engine's worker processes) become its own children and are found. Elsewhere it kills the group and
whatever `ps` shows below it. It exits when nothing is left. Neither arguments nor environment of the program are in its
own command line; both come through the socket.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import NamedTuple, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LINUX = sys.platform == "linux"

#: Seconds after which the guard gives up on processes that do not die (stuck in the kernel, or of another user).
KILL_DEADLINE = 8.0
KILL_PAUSE = 0.005
#: Dispositions that Python or the guard changed; the program gets them as they were.
CHANGED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)


class Order(NamedTuple):
    """What to start: arguments, the whole environment, and the directory ("": as it is)."""

    argv: list[str]
    env: dict[str, str]
    cwd: str

    def pack(self) -> bytes:
        """As it goes through the socket: the length in decimal and a line end, then fields ended by NUL."""
        fields = [self.cwd, str(len(self.argv)), *self.argv, *(f"{name}={value}" for name, value in self.env.items())]
        body = b"".join(os.fsencode(field) + b"\0" for field in fields)
        return b"%d\n" % len(body) + body

    @classmethod
    def unpack(cls, body: bytes) -> Order:
        """The reverse, of the part after the line end."""
        cwd, count, *fields = [os.fsdecode(field) for field in body.split(b"\0")[:-1]]
        argv, pairs = fields[: int(count)], fields[int(count) :]
        return cls(argv, dict(pair.split("=", 1) for pair in pairs), cwd)


def main(control: int) -> int:
    """Start the program, guard it, clean up. Returns 0 when nothing is left of it, 1 otherwise."""
    os.set_inheritable(control, False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # who stops everything at once must not stop the guard first
    if LINUX:
        prctl(PR_SET_CHILD_SUBREAPER)
    order = receive(control)
    if order is None:
        return 0
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, on_child_ended)
    signal.set_wakeup_fd(wake_write)
    child = start(order, control)
    watch(child, control, wake_read)
    return 0 if kill_all(child, control) else 1


def on_child_ended(*_: object) -> None:
    """Nothing: that there is a handler makes Python write to the wake-up descriptor."""


def prctl(option: int, value: int = 1) -> None:
    """The system call of that name. Linux only."""
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def receive(control: int) -> Order | None:
    """The order, or None where the babysitter ended before it gave one."""
    data = b""
    while b"\n" not in data:
        if not (chunk := os.read(control, 65536)):
            return None
        data += chunk
    length, _, body = data.partition(b"\n")
    while len(body) < int(length):
        if not (chunk := os.read(control, 65536)):
            return None
        body += chunk
    return Order.unpack(body)


def start(order: Order, control: int) -> int:
    """Fork and execute, in a process group of its own. Returns the pid, which is also the group's id."""
    guard = os.getpid()
    child = os.fork()
    if child == 0:
        execute(order, control, guard)
    try:
        os.setpgid(child, child)  # here too, so that it is done whichever of the two runs first
    except OSError:
        pass
    return child


def execute(order: Order, control: int, guard: int) -> NoReturn:
    """In the new process: become the program. The socket is closed by that."""
    what = "the process"
    try:
        os.setpgid(0, 0)
        if LINUX:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # should the guard itself be killed; it has one thread only
            if os.getppid() != guard:
                os._exit(1)
        for number in CHANGED:
            signal.signal(number, signal.SIG_DFL)
        if order.cwd:
            what = order.cwd
            os.chdir(order.cwd)
        say(control, f"pid {os.getpid()}")
        what = order.argv[0]
        os.execvpe(order.argv[0], order.argv, order.env)  # noqa: S606  # that is what it is for
    except Exception as error:
        say(control, f"failed {what}: {getattr(error, 'strerror', None) or error}")
    os._exit(127)


def say(control: int, line: str) -> None:
    """One line to the babysitter, if there still is one."""
    try:
        os.write(control, os.fsencode(line.replace("\n", " ")) + b"\n")
    except OSError:
        pass


def watch(child: int, control: int, wake: int) -> None:
    """Pass on signals until the program ends, the babysitter ends, or everything is to be killed."""
    while True:
        ready, _, _ = select.select([control, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            ended, _ = reap(child, control)
            if ended:
                return
        if control in ready:
            try:
                signals = os.read(control, 64)
            except OSError:
                signals = b""
            if not signals or signal.SIGKILL in signals:
                return
            for number in signals:
                signal_group(child, number)


def reap(child: int, control: int) -> tuple[bool, bool]:
    """Collect what has ended; report the program's end. Returns whether that was among it, and whether any is left."""
    ended = False
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        if pid == child:
            ended = True
            say(control, f"exited {os.waitstatus_to_exitcode(status)}")


def signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except OSError:
        pass


def kill_all(child: int, control: int) -> bool:
    """SIGKILL to the group and to all descendants until none is left. Returns whether that succeeded in time."""
    deadline = time.monotonic() + KILL_DEADLINE
    others: set[int] = set()
    if not LINUX:
        others = descendants(os.getpid())
        signal_group(child, signal.SIGKILL)
    while time.monotonic() < deadline:
        # As a subreaper's: whoever loses its parent becomes a child. Only children are killed, because nobody else can
        # collect those, so that a pid read here cannot have been given to a stranger meanwhile.
        for pid in others or children(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        others = set()
        _, left = reap(child, control)
        if not left:
            return True
        time.sleep(KILL_PAUSE)
    return False


def children(parent: int) -> set[int]:
    """The living children of a process."""
    return {pid for pid, its_parent in parents().items() if its_parent == parent}


def descendants(ancestor: int) -> set[int]:
    """The children of a process, their children, and so on."""
    table, found = parents(), {ancestor}
    while new := {pid for pid, parent in table.items() if parent in found} - found:
        found |= new
    return found - {ancestor}


def parents() -> dict[int, int]:
    """Every process and its parent, zombies left out."""
    table = {}
    if LINUX:
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            try:
                with open(entry.path + "/stat", "rb") as file:  # noqa: PTH123  # pathlib costs more than all the rest
                    # pid (name) state parent …: the name may contain anything, brackets and blanks included
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except OSError:
                continue
            if state != b"Z":
                table[int(entry.name)] = int(parent)
    else:
        import subprocess

        listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, timeout=5, check=False).stdout
        for line in listing.splitlines():
            pid, parent = line.split()
            table[int(pid)] = int(parent)
    return table


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
