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

#: Heads in one table, unless it is told otherwise; when it is full it starts anew, which costs each sender one parsing.
MAX_HEADS: Final = 512
#: For each of them as many of which it is known that they came once.
ONCE: Final = 8
#: Bytes of a head that is learned: a table holds 1 MiB at most.
MAX_SIZE: Final = 2048
#: As the common senders write it; other spellings are parsed every time.
_TITLE_CASE: Final = b"\r\nContent-Length: "
_LOWER_CASE: Final = b"\r\ncontent-length: "
_DIGITS: Final = len(_LOWER_CASE)
#: Digits of a length that is looked at; one read never brings more.
MAX_DIGITS: Final = 9


def _cut(data: bytes) -> tuple[bytes, int, int]:
    """Take apart what looks like one whole message: a head, and as many bytes as its length says.

    Returns the head without the digits of its length, where they were (0: there is no length), and where the body
    starts; of everything else the first is empty.
    """
    body = data.find(b"\r\n\r\n") + 4
    if body == 3:
        return b"", 0, 0
    at = data.find(_TITLE_CASE, 0, body)
    if at < 0:
        at = data.find(_LOWER_CASE, 0, body)
        if at < 0:
            return (data, 0, body) if body == len(data) else (b"", 0, 0)
    at += _DIGITS
    end = data.find(b"\r", at)
    digits = data[at:end]
    if end - at > MAX_DIGITS or not digits.isdigit() or int(digits) != len(data) - body:
        return b"", 0, 0
    return data[:at] + data[end:body], at, body


class KnownHeads(Generic[Head]):
    """A bounded table of parsed heads by their bytes. The one found last is tried first: mostly it is the next, too."""

    __slots__ = ("_after", "_before", "_heads", "_last", "_most", "_once")

    def __init__(self, most: int = MAX_HEADS) -> None:
        """`most`: heads in the table."""
        self._most = most
        self._heads: dict[bytes, Head] = {}
        self._once: set[int] = set()
        """Hashes of the heads that were parsed once: most of those never come again, and are not worth keeping."""
        self._last: Head | None = None
        self._before = b""
        self._after = b""

    def find(self, data: bytes) -> tuple[Head | None, int]:
        """(head, where its body starts) if `data` is one whole message, nothing more, with a head that was learned.

        Else None and any number.
        """
        if self._before and data.startswith(self._before):
            start = len(self._before)
            end = data.find(b"\r", start, start + MAX_DIGITS + 1)
            if end > start and data.startswith(self._after, end):
                body = end + len(self._after)
                digits = data[start:end]
                if digits.isdigit() and int(digits) == len(data) - body:
                    return self._last, body
                return None, 0
        return self._look_up(data)

    def _look_up(self, data: bytes) -> tuple[Head | None, int]:
        key, start, body = _cut(data)
        head = self._heads.get(key)
        if head is not None and start:
            self._last = head
            self._before, self._after = key[:start], key[start:]
        return head, body

    def learn(self, data: bytes, body_size: int, head: Head) -> None:
        """llhttp read `data` as one message: this head and a body of `body_size` bytes, framed by its length.

        A head is learned when it comes for the second time; never where that is not how it is cut here.
        """
        key, _, body = _cut(data)
        if not key or body > MAX_SIZE or body + body_size != len(data):
            return
        sight = hash(key)
        if sight not in self._once:
            if len(self._once) >= ONCE * self._most:
                self._once.clear()
            self._once.add(sight)
            return
        if len(self._heads) >= self._most:
            self._heads.clear()
        self._heads[key] = head

    def __len__(self) -> int:
        """Heads in the table."""
        return len(self._heads)
