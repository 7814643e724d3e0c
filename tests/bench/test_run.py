"""The bench from end to end, on what needs no packages: Enginehouse between the streaming client and backend."""

import json
import os
from pathlib import Path

import pytest

from bench.common import cpu
from bench.common.processes import BenchError, Processes
from bench.contestants.base import Contestant, Job, Started
from bench.proxy.cases import BY_NAME, CASES, Case
from bench.proxy.contestants import ALL
from bench.proxy.results import Results
from bench.proxy.run import Runner, medians
from bench.proxy.stage import Settings

CORES = sorted(os.sched_getaffinity(0))
SETTINGS = Settings(runs=2, seconds=1, warm=0, seed=1, router_core=CORES[-1], load_core=CORES[0], soak_minutes=0.0)


class Absent:
    """A contestant that cannot be started."""

    name = "absent"
    counted = routing = "nothing"
    patience = 1

    def install(self) -> None:
        pass

    def version(self) -> str:
        return "0"

    def start(self, processes: Processes, job: Job) -> Started:
        raise BenchError("it is not there")


@pytest.mark.parametrize("fresh", [False, True])
def test_a_case_is_measured_written_down_and_cleared_away(tmp_path: Path, fresh: bool) -> None:
    case = Case("tiny", "stream", ("enginehouse-pure", "absent"), connections=3, chunks=5, interval=0.01, fresh=fresh)
    contestants: dict[str, Contestant] = {"enginehouse-pure": ALL["enginehouse-pure"], "absent": Absent()}
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    before = set(cpu.tree([os.getpid()]))
    Runner(SETTINGS, contestants, Results(tmp_path / "out.json", {"runs": 2}), scratch).run([case])

    written = json.loads((tmp_path / "out.json").read_text())
    assert [(row["run"], row["contestant"], row["errors"]) for row in written["measurements"]] == [
        (1, "enginehouse-pure", 0),
        (2, "enginehouse-pure", 0),
    ]
    for row in written["measurements"]:
        assert row["units"] > 20
        assert row["cpu_us_per_unit"] > 0
        assert row["processes"] == 3
        assert ("bytes_per_stream" in row) == fresh
    assert {(failed["contestant"], failed["why"]) for failed in written["failed"]} == {("absent", "it is not there")}
    assert "access_log" in written["contestants"]["enginehouse-pure"]["configs"]["house.toml"]
    assert str(tmp_path.parent) not in json.dumps(written["failed"])
    assert list(scratch.iterdir()) == []
    assert set(cpu.tree([os.getpid()])) <= before


def test_finding_the_model_is_measured_without_a_proxy(tmp_path: Path) -> None:
    case = BY_NAME["find-model-1m"]._replace(body=10_000)
    Runner(
        SETTINGS._replace(runs=1),
        {"enginehouse": ALL["enginehouse"]},
        Results(tmp_path / "o.json", {}),
        tmp_path,
    ).run([case])
    (row,) = json.loads((tmp_path / "o.json").read_text())["measurements"]
    assert row["unit"] == "body"
    assert row["units"] > 10
    assert row["errors"] == 0


def test_every_case_names_contestants_that_exist_and_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(CASES)
    assert {name for case in CASES for name in case.contestants} <= set(ALL)


def test_a_case_is_summed_up_by_medians_of_its_sound_runs_against_nginx() -> None:
    rows = [
        {"case": "json-1", "contestant": name, "errors": errors, "units": 1, "cpu_us_per_unit": figure}
        for name, figure, errors in (
            ("nginx", 9.0, 0),
            ("nginx", 11.0, 0),
            ("x", 30.0, 0),
            ("x", 1.0, 7),
            ("y", 1.0, 1),
        )
    ]
    assert medians(BY_NAME["json-1"], rows) == ["nginx 10.00 µs", "x 30.00 µs (3.00 × nginx)"]
    assert medians(BY_NAME["json-64"], rows) == []
