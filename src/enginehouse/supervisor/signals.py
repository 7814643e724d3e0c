"""Waiting for signals, descriptors and time in one place, with the standard library.

Owns: `Waiter`: a selector woken by signals. May not live here: what is done on a signal.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
from collections.abc import Callable
from typing import Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Waiter:
    """Sleeps until a signal, a readable descriptor or a time.

    `stop_asked` turns true on SIGTERM and SIGINT, `reopen_asked` on SIGUSR1: log files were moved away, `reload_asked`
    on SIGHUP: read the settings again. Where SIGHUP says that the terminal is gone, it is a stop.
    """

    def __init__(self) -> None:
        self.stop_asked = False
        self.reopen_asked = False
        self.reload_asked = False
        self._has_terminal = _has_terminal()
        self._selector = selectors.DefaultSelector()
        self._wake, wake_write = socket.socketpair()
        self._wake_write = wake_write
        for end in (self._wake, wake_write):
            end.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._wake, selectors.EVENT_READ, self._drain)
        self._before = {number: signal.signal(number, self._on_stop) for number in STOP_SIGNALS}
        self._before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._on_reopen)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._on_hangup)
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)  # only to be woken

    def _on_stop(self, number: int, frame: object) -> None:
        self.stop_asked = True

    def _on_reopen(self, number: int, frame: object) -> None:
        self.reopen_asked = True

    def _on_hangup(self, number: int, frame: object) -> None:
        if self._has_terminal and not _has_terminal() and self._before[signal.SIGHUP] is not signal.SIG_IGN:
            self.stop_asked = True
        else:
            self.reload_asked = True

    def _drain(self) -> None:
        try:
            while self._wake.recv(4096):
                pass
        except BlockingIOError:
            return

    def watch(self, end: socket.socket | int, action: Callable[[], None]) -> None:
        """Call `action` whenever `end` is readable."""
        self._selector.register(end, selectors.EVENT_READ, action)

    def forget(self, end: socket.socket | int) -> None:
        """Watch it no more."""
        self._selector.unregister(end)

    def wait(self, seconds: float) -> None:
        """Sleep for at most `seconds`, less if anything happens."""
        for key, _ in self._selector.select(seconds):
            key.data()

    def close(self) -> None:
        """Give back the descriptors and the signals."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake.close()
        self._wake_write.close()


def _has_terminal() -> bool:
    """Whether there is a terminal that started us and that could go away."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
