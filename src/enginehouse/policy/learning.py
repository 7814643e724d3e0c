"""What the figures of a service become after one more answer: small steps towards what was seen.

Owns how fast and how far each is learned. May not live here: where they stand (`core.shared`), when an answer is worth
learning from (`prefix_index`).
"""

from __future__ import annotations

from typing import Final

#: Part of the way that a figure goes towards what was just seen.
STEP: Final = 0.1
#: Less than so many tokens are computed in hardly more time than the engine takes for anything: they show no rate.
LEAST_TOKENS: Final = 1000
#: Bounds of what is believed: tokens a second (a CPU with a small model … several accelerators), bytes for each token.
#: Each bound by itself: mypyc 2.4 does not set a constant that is a tuple of floats.
LEAST_RATE: Final = 20.0
MOST_RATE: Final = 1_000_000.0
LEAST_BYTES: Final = 0.5
MOST_BYTES: Final = 32.0
#: The same for what a service keeps, upwards and downwards. Believing too much costs little: who comes back to where he
#: was finds at worst nothing, as anywhere else. And what is no longer believed to be warm is hardly ever tried again.
MORE: Final = 0.2
LESS: Final = 0.01
#: How far from what its KV cache should hold a service may be.
LEAST_ROOM: Final = 1.0 / 16.0
MOST_ROOM: Final = 4.0
#: Part of a prompt that must have been expected to be warm for its absence to be strange.
EXPECTED: Final = 0.5


def rate_after(rate: float, uncached: int, seconds: float) -> float:
    """Tokens a second, after so many were computed in so long by an engine that had nothing else to do."""
    if uncached < LEAST_TOKENS or seconds <= 0:
        return rate
    seen = min(max(uncached / seconds, LEAST_RATE), MOST_RATE)
    return rate + STEP * (seen - rate)


def token_bytes_after(token_bytes: float, size: int, tokens: int) -> float:
    """Bytes for each token, after a prompt of `size` bytes had so many tokens.

    Short prompts are mostly what their template adds, and matter little: they teach in proportion.
    """
    seen = min(max(size / tokens, LEAST_BYTES), MOST_BYTES)
    return token_bytes + STEP * min(1.0, tokens / LEAST_TOKENS) * (seen - token_bytes)


def room_after(room: float, age: float, warm: bool) -> float:
    """How much a service keeps, after a chunk of this `age` (in spans) was found warm or not.

    Only what contradicts teaches: a chunk warm beyond the span, or not warm within it.
    """
    if warm == (age < 1.0):
        return room
    step = MORE if warm else LESS
    return min(max(room * (1.0 + step * (min(age, 2.0) - 1.0)), LEAST_ROOM), MOST_ROOM)


def doubtful(share: float, expected: float) -> bool:
    """Was nothing warm, though most of the prompt should have been?"""
    return share <= 0.0 and expected > EXPECTED
