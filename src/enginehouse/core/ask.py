"""What routing needs to know of a request, and nothing else of it.

Owns: `Ask` (the words between `wire`, which finds them in a request, and `policy`, which chooses by them).
May not live here: finding them (`wire.peek`, `wire.multipart`, `wire.paths`).
"""

from __future__ import annotations


class Ask:
    """One request as the policy sees it."""

    __slots__ = ("cache_type", "model", "remembered", "session")

    def __init__(self, model: str = "", session: str = "", remembered: int = -1, cache_type: str = "") -> None:
        self.model = model
        """Model name after aliases; "" where the request names none."""
        self.session = session
        """Affinity key (CONTRACTS 1.2), "" where nothing pins the request."""
        self.remembered = remembered
        """Slot of the service that made the id this request is about; -1 for none."""
        self.cache_type = cache_type
        """Preferred `cache_type` by size, "" where no service carries one or the request has no text."""
