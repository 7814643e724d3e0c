"""How long to wait before another attempt.

Owns the back-off. May not live here: whether another attempt is made (`machines.exchange`, by the outcome's row).
"""

from __future__ import annotations

from enginehouse.policy.candidates import Chance

#: Longest wait before the first repetition, doubled for each one after it, up to the cap. Seconds.
FIRST = 0.05
CAP = 1.0


def backoff(repetitions: int, chance: Chance) -> float:
    """Seconds to wait before repetition number `repetitions` (1, 2, …); 0 for 0.

    Full jitter: anything up to the bound, so that clients that were rejected together do not come back together
    (M. Brooker, "Exponential Backoff and Jitter", 2015).
    """
    return chance.random() * min(CAP, FIRST * 2 ** (repetitions - 1)) if repetitions else 0.0
