"""Prompts for tests of the policy: made of numbers instead of text, no two of which meet at one place of a table.

Owns the makers. May not live here: tests.
"""

from __future__ import annotations

from enginehouse.core.ask import Prompt
from enginehouse.core.shared import CHUNKS
from enginehouse.policy.chunks import ENDS

#: Chunks of one text, at most.
LONGEST = 40


def said(text: int, chunks: int = 8, common: int = 0, tail: int = 0) -> Prompt:
    """The first `chunks` of text number `text`, of which the first `common` are those of text 0; `tail` bytes more."""
    hashes = [digest(0 if number < common else text, number) for number in range(chunks)]
    return Prompt((ENDS[chunks - 1] if chunks else 0) + tail, hashes, ENDS)


def digest(text: int, number: int) -> int:
    """Hash of a chunk; up to 200 texts have places of their own."""
    place = text * LONGEST + number
    assert place < CHUNKS
    return (place + 1) << 41 | place


def colliding(digest: int) -> int:
    """Hash of another chunk that has the same place."""
    return digest ^ 1 << 60
