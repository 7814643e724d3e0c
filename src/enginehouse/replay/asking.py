"""Requests as OpenAI's clients make them: to whom, and the bytes.

Owns `Target` and the shape of a request. May not live here: connections (`client`), the text in it (`text`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

Message = dict[str, str]
"""`role` and `content`."""

CHAT: Final = "/chat/completions"
COMPLETIONS: Final = "/completions"


class TargetError(Exception):
    """A URL that cannot be asked, and what it should be like."""


class Target(NamedTuple):
    """Where requests go: `prefix` is the path of the API, as `/v1`."""

    host: str
    port: int
    tls: bool
    prefix: str

    @property
    def authority(self) -> str:
        """`host:port` as in a URL, without a port that goes without saying."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def target(url: str) -> Target:
    """The target of `http://host:8080/v1`. Raises `TargetError`."""
    example = "it should be like http://127.0.0.1:8080/v1"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TargetError(f"{url} is no URL ({error}); {example}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise TargetError(f"{url} is no URL of an API; {example}")
    if parts.username is not None or parts.query or parts.fragment:
        raise TargetError(f"the URL of an API ends with its path, and has no password in it; {example}")
    tls = parts.scheme == "https"
    return Target(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/"))


class Asking:
    """Makes the requests of a replay.

    `exact`: with vLLM's `ignore_eos` and `min_tokens`, which SGLang and llama.cpp know or ignore, so that as many
    tokens come as the trace says; OpenAI's own servers refuse them. `session_header`: a header with the number of the
    session. `key` goes into the Authorization header.
    """

    def __init__(
        self, to: Target, model: str, *, api: str = CHAT, exact: bool = True, key: str = "", session_header: str = ""
    ) -> None:
        self.to = to
        self._chat = api == CHAT
        self._session_header = session_header
        self._fields: dict[str, Any] = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
        self._exact = exact
        bearer = f"authorization: Bearer {key}\r\n" if key else ""
        self._head = (
            f"POST {to.prefix}{api} HTTP/1.1\r\nhost: {to.authority}\r\nuser-agent: enginehouse-replay\r\n"
            f"accept: text/event-stream\r\ncontent-type: application/json\r\n{bearer}"
        )

    def request(self, messages: list[Message], answer: int, session: int) -> bytes:
        """Head and body of the request for an answer of that many tokens."""
        body = msgspec.json.encode(
            self._fields
            | ({"messages": messages} if self._chat else {"prompt": "\n".join(each["content"] for each in messages)})
            | {"max_tokens": answer}
            | ({"min_tokens": answer, "ignore_eos": True} if self._exact else {})
        )
        named = f"{self._session_header}: {session}\r\n" if self._session_header else ""
        return f"{self._head}{named}content-length: {len(body)}\r\n\r\n".encode() + body
