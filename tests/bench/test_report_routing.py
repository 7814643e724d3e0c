"""The page about routing, its verdicts and pictures, from invented results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from bench.report import routing, routing_pictures, routing_readme
from bench.report.results import Results, parse
from bench.report.routing_verdicts import judge
from bench.report.verdicts import Held

SEEDS = range(1, 6)


def match(case: str, contestant: str, seed: int, mean: float, **changes: Any) -> dict[str, Any]:
    figures = {"ttft_mean": mean, "ttft_p50": mean / 2, "ttft_p90": 2 * mean, "ttft_p99": 5 * mean, "tpot_mean": 0.02}
    figures |= {"good": 0.9, "hit": 0.13, "rejected": 0, "errors": 0, "router_us": 900.0, "busy": 0.3}
    row = {"case": case, "contestant": contestant, "run": seed, "load": case.split(" x")[0].split(",")[0], "rate": 3.0}
    return {**row, **figures, "client_late_share": 0.01, **changes}


def contest() -> Iterator[dict[str, Any]]:
    """Ours needs 0.6 s everywhere, and 0.62 s with two workers; sglang-router does better when tuned."""
    for seed in SEEDS:
        for case in ("conversation", "agents", "hot", "chats"):
            for contestant, mean in (
                ("prefix", 0.6),
                ("least_load", 2.0),
                ("sglang-router", 1.2),
                ("sglang-router-tuned", 1.0),
                ("vllm-router", 0.8),
            ):
                yield match(case, contestant, seed, mean + seed / 1000)
        yield match("conversation, 2 workers", "prefix", seed, 0.62 + seed / 1000, load="conversation")
    yield match("conversation x2.2", "prefix", 1, 0.4, rate=2.2)
    yield match("conversation x2.2", "nginx", 1, 0.7, rate=2.2, busy=0.97, client_late_share=0.2, errors=3)


def results(rows: list[dict[str, Any]], name: str = "routing", **changes: Any) -> Results:
    about = {"bench": name, "schema": 1, "started": "2026-11-23T06:00:00Z", "commit": "0123456", "measurements": rows}
    return parse(msgspec.json.encode(about | changes))


def verdicts(rows: list[dict[str, Any]]) -> dict[str, Held]:
    return {verdict.what: verdict.held for verdict in judge(results(rows))}


def test_without_results_the_page_says_so() -> None:
    assert routing.UNMEASURED in routing.render({}, [])


def test_a_target_is_judged_by_the_better_setting_of_a_peer() -> None:
    found = verdicts(list(contest()))
    assert found["Conversations (Mooncake), jittered: first token, mean, below sglang-router, tuned"] is Held.YES
    assert found["Agents: first token, p90, below vllm-router"] is Held.YES
    assert found["Conversations (Mooncake), jittered, at the knee: mean 1.5 × better than sglang-router"] is Held.YES
    assert found["Conversations (Mooncake), jittered, at the knee: mean 1.5 × better than vllm-router"] is Held.NO
    assert found["Two workers: mean within 5 % of one"] is Held.YES


def test_fewer_than_five_seeds_hold_nothing() -> None:
    held = verdicts([row for row in contest() if row["run"] < 5]).values()
    assert set(held) == {Held.UNKNOWN}


def test_every_match_is_told_with_its_spread_and_what_makes_it_doubtful() -> None:
    page = routing.render({"routing": results(list(contest()), failed=[])}, ["routing-rates.svg"])
    assert "| **Enginehouse, `prefix`** | 0.603 s <sub>0.601–0.605 s</sub> |" in page
    assert "### Conversations (Mooncake), jittered: conversation x2.2" in page
    assert "nginx, `least_conn`: the machine was busy at 97%" in page
    assert "nginx, `least_conn`: the client was late by 20%" in page
    assert "![Mean time to the first token with each router, over the rate of requests]" in page


def test_cells_in_which_another_one_is_better_are_listed_with_the_reason() -> None:
    rows = [*contest()]
    rows.append(match("documents", "prefix", 1, 0.6, hit=0.60))
    rows.append(match("documents", "vllm-router", 1, 0.8, hit=0.70))
    page = routing.render({"routing": results(rows)}, [])
    behind = page[page.index("## Where `prefix` is behind") : page.index("## Conditions")]
    assert "**Found in caches**, since a prompt that is warm somewhere" in behind
    assert "- Long documents: vllm-router (found in caches: ours is 0.86 × theirs)" in behind
    assert "first token, mean" not in behind


def test_the_virtual_clock_is_held_against_what_was_measured() -> None:
    simulated = [match("http: conversation", "prefix", seed, 0.5) for seed in SEEDS]
    simulated.append(match("conversation", "LMetric", 1, 0.4, rate=2.6, engines=8))
    found = {"routing": results(list(contest())), "routing-simulated": results(simulated, "routing-simulated")}
    page = routing.render(found, [])
    assert "| Conversations (Mooncake), jittered | Enginehouse, `prefix` | 0.603 s | 0.500 s | 0.83 |" in page
    assert "| model of LMetric | 0.400 s |" in page
    assert "within its tick of 3 s; ×2.6, 8 engines." in page


def test_the_readme_has_the_better_setting_of_each_peer() -> None:
    section = routing_readme.section(results(list(contest())), "rates.svg")
    assert section.startswith("![Mean time to the first token with each router, over the rate of requests](rates.svg)")
    assert "| Agents | **0.603 s** | 1.00 s<br><sub>0.60×</sub> | 0.803 s<br><sub>0.75×</sub> |" in section
    assert routing_readme.section(None) == routing_readme.UNMEASURED


def test_pictures_show_every_contestant() -> None:
    drawn = routing_pictures.render(results(list(contest())))
    assert set(drawn) == {"routing-first-token.svg", "routing-rates.svg"}
    for name in ("Enginehouse, prefix", "sglang-router, tuned", "vllm-router"):
        assert name in drawn["routing-first-token.svg"]
    assert "Enginehouse, prefix" in drawn["routing-rates.svg"]
