"""One service in detail: how it stands, what its probes found, how its last requests ended, what its babysitter says.

Owns `Details`: `GET /dashboard/service/NAME`. May not live here: HTTP (`live_api`), asking babysitters
(`babysitters`).
"""

from __future__ import annotations

from typing import Any

from enginehouse.control.babysitters import Babysitters
from enginehouse.control.live import Live
from enginehouse.control.roster import Roster
from enginehouse.control.views import Views


class Details:
    """Of one house."""

    def __init__(self, roster: Roster, views: Views, live: Live, babysitters: Babysitters) -> None:
        self._roster = roster
        self._views = views
        self._live = live
        self._babysitters = babysitters

    async def of(self, name: str, token: str) -> dict[str, Any] | None:
        """`service` as in `/services`, `details` as in `/stats`, `recent` as in the feed (as far as somebody watched),
        `probes` newest first, `babysitter` (null: it has none), `log`: what the engine printed last, for who has the
        token (null for ""). None: there is no such service."""
        entry = self._roster.entries.get(name)
        if entry is None:
            return None
        return {
            "service": self._views.service(entry),
            "details": self._views.details(entry),
            "recent": self._live.recent(name),
            "probes": list(reversed(entry.probes)),
            "babysitter": await self._babysitters.told(entry),
            "log": await self._babysitters.lines(entry, token) if token else None,
        }
