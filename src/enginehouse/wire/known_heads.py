"""Heads that repeat are parsed once: the same bytes mean the same, whoever sends them.

An SDK sends the same head with every request but for the length of the body, and an engine answers likewise. Whoever
parsed a head with llhttp may have it learned here; a message that comes whole in one read and has a learned head needs
no parser. What llhttp made of a head is a function of its bytes, and another number in the place of the one
Content-Length changes nothing but the length (RFC 9112 6.3): so finding is exact, never a guess.

Owns: cutting the length out of a head, the bounded table. May not live here: which heads are fit to be learned (the
readers decide: no upgrades, no expectations, no codings), what a head means (`request_head`, `answer_head`).
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

Head = TypeVar("Head")

#: Heads in one table; when it is full it starts anew, which costs each sender one parsing.
MAX_HEADS: Final = 512
#: Bytes of a head that is learned: a table holds 1 MiB at most.
MAX_SIZE: Final = 2048
#: As the common senders write it; other spellings are parsed every time.
_TITLE_CASE: Final = b"\r\nContent-Length: "
_LOWER_CASE: Final = b"\r\ncontent-length: "
_DIGITS: Final = len(_LOWER_CASE)
#: Digits of a length that is looked at; one read never brings more.
_MAX_DIGITS: Final = 9


def _cut(data: bytes) -> tuple[bytes, int]:
    """(head without the digits of its length, where the body starts) of what looks like one whole message.

    That is: a head, and as many bytes as its length says. The key of everything else is empty.
    """
    body = data.find(b"\r\n\r\n") + 4
    if body == 3:
        return b"", 0
    at = data.find(_TITLE_CASE, 0, body)
    if at < 0:
        at = data.find(_LOWER_CASE, 0, body)
        if at < 0:
            return (data, body) if body == len(data) else (b"", 0)
    at += _DIGITS
    end = data.find(b"\r", at)
    digits = data[at:end]
    if end - at > _MAX_DIGITS or not digits.isdigit() or int(digits) != len(data) - body:
        return b"", 0
    return data[:at] + data[end:body], body


class KnownHeads(Generic[Head]):
    """A bounded table of parsed heads by their bytes."""

    __slots__ = ("_heads",)

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}

    def find(self, data: bytes) -> tuple[Head, int] | None:
        """(head, where its body starts) if `data` is one whole message, nothing more, with a head that was learned."""
        key, body = _cut(data)
        head = self._heads.get(key)
        return None if head is None else (head, body)

    def learn(self, data: bytes, body_size: int, head: Head) -> None:
        """llhttp read `data` as one message: this head and a body of `body_size` bytes, framed by its length.

        A head is not learned where that is not how it is cut here.
        """
        key, body = _cut(data)
        if not key or body > MAX_SIZE or body + body_size != len(data):
            return
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
        self._heads[key] = head

    def __len__(self) -> int:
        """Heads in the table."""
        return len(self._heads)
