"""Plays a trace: sends each request when it is due, goes on with sessions, and watches whether it keeps time itself.

Owns the order of a replay, model time against wall time, and the player's own lateness. May not live here: sockets
(`client`), the text (`text`), what the calls amount to (`figures`).

Open loop: a request goes out when the trace says, however many are still running, as users do who know nothing of each
other. Closed loop (`concurrency`): that many sessions run, each followed by the next; the trace's times are not looked
at. What is due later is made ready beforehand, between two looks at the sockets.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from time import perf_counter
from typing import Any, Final

from enginehouse.replay.asking import Asking, Message
from enginehouse.replay.call import Call, Ending
from enginehouse.replay.client import Client
from enginehouse.replay.text import Texts
from enginehouse.replay.traces import Session, Trace

HEAD_START: Final = 0.25
"""Seconds between the beginning and the first request, in which the first ones are made ready."""
AHEAD: Final = 64
"""Requests made ready before they are due."""
MOST_IN_FLIGHT: Final = 8192
"""Requests that run at the same time, at most: what would be more is not sent, and counted as an error."""
LOOK: Final = 0.02
"""Seconds between two looks at how late the loop is."""
LAGS: Final = 1 << 17
"""Such looks that are remembered: the last 44 minutes."""


class _Talk:
    """A session that is being played: what was said so far, and which turn is next."""

    __slots__ = ("messages", "number", "request", "session", "turn")

    def __init__(self, number: int, session: Session) -> None:
        self.number = number
        self.session = session
        self.turn = 0
        self.messages: list[Message] = []
        self.request = b""


class Player:
    """Plays one trace once. `time_scale`: seconds of the trace in a second of the wall clock."""

    def __init__(
        self, trace: Trace, texts: Texts, asking: Asking, *, time_scale: float = 1.0, concurrency: int = 0
    ) -> None:
        self.trace = trace
        self._texts = texts
        self._asking = asking
        self._scale = time_scale
        self._concurrency = concurrency
        self._plan: Iterator[tuple[int, Session]] = enumerate(trace.sessions)
        self._ready: deque[_Talk] = deque()
        self._later: list[tuple[float, int, _Talk]] = []
        """Next turns of sessions: when they are due, and whose they are."""
        self._talks: dict[Call, _Talk] = {}
        self.calls: list[Call] = []
        self.lags: deque[float] = deque(maxlen=LAGS)
        """Seconds by which the loop was late, each time it was looked at."""
        self.began = self.ended = 0.0
        self._client: Client
        self._over: asyncio.Future[None]
        self._timer: asyncio.Handle | None = None
        self._looker: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def in_flight(self) -> int:
        """Calls that run now."""
        return len(self._talks)

    async def play(self, client: Client) -> None:
        """Play it to its end, or until `stop`. `calls` has every call made, `began` and `ended` say when."""
        loop = asyncio.get_running_loop()
        self._client = client
        client.ended = self._ended
        self._over = loop.create_future()
        loop.set_exception_handler(self._failed)  # without it a defect would have us wait for ever
        self.began = perf_counter() + HEAD_START
        self._look(loop, perf_counter())
        self._go_on(loop)
        try:
            await self._over
        finally:
            loop.set_exception_handler(None)
            self._stopped = True
            self._cancel()
            self.ended = perf_counter()
            await client.close()  # which ends what still runs

    def stop(self) -> None:
        """Send nothing more; what runs is left unfinished."""
        self._stopped = True
        self._cancel()
        if not self._over.done():
            self._over.set_result(None)

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        if not self._over.done():
            self._over.set_exception(context.get("exception") or RuntimeError(context["message"]))

    def _cancel(self) -> None:
        for handle in (self._timer, self._looker):
            if handle:
                handle.cancel()

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send what is due, make one more ready, and come again when there is more to do."""
        self._timer = None
        due = self._send()
        if self._stopped:
            return
        if not due:
            if not self._talks and not self._over.done():
                self._over.set_result(None)
            return
        rest = due - perf_counter()
        self._come_again(loop, 0.0 if rest > 0.002 and self._make_ready() else rest)

    def _come_again(self, loop: asyncio.AbstractEventLoop, after: float) -> None:
        """Have `_go_on` called after so many seconds, and not before that for another reason."""
        if self._timer:
            self._timer.cancel()
        call = loop.call_later(after, self._go_on, loop) if after > 0 else loop.call_soon(self._go_on, loop)
        self._timer = call

    def _send(self) -> float:
        """Send all that is due. Returns when the next is; 0 where nothing is known to come."""
        while not self._stopped:
            now = perf_counter() + 0.0005  # timers count whole milliseconds
            fresh = self._next_fresh()
            if self._later and (not fresh or self._later[0][0] < fresh):
                if self._later[0][0] > now:
                    return self._later[0][0]
                due, _, talk = heappop(self._later)
                self._ask(talk, due)
            elif fresh:
                if fresh > now:
                    return fresh
                self._ask(self._ready.popleft(), fresh)
            else:
                return 0.0
        return 0.0

    def _next_fresh(self) -> float:
        """When the next session is to begin; 0 where none is, or where another has to end first."""
        if not self._ready and not self._make_ready():
            return 0.0
        if self._concurrency:
            running = len(self._talks) + len(self._later)
            return max(self.began, perf_counter()) if running < self._concurrency else 0.0
        return self.began + self._ready[0].session.at / self._scale

    def _make_ready(self) -> bool:
        """Make one more session ready. False where enough are, or all have been."""
        if len(self._ready) >= AHEAD:
            return False
        for number, session in self._plan:
            talk = _Talk(number, session)
            self._write(talk)
            self._ready.append(talk)
            return True
        return False

    def _write(self, talk: _Talk) -> None:
        """The request of its next turn."""
        turn = talk.session.turns[talk.turn]
        talk.messages.append({"role": "user", "content": self._texts.prompt(turn.tokens, turn.blocks)})
        talk.request = self._asking.request(talk.messages, turn.answer, talk.number)

    def _ask(self, talk: _Talk, due: float) -> None:
        goes_on = talk.turn + 1 < len(talk.session.turns)
        call = Call(talk.number, talk.session.turns[talk.turn], due, keeps=goes_on)
        self.calls.append(call)
        self._talks[call] = talk
        request, talk.request = talk.request, b""
        if len(self._talks) > MOST_IN_FLIGHT:
            call.over(Ending.NOT_SENT, perf_counter(), f"{MOST_IN_FLIGHT} in flight")
            self._ended(call)
        else:
            self._client.ask(call, request)

    def _ended(self, call: Call) -> None:
        """A call is over: its session goes on, or the next one may begin."""
        talk = self._talks.pop(call)
        talk.turn += 1
        if self._stopped:
            return
        if call.ending is Ending.ANSWERED and talk.turn < len(talk.session.turns):
            talk.messages.append({"role": "assistant", "content": call.text()})
            self._write(talk)
            due = call.end + talk.session.turns[talk.turn].delay / self._scale
            heappush(self._later, (due, talk.number, talk))
        self._come_again(asyncio.get_running_loop(), 0.0)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """See how late this comes: so late are answers read, too."""
        now = perf_counter()
        self.lags.append(max(0.0, now - due))
        self._looker = loop.call_later(LOOK, self._look, loop, now + LOOK)
