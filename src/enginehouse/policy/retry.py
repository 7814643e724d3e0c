"""Whether another attempt is made, where, and after how long: the one rule, read off the outcome table.

Owns `again`, the budget that keeps repetitions a share of the traffic, and the back-off. May not live here: carrying it
out (`machines.exchange`), clocks (the worker turns the windows).
"""

from __future__ import annotations

from typing import Final

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.outcome import Outcome, Retry
from enginehouse.policy.candidates import Chance

#: Longest wait before the first repetition, doubled for each one after it, up to the cap. Seconds.
FIRST = 0.05
CAP = 1.0
#: A request that broke this many services is answered, not tried on one more.
MAX_BROKEN: Final = 2
#: Repetitions that a window allows whatever the traffic: an engine may die with 256 requests in work (vLLM's default)
#: and as many waiting.
RESERVE: Final = 512
#: Second attempts made out of impatience (hedging) that a window allows whatever the traffic.
HEDGE_RESERVE: Final = 10
#: Length of a window of the budget. Seconds.
WINDOW: Final = 10.0

# Members of an enumeration are looked up by name each time; these are on the way of every request that fails.
_NO: Final = Retry.NO
_FRESH: Final = Retry.FRESH
_ELSEWHERE: Final = Retry.ELSEWHERE
#: Nothing was sent: the engines had no work with it, so it cannot amplify an outage.
_FREE: Final = frozenset((Outcome.CONNECT_FAILED, Outcome.CONNECT_TIMEOUT))


class Retries:
    """The rule with its settings, and what one worker has spent of the budget in this window and the one before."""

    __slots__ = (
        "_at",
        "_before",
        "_hedge_share",
        "_share",
        "_timeouts",
        "hedged",
        "max_attempts",
        "repeated",
        "requests",
    )

    def __init__(self, config: RouterConfig) -> None:
        self.max_attempts = config.max_attempts
        self._timeouts = config.retry_timeouts
        self._share = config.retry_budget
        self._hedge_share = config.hedge_budget
        self._at = 0.0
        self._before = (0, 0, 0)
        self.requests = 0
        """First attempts in this window; counted by whoever makes them."""
        self.repeated = 0
        self.hedged = 0

    def turn(self, now: float) -> None:
        """Called a few times a second: begins a new window when it is time."""
        if now - self._at >= WINDOW:
            self._at = now
            self._before = self.requests, self.repeated, self.hedged
            self.requests = self.repeated = self.hedged = 0

    def again(self, outcome: Outcome, reused: bool, broken: int) -> Retry:
        """Where to go after an attempt that ended so before a byte reached the client.

        `reused`: its connection had been used before; `broken`: services that broke off at this request, it included.
        """
        retry = outcome.row.retry
        if retry is _FRESH:
            if reused:
                # The engine may have closed an idle connection just as we used it: not its fault, nobody saw a byte.
                return _FRESH
            retry = _ELSEWHERE if broken < MAX_BROKEN else _NO
        elif outcome is Outcome.FIRST_BYTE_TIMEOUT and self._timeouts:
            retry = _ELSEWHERE
        if retry is _ELSEWHERE and outcome not in _FREE:
            requests, repeated, _ = self._before
            if self.repeated + repeated >= RESERVE + self._share * (self.requests + requests):
                return _NO
        return retry

    def book(self, outcome: Outcome) -> None:
        """Another attempt is made after one that ended so."""
        if outcome not in _FREE:
            self.repeated += 1

    def hedge(self) -> bool:
        """May a second attempt be made because the first is slow? Books it if so."""
        requests, _, hedged = self._before
        if self.hedged + hedged >= HEDGE_RESERVE + self._hedge_share * (self.requests + requests):
            return False
        self.hedged += 1
        return True


def backoff(repetitions: int, chance: Chance) -> float:
    """Seconds to wait before repetition number `repetitions` (1, 2, …); 0 for 0.

    Full jitter: anything up to the bound, so that clients that were rejected together do not come back together
    (M. Brooker, "Exponential Backoff and Jitter", 2015).
    """
    return chance.random() * min(CAP, FIRST * 2 ** (repetitions - 1)) if repetitions else 0.0
