"""How many clients a worker can serve with the file descriptors it may have.

Owns raising the limit as far as the process may, and the number of connections that follows. Without that number a
system out of descriptors would close connections that wait to be accepted, and blame engines that cannot be reached.
May not live here: refusing who is too many (`client_conn`).
"""

from __future__ import annotations

import contextlib
import resource
from typing import Final

#: Descriptors of a worker that are no client's and no engine's: libraries, logs, shared memory, control, and some room.
OWN: Final = 64
#: A request takes the client's connection and one to an engine; and clients who are turned away arrive in bursts.
EACH: Final = 3


def raise_limit() -> int | None:
    """Allow this process as many descriptors as it may allow itself; their number, None where there is no limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):  # macOS has a lower limit of its own and refuses a higher one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def connections(wanted: int, limit: int | None) -> int:
    """Client connections that a worker may have: as many as are wanted, or as its descriptors allow."""
    return wanted if limit is None else max(1, min(wanted, (limit - OWN) // EACH))
