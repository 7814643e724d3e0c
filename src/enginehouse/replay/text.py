"""The text that blocks stand for: the same words for the same number, everywhere and always.

Owns the words. May not live here: which blocks are asked for (`traces`), and the shape of a request (`asking`).

A block of 512 tokens is 2 KiB: 4 bytes a token, as engines without a tokenizer count and as English has nearly. Text is
plain ASCII without anything that JSON escapes. Two blocks differ from their first bytes on, which name their number.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from enginehouse.replay.traces import BLOCK_TOKENS

BYTES_PER_TOKEN: Final = 4.0
CACHED: Final = 16 << 20
"""Bytes of blocks that are remembered; others are made again."""
SENTENCES: Final = 256

_VOCABULARY: Final = """
    about above across after again all along also although among answer any around ask at back be because before
    began below between big book both bridge bring but by call came change city clear close cold come could
    country course cover cross dark day deep different do door down draw each early earth east end engine enough
    even every example far farm fast father few field find fire first follow food for form found four friend from
    garden give good great green grow half hand hard have head hear heart help here high hold home hot hour house
    how hundred idea if in inch island it keep kind know land large last late learn leave left letter life light
    like line list little live long look made make many map mark measure men might mile mind moon more morning
    most mother mountain move much music name near need never new next night north note nothing notice now number
    of off often old on once one only open or order other our out over own page paper part pass pattern people
    picture piece place plain plan plant point power press question quick rain ran reach read ready real red
    remember rest right river road rock room round rule run sail same say school sea second see seem sentence set
    several shape ship short should show side simple since sing sit six slow small snow so some song soon sound
    south stand star start state stay step still stone stood stop story street strong study such summer sun sure
    table take talk teach tell ten test than thank that the their then there these they thing think this those
    thought three through time to together too top town travel tree true turn two under until up upon us use very
    voice wait walk wall want warm watch water way we week well went were west what wheel when where which while
    white who whole why will wind window winter with without wonder wood word work world would write year yes yet
    you young your
"""
_WORDS: Final = _VOCABULARY.split()


def _sentences() -> tuple[bytes, ...]:
    """Sentences of about 60 bytes: blocks are made of these, which costs less than of words one by one."""
    return tuple(_sentence(number) for number in range(SENTENCES))


def _sentence(number: int) -> bytes:
    chance = blake2b(b"sentence %d" % number).digest()  # not `random`, whose choices may change with Python's version
    words: list[str] = []
    while sum(map(len, words)) + len(words) < 56:
        at = 2 * len(words)
        words.append(_WORDS[int.from_bytes(chance[at : at + 2]) % len(_WORDS)])
    return f"{' '.join(words).capitalize()}. ".encode()


class Texts:
    """Makes blocks and prompts. `salt` changes all of them, for a run that finds nothing in any cache."""

    def __init__(
        self, block_tokens: int = BLOCK_TOKENS, bytes_per_token: float = BYTES_PER_TOKEN, salt: str = ""
    ) -> None:
        self._bytes_per_token = bytes_per_token
        self._size = round(block_tokens * bytes_per_token)
        self._salt = salt
        self._sentences = _sentences()
        self._least = min(map(len, self._sentences))
        self._known: OrderedDict[int, str] = OrderedDict()
        self._room = max(1, CACHED // max(self._size, 1))

    def block(self, number: int) -> str:
        """The text of a block, always as many bytes as a block has."""
        known = self._known
        if (text := known.get(number)) is not None:
            known.move_to_end(number)
            return text
        text = known[number] = self._made(number)
        if len(known) > self._room:
            known.popitem(last=False)
        return text

    def prompt(self, tokens: int, blocks: Sequence[int]) -> str:
        """The text of a turn: its blocks, cut to its length."""
        return "".join(map(self.block, blocks))[: max(1, round(tokens * self._bytes_per_token))]

    def _made(self, number: int) -> str:
        begin = f"{self._salt}{number:x}. ".encode()
        count = self._size // self._least + 1
        chosen = b""
        while len(chosen) < count:
            chosen += blake2b(b"%d %d " % (number, len(chosen)) + self._salt.encode()).digest()
        body = b"".join([begin, *map(self._sentences.__getitem__, chosen[:count])])
        return body[: self._size].decode()
