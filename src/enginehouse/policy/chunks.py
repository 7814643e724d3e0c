"""The beginnings of a prompt as numbers: a chain of hashes over its bytes, no tokenizer needed.

Owns where chunks end and how they are hashed; both are the same in every process, on every host and in every version.
May not live here: where the prompt stands in a body (`wire.prompt`), what is remembered of it (`prefix_index`).
"""

from __future__ import annotations

from typing import Final

from xxhash import xxh3_64_intdigest

from enginehouse.core.ask import Prompt
from enginehouse.core.units import KIB

#: Ends of the chunks in bytes: close together where prompts differ in what their makers put first, far apart where most
#: of what follows is one conversation. 544 KiB is a prompt of 136,000 tokens; what comes behind is not looked at.
ENDS: Final = (
    *range(KIB, 9 * KIB, KIB),
    *range(12 * KIB, 129 * KIB, 4 * KIB),
    *range(144 * KIB, 545 * KIB, 16 * KIB),
)
#: Most chunks of a prompt.
MOST: Final = len(ENDS)


def seed_of(model: str) -> int:
    """What a model's prompts are hashed onto, so that the same text for another model is another prompt.

    `model`: its name, and that of the adapter if there is one.
    """
    return xxh3_64_intdigest(model.encode("utf-8", "surrogatepass")) >> 2


def chunks(view: bytes | memoryview, seed: int) -> list[int]:
    """Hashes of everything up to each of `ENDS` that lies within; the last piece, if it is not whole, has none.

    62 bits each: numbers that fit in a machine word however they are held.
    """
    size = len(view)
    found: list[int] = []
    whole = memoryview(view)
    start = 0
    for end in ENDS:
        if end > size:
            break
        seed = xxh3_64_intdigest(whole[start:end], seed) >> 2
        found.append(seed)
        start = end
    return found


def prompt_of(view: bytes | memoryview, seed: int) -> Prompt:
    """A prompt whose bytes are these."""
    return Prompt(len(view), chunks(view, seed), ENDS)
