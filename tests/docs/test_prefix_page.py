"""The page about prefixes and its pictures: their numbers are those of the policy."""

from __future__ import annotations

import re
from pathlib import Path

from enginehouse.core.shared import CHUNKS
from enginehouse.core.units import KIB
from enginehouse.policy.chunks import ENDS
from enginehouse.policy.prefix import FULL, NEAR, NEAR_PART, PER_REQUEST, PIN, STEP_TOKENS, cost_of
from enginehouse.policy.prefix_index import KV_TOKENS, RATE, RENEW, SPAN, TOKEN_BYTES, uncached

DOCS = Path(__file__).parents[2] / "docs"
PAGE = re.sub(r"\s+", " ", (DOCS / "explanation" / "prefix.md").read_text())
SIZE = 26 * KIB
#: Service → bytes of the prompt in the pictures that are warm there.
WARM = {"a": 20 * KIB, "b": 8 * KIB, "c": 0}
TOKENS = {name: uncached(SIZE, warm, TOKEN_BYTES) for name, warm in WARM.items()}
#: Service → (tokens queued, requests in flight, tokens of their prompts), for each scene of the second picture.
SCENES = [
    {"a": (0, 0, 0), "b": (0, 0, 0), "c": (0, 0, 0)},
    {"a": (5000, 7, 40_000), "b": (0, 0, 0), "c": (0, 0, 0)},
    {"a": (1500, 2, 16_000), "b": (1000, 3, 20_000), "c": (0, 2, 8000)},
]


def words(picture: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", (DOCS / "pictures" / picture).read_text())


def test_the_picture_of_chunks_has_the_chunks_and_tokens_of_the_policy() -> None:
    ends = [end for end in ENDS if end <= SIZE]
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert sizes == [KIB] * 8 + [4 * KIB] * 4
    assert words("prefix-chunks.svg").count("4 KiB") == 4
    told = [re.search(r"([\d,]+) tokens", line) for line in words("prefix-chunks.svg")]
    assert [int(found[1].replace(",", "")) for found in told if found] == list(TOKENS.values())


def test_the_picture_of_costs_has_the_costs_of_the_policy_and_its_choices() -> None:
    told = [line for line in words("prefix-cost.svg") if line.split(":")[0].endswith(" ms")]
    expected = []
    for scene in SCENES:
        costs = [
            1000 * cost_of(TOKENS[name], queued, running, held / KV_TOKENS, RATE)
            for name, (queued, running, held) in scene.items()
        ]
        expected += [f"{cost:.0f} ms" + (": gets it" if cost == min(costs) else "") for cost in costs]
    assert told == expected


def test_the_numbers_on_the_page_are_those_of_the_policy() -> None:
    assert f"({PER_REQUEST:.3f} · in flight + {FULL:g} · held / cache) · (1 + uncached / {STEP_TOKENS:.0f})" in PAGE
    assert f"in a second; {RATE:,.0f} at first" in PAGE
    assert f"| bytes per token | {TOKEN_BYTES:g} at first" in PAGE
    assert f"{KV_TOKENS:,} tokens are assumed" in PAGE
    assert f"{CHUNKS} places of 8 bytes: **{CHUNKS * 8 // KIB} KiB for each service**" in PAGE
    assert f"Costs within {1000 * NEAR:g} ms + {NEAR_PART:.0%}".replace("%", " %") in PAGE
    assert PIN == 1.0
    assert "more than one second more" in PAGE
    quiet = [round(1000 * cost_of(TOKENS[name], 0, 0, 0.0, RATE)) for name in "ba"]
    assert f"{quiet[0]} − {quiet[1]} = {quiet[0] - quiet[1]} ms" in PAGE
    steps = [ENDS[at] - ENDS[at - 1] for at in range(1, len(ENDS))]
    assert (ENDS[steps.index(4 * KIB)], ENDS[steps.index(16 * KIB)], ENDS[-1]) == (8 * KIB, 128 * KIB, 544 * KIB)


def test_the_picture_of_the_clock_has_its_span_and_the_part_that_is_young() -> None:
    assert f"warm for one span: {SPAN:g} × what the KV cache holds" in words("prefix-clock.svg")
    assert RENEW == 1 / 3
    assert "warm for certain" in " ".join(words("prefix-clock.svg"))
