"""`enginehouse top`: the house live, in a terminal; where there is none, the feed's objects, one a line.

Owns the command: the terminal, its keys, the thread that reads the feed. May not live here: what is shown
(`top_screen`), how the feed's objects are put together (`top_state`).
"""

from __future__ import annotations

import json
import os
import queue
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from enginehouse.cli.follow import Lost, NotThere, follow
from enginehouse.cli.parser import Parser
from enginehouse.cli.terminal import wants_colour

if TYPE_CHECKING:
    from enginehouse.cli.top_screen import Chosen
    from enginehouse.cli.top_state import House

FEED: Final = "/dashboard/feed"
#: Objects that wait for the screen; more than that are not read before it has caught up.
MAX_BEHIND: Final = 8
#: Seconds after which the screen is drawn anew though nothing happened: its size may be another one.
REDRAW: Final = 1.0
#: Rows of a page.
PAGE: Final = 10

EPILOG = """Services with their load, rates and times to the first byte, requests under way and those that have just
ended, models, events: the same as the page /dashboard. Keys: q quits, s orders by name, state, load or rate, tab shows
events, requests or models below, p pauses, arrows and page keys scroll.

Where the standard output is no terminal, or with --json: the objects of the router's /dashboard/feed, one a line.

Exit status: 0, or 1 if the router does not answer."""


def top(arguments: list[str]) -> int:
    """The house live: load, rates, first tokens, requests and events."""
    parser = top_parser()
    given = parser.parse_args(arguments)
    objects = follow(given.router, FEED)
    try:
        first = next(objects)
        if isinstance(first, Lost):
            raise NotThere(str(first))
        if given.json or not (sys.stdout.isatty() and sys.stdin.isatty()):
            _print(first, objects, given.count)
        else:
            _Terminal(given.router, objects, given.count).run(first)
    except NotThere as error:
        print(f"{parser.prog}: {error}\nIs the router running? Another address: --router URL.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def top_parser() -> Parser:
    """Options of `top`."""
    parser = Parser("top", top.__doc__, EPILOG)
    parser.add_argument(
        "--router", metavar="URL", default="http://127.0.0.1:8080", help="the router to watch (default: %(default)s)"
    )
    parser.add_argument("--count", metavar="N", type=int, default=0, help="end after N objects, one a second")
    parser.add_argument("--json", action="store_true", help="print JSON on a terminal too")
    return parser


def _print(first: Any, objects: Iterator[Any], count: int) -> None:
    told, printed = first, 0
    while True:
        if isinstance(told, Lost):
            print(f"{told}; trying again", file=sys.stderr, flush=True)
        else:
            print(json.dumps(told), flush=True)
            printed += 1
            if printed == count:
                return
        told = next(objects)


class _Terminal:
    """A terminal, as long as somebody looks."""

    def __init__(self, router: str, objects: Iterator[Any], count: int) -> None:
        from enginehouse.cli.top_screen import Chosen
        from enginehouse.cli.top_state import House

        self._router = router
        self._objects = objects
        self._left = count
        self._house: House = House()
        self._chosen: Chosen = Chosen()
        self._told: queue.Queue[Any] = queue.Queue(MAX_BEHIND)
        self._bell, self._rung = os.pipe()

    def run(self, first: Any) -> None:
        """Until q, Ctrl-C, or so many objects. Raises `NotThere` where the router becomes something else."""
        from rich.console import Console
        from rich.live import Live

        self._house.take(first)
        threading.Thread(target=self._read, name="feed", daemon=True).start()
        console = Console(highlight=False, markup=False, color_system="auto" if wants_colour(sys.stdout) else None)
        with _keys_at_once(), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(self._drawn(console), refresh=True)
                if self._left == 1 or not self._wait():
                    return

    def _read(self) -> None:
        """The thread: everything that comes, and the error that ended it."""
        try:
            for told in self._objects:
                self._told.put(told)
                os.write(self._rung, b"!")
        except NotThere as error:
            self._told.put(error)
            os.write(self._rung, b"!")

    def _drawn(self, console: Any) -> Any:
        from rich.console import Group

        from enginehouse.cli.top_screen import screen

        return Group(*screen(self._house, self._chosen, self._router, console.width, console.height))

    def _wait(self) -> bool:
        """For a key, an object, or a moment. False: it is over."""
        ready, _, _ = select.select([sys.stdin.fileno(), self._bell], [], [], REDRAW)
        if self._bell in ready:
            os.read(self._bell, MAX_BEHIND)
            self._take()
        return self._press(os.read(sys.stdin.fileno(), 64)) if sys.stdin.fileno() in ready else True

    def _take(self) -> None:
        while not self._told.empty():
            told = self._told.get()
            if isinstance(told, NotThere):
                raise told
            if isinstance(told, Lost):
                self._house.lost = str(told)
            elif not self._chosen.paused:
                self._house.take(told)
                self._left = max(1, self._left - 1) if self._left else 0

    def _press(self, keys: bytes) -> bool:
        """What a key does. False: quit."""
        from enginehouse.cli.top_screen import ORDERS, PANES

        chosen = self._chosen
        if keys in (b"q", b"Q", b"\x03", b"\x04", b""):
            return False
        if keys in (b"s", b"S"):
            self._chosen = chosen._replace(order=_after(ORDERS, chosen.order))
        elif keys == b"\t":
            self._chosen = chosen._replace(pane=_after(PANES, chosen.pane))
        elif keys in (b"p", b" "):
            self._chosen = chosen._replace(paused=not chosen.paused)
        elif keys in _STEPS:
            least = min(chosen.first + _STEPS[keys], len(self._house.services) - 1)
            self._chosen = chosen._replace(first=max(0, least))
        return True


#: As terminals send them, and as vi's hands find them.
_STEPS: Final = {
    b"\x1b[A": -1, b"\x1bOA": -1, b"k": -1, b"\x1b[B": 1, b"\x1bOB": 1, b"j": 1, b"\x1b[5~": -PAGE, b"\x1b[6~": PAGE,
    b"\x1b[H": -1_000_000, b"g": -1_000_000, b"\x1b[F": 1_000_000, b"G": 1_000_000,
}  # fmt: skip


def _after(words: tuple[str, ...], word: str) -> str:
    return words[(words.index(word) + 1) % len(words)]


@contextmanager
def _keys_at_once() -> Iterator[None]:
    """Keys come without Enter and are not shown; afterwards the terminal is as it was."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
