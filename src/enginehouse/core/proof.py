"""Showing that one has a token without sending it: to a babysitter, of which anybody may have told where it is.

Owns making such a proof and judging one. May not live here: reading tokens, clocks (`now` is an argument, Unix
seconds), HTTP.
"""

from __future__ import annotations

import hmac
import re
from typing import Final

#: A proof is good for so long, before and after: clocks of different machines differ. Seconds.
GOOD_FOR: Final = 300
SCHEME: Final = "Enginehouse-Proof"

_GIVEN: Final = re.compile(SCHEME + r" ([0-9]{1,15})-([0-9a-f]{64})")


def proof(token: str, what: str, now: float) -> str:
    """The value of `Authorization` that shows `what` is asked for by who has the token."""
    at = int(now)
    return f"{SCHEME} {at}-{_digest(token, what, at)}"


def proves(given: str, token: str, what: str, now: float) -> bool:
    """Is this value of `Authorization` such a proof, or the token itself?"""
    if not token:
        return False
    if (match := _GIVEN.fullmatch(given)) is None:
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), f"Bearer {token}".encode())
    at = int(match[1])
    return hmac.compare_digest(match[2], _digest(token, what, at)) and abs(now - at) <= GOOD_FOR


def logs_of(service: str, port: int) -> str:
    """What is asked for: the output of the engine registered under this name, at this port. So what was sent to one
    babysitter opens no other."""
    return f"logs of {service} at {port}"


def _digest(token: str, what: str, at: int) -> str:
    return hmac.digest(token.encode(), f"{what} {at}".encode(), "sha256").hex()
