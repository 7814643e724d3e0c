"""Who may act through the dashboard: whoever holds the token, from the router's own pages or from no page at all.

Owns the token and the three questions put to a request: are actions allowed at all, did another site's page send it,
does it carry the token. May not live here: what is done then (`actions`), reading the token's file.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

_NOT_ALLOWED: Final = "This router takes no actions. To allow them, name a file with a token in `admin_token_file`."
_FOREIGN: Final = "Another site's page has sent this. Only the router's own pages may."
_WRONG: Final = "This takes the token of `admin_token_file`: send it as `Authorization: Bearer TOKEN`."


class Guard:
    """`token`: "" allows nothing."""

    def __init__(self, token: str) -> None:
        self.token = token
        self._expected = f"Bearer {token}".encode() if token else b""

    @property
    def allows_actions(self) -> bool:
        """Is there a token at all?"""
        return bool(self._expected)

    def refusal(self, headers: Mapping[str, str]) -> tuple[int, str, str] | None:
        """Why a request with these headers (names in lower case) may not: status, code, text. None: it may."""
        if not self._expected:
            return 403, "actions_not_allowed", _NOT_ALLOWED
        if _is_foreign(headers):
            return 403, "cross_origin", _FOREIGN
        # Compared in constant time: how long it takes must not tell how much of a guess was right.
        if not hmac.compare_digest(headers.get("authorization", "").encode(), self._expected):
            return 401, "invalid_admin_token", _WRONG
        return None


def _is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether a browser sent it for a page that is not the router's.

    Browsers say so themselves (Fetch Metadata), but only to https and to localhost; elsewhere they name the page's
    origin in every POST. Programs send neither, and nobody can make them send the token.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site != "same-origin"
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
