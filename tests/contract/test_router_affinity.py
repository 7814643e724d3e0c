"""Requests that belong together, and large ones: affinity by key and by client, size routing, X-Forwarded-For."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tests.contract.router import Router, Sims, engines, running, services, static, until, write

#: For a client that is not on this machine: nobody near is believed.
STRANGERS = "10.9.9.9/32"


def by_key(router: Router, keys: range, model: str = "m") -> dict[int, str]:
    return {key: router.chat(model, prompt_cache_key=f"conversation-{key}").service for key in keys}


def test_a_key_goes_to_the_same_service_in_every_process_and_leaving_moves_only_its_share(
    tmp_path: Path, sims: Sims
) -> None:
    """Defect: "Consistent" affinity is hash mod n over randomly ordered maps.

    It differs per process and reshuffles on any change.
    """
    keys = range(31)  # no multiple of the services: taking turns would not look like affinity
    items = [static(sims[name]) for name in "abc"]
    with running(tmp_path / "one", items, workers=2) as router:
        router.until_healthy("a", "b", "c")
        first = by_key(router, keys)
        assert set(first.values()) == {"a", "b", "c"}
        assert by_key(router, keys) == first
        assert router.chat(prompt_cache_key="k").header("x-enginehouse-reason").split()[0] == "session"
    with running(tmp_path / "two", items[::-1]) as router:
        router.until_healthy("a", "b", "c")
        assert by_key(router, keys) == first
        write(tmp_path / "two" / "static.json", items[:2])
        until(lambda: set(by_key(router, keys).values()) == {"a", "b"}, "c has left")
        moved = {key: name for key, name in by_key(router, keys).items() if name != first[key]}
        assert {first[key] for key in moved} == {"c"}


def test_the_affinity_of_a_key_is_per_model(router: Router) -> None:
    homes = {
        (router.chat("m", prompt_cache_key=str(n)).service, router.chat("x", prompt_cache_key=str(n)).service)
        for n in range(20)
    }
    assert len({first for first, _ in homes}) == 3
    assert any(first != second for first, second in homes if first != "c")


def test_affinity_works_inside_cache_type(tmp_path: Path, sims: Sims) -> None:
    """Defect: `cache_type` disables affinity."""
    items = [
        static(sims[name], metadata={"cache_type": kind})
        for name, kind in zip("abc", ("paged", "paged", "static"), strict=True)
    ]
    with running(tmp_path, items) as router:
        router.until_healthy("a", "b", "c")
        first = by_key(router, range(21))
        assert set(first.values()) == {"a", "b"}
        assert by_key(router, range(21)) == first


def test_a_long_message_prefers_a_static_cache_and_a_short_one_a_paged_one(tmp_path: Path) -> None:
    kinds = {"a": "paged", "b": "static"}
    with (
        engines(a={}, b={}) as sims,
        running(
            tmp_path,
            [static(sim, metadata={"cache_type": kinds[name]}) for name, sim in sims.items()],
            cache_type_routing_threshold=1000,
        ) as router,
    ):
        router.until_healthy("a", "b")

        def sized(count: int, **fields: Any) -> str:
            return router.chat(messages=[{"role": "user", "content": "x" * count}], **fields).service

        assert {sized(1000) for _ in range(4)} == {"a"}
        assert {sized(1001) for _ in range(4)} == {"b"}
        assert {sized(10, tools=[{"type": "function", "schema": "y" * 5000}]) for _ in range(4)} == {"a"}
        sims["b"].kill9()
        assert {sized(1001) for _ in range(4)} == {"a"}, "a preference, not a condition"


def homes(router: Router, headers: dict[str, str]) -> set[str]:
    return set(services([router.chat("m", headers) for _ in range(6)]))


def test_clients_behind_a_believed_proxy_keep_to_a_service_by_address_and_user_agent(router: Router) -> None:
    """Defect: The client's address is neither used nor forwarded."""
    pinned = {n: homes(router, {"x-forwarded-for": f"203.0.113.{n}", "user-agent": "u"}) for n in range(12)}
    assert all(len(names) == 1 for names in pinned.values())
    assert set.union(*pinned.values()) == {"a", "b", "c"}
    agents = {frozenset(homes(router, {"x-forwarded-for": "203.0.113.7", "user-agent": f"u{n}"})) for n in range(12)}
    assert len(agents) == 3
    # the rightmost address that is not a believed proxy counts: what a client wrote before it steers nothing
    for n in range(6):
        spoofed = {"x-forwarded-for": f"198.51.100.{n}, 203.0.113.7, 127.0.0.1", "user-agent": "u"}
        assert homes(router, spoofed) == pinned[7]
    same = "m:ip:" + hashlib.sha256(b"203.0.113.7u").hexdigest()[:16]
    assert len(same) == 21  # the inherited key: the model, and 16 hexadecimal digits


def test_a_bare_peer_address_never_pins(router: Router) -> None:
    assert homes(router, {"user-agent": "u"}) == {"a", "b", "c"}


def test_a_forwarded_address_is_appended_to_for_the_engine_where_it_is_believed(router: Router, sims: Sims) -> None:
    router.chat("other", {"x-forwarded-for": "203.0.113.7"})
    headers = sims["other"].stats()["last"]["headers"]
    assert [value for name, value in headers if name == "x-forwarded-for"] == ["203.0.113.7, 127.0.0.1"]


def test_a_forwarded_address_from_anybody_else_is_replaced_and_pins_nothing(tmp_path: Path, sims: Sims) -> None:
    """Defect: The client's address is neither used nor forwarded.

    Defect: a spoofed X-Forwarded-For steers affinity.
    """
    with running(tmp_path, [static(sims[name]) for name in "abc"], trusted_proxies=STRANGERS) as router:
        router.until_healthy("a", "b", "c")
        assert homes(router, {"x-forwarded-for": "203.0.113.7"}) == {"a", "b", "c"}
        headers = sims["a"].stats()["last"]["headers"]
        assert [value for name, value in headers if name == "x-forwarded-for"] == ["127.0.0.1"]
