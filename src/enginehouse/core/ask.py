"""What routing needs to know of a request, and nothing else of it.

Owns: `Ask` (the words between `wire`, which finds them in a request, and `policy`, which chooses by them).
May not live here: finding them (`wire.peek`, `wire.multipart`, `wire.paths`).
"""

from __future__ import annotations

import msgspec


class Ask(msgspec.Struct):
    """One request as the policy sees it."""

    model: str = ""
    """Model name after aliases; "" where the request names none."""
    session: str = ""
    """Affinity key (CONTRACTS 1.2), "" where nothing pins the request."""
    remembered: int = -1
    """Slot of the service that made the id this request is about; -1 for none."""
    cache_type: str = ""
    """Preferred `cache_type` by size, "" where no service carries one or the request has no text."""
