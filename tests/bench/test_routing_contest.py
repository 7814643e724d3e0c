"""The contest of routers over HTTP: its plan, and one match of a few requests with real processes.

Owns tests of `cases`, `loads` and `match`. May not live here: the peers, who are not installed where tests run.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.common.results import Results
from bench.contestants.enginehouse import Enginehouse
from bench.routing import cases
from bench.routing.cases import Case
from bench.routing.contest import missing
from bench.routing.contestants import ALL, OURS, PEERS
from bench.routing.loads import LOADS
from bench.routing.match import play

HOURS_2 = 7200.0


def test_the_whole_contest_is_planned_for_less_than_two_hours_and_the_quick_one_for_about_ten_minutes() -> None:
    assert sum(cases.seconds(case, case.matches) for case in cases.whole()) < HOURS_2
    assert sum(cases.seconds(case, case.matches) for case in cases.quick()) < HOURS_2 / 10


def test_what_was_played_before_an_interruption_is_not_played_again(tmp_path: Path) -> None:
    case = Case("few", "hot", 12.0, ("prefix", "nginx", "vllm-router"), (1, 2, 3), ("nginx",))
    results = Results(tmp_path / "r.json", "routing", {}, ("LICENSE",), "measurements")
    every = missing(case, ALL, results)
    assert len(every) == case.matches == 7
    assert [seed for seed, _, name in every if name == "nginx"] == [1]
    seed, position, name = every[2]
    results.add({"case": "few", "contestant": name, "run": seed, "position": position})
    assert missing(case, ALL, results) == [*every[:2], *every[3:]]
    assert {name for _, _, name in missing(case, {"prefix": ALL["prefix"]}, results)} == {"prefix"}


def test_every_case_names_what_exists_and_no_two_have_one_name() -> None:
    planned = cases.whole()
    assert len({case.name for case in planned}) == len(planned)
    assert {case.load for case in planned} <= set(LOADS)
    assert {name for case in planned for name in case.contestants} == set(ALL)
    assert {name for names in PEERS.values() for name in names} | set(OURS) <= set(ALL)


@pytest.mark.parametrize("trouble", ["", "killed"])
def test_a_match_answers_every_request_and_tells_how_it_went(tmp_path: Path, trouble: cases.Trouble) -> None:
    case = Case("few", "hot", 12.0, ("prefix",), (1,), trouble=trouble, time_scale=4.0, requests=40)
    played = play(Enginehouse("prefix", ".venv"), case, 1, tmp_path, tmp_path / "match")
    figures = played.figures
    assert (figures["answered"], figures["errors"]) == (40, 0)
    assert 0.0 < figures["ttft_mean"] <= figures["ttft_p99"]
    assert figures["router_us"] > 0
    assert "policy" not in played.configs["house.toml"]
    if not trouble:
        assert figures["hit"] > 0.3
        assert figures["balance"] >= 1.0
