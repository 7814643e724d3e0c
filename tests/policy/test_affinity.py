"""Weighted rendezvous hashing: the same key to the same service, everywhere and for long."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.fleet import Service
from enginehouse.policy.affinity import PRIME, digest, home
from tests.policy.fleets import service, services

ROOT = Path(__file__).parents[2]
KEYS = [digest(f"m:prompt_cache:user-{number}") for number in range(6000)]


def names(count: int) -> tuple[Service, ...]:
    return tuple(service(f"engine-{number}-server", number) for number in range(count))


def test_the_home_of_a_key_is_the_same_in_every_process() -> None:
    """Defect: "Consistent" affinity is hash mod n over randomly ordered maps: it differs per process and reshuffles."""
    program = (
        "from enginehouse.policy.affinity import digest, home\n"
        "from tests.policy.test_affinity import names\n"
        "print(''.join(home(digest(str(n)), names(9)).name[7] for n in range(200)))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        ).stdout.strip()
        for seed in ("0", "1", "2")
    }
    assert told == {"".join(home(digest(str(n)), names(9)).name[7] for n in range(200))}
    # Written down once: another version may not send everybody's sessions to other engines.
    assert digest("m:prompt_cache:a") == 1204767366471900640


def test_a_service_that_joins_takes_its_share_and_moves_nothing_else() -> None:
    """Defect: "Consistent" affinity … reshuffles on any change."""
    before, after = names(7), names(8)
    moved = [key for key in KEYS if home(key, before) != home(key, after)]
    assert all(home(key, after).name == "engine-7-server" for key in moved)
    assert abs(len(moved) - len(KEYS) / 8) < len(KEYS) / 8 * 0.2


def test_a_service_that_leaves_moves_its_own_keys_only_and_spreads_them() -> None:
    before = names(8)
    after = tuple(s for s in before if s.name != "engine-3-server")
    moved = [key for key in KEYS if home(key, before).name == "engine-3-server"]
    assert all(home(key, before) is home(key, after) for key in KEYS if key not in set(moved))
    spread = Counter(home(key, after).name for key in moved)
    assert len(spread) == 7
    assert max(spread.values()) < 2 * len(moved) / 7


def test_a_service_whose_weight_grows_only_gains() -> None:
    light = services(1, 1, 1, 1)
    heavy = (*light[:3], service("s3", 3, weight=3))
    for key in KEYS:
        if home(key, light).name != home(key, heavy).name:
            assert home(key, heavy).name == "s3"


def test_keys_are_shared_out_by_weight() -> None:
    members = services(1, 2, 5)
    shares = Counter(home(key, members).name for key in KEYS)
    for name, part in (("s0", 1 / 8), ("s1", 2 / 8), ("s2", 5 / 8)):
        assert abs(shares[name] / len(KEYS) - part) < 0.03


@given(st.text(), st.permutations(services(1, 1, 2, 3, 1)))
def test_the_order_of_the_services_does_not_matter(key: str, members: list[Service]) -> None:
    assert home(digest(key), members) == home(digest(key), services(1, 1, 2, 3, 1))


@given(st.text())
def test_every_text_has_a_digest_even_one_that_is_not_valid_unicode(text: str) -> None:
    assert 0 < digest(text) < PRIME
    assert 0 < digest(text + "\ud800") < PRIME
