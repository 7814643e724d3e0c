"""A proof of having a token: good for one thing, for a while, and never the token."""

from __future__ import annotations

import pytest

from enginehouse.core.proof import GOOD_FOR, logs_of, proof, proves

TOKEN, WHAT, NOW = "a-token-of-some-length", logs_of("chat-server", 9000), 1_000_000.5


def test_who_has_the_token_proves_it_without_sending_it() -> None:
    made = proof(TOKEN, WHAT, NOW)
    assert TOKEN not in made
    assert proves(made, TOKEN, WHAT, NOW)
    assert proves(f"Bearer {TOKEN}", TOKEN, WHAT, NOW)


@pytest.mark.parametrize("late", [-GOOD_FOR - 2, GOOD_FOR + 2])
def test_a_proof_is_good_for_a_while_only(late: float) -> None:
    made = proof(TOKEN, WHAT, NOW)
    assert proves(made, TOKEN, WHAT, NOW + late * 0.9)
    assert not proves(made, TOKEN, WHAT, NOW + late)


@pytest.mark.parametrize("what", [logs_of("chat-server", 9001), logs_of("chat", 9000), ""])
def test_what_was_sent_to_one_babysitter_opens_no_other(what: str) -> None:
    assert not proves(proof(TOKEN, what, NOW), TOKEN, WHAT, NOW)


@pytest.mark.parametrize("given", ["", "Bearer ", "Bearer x", TOKEN, "Enginehouse-Proof 1-", "Bearer \udcff"])
def test_anything_else_is_none(given: str) -> None:
    assert not proves(given, TOKEN, WHAT, NOW)
    assert not proves(proof("another", WHAT, NOW), TOKEN, WHAT, NOW)


def test_where_there_is_no_token_nothing_is_one() -> None:
    assert not proves("Bearer ", "", WHAT, NOW)
    assert not proves(proof("", WHAT, NOW), "", WHAT, NOW)
