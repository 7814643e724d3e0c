"""The page about failures, from the results of the failure lab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.report import failures

ROW: dict[str, Any] = {
    "case": "kill", "group": "an engine", "title": "killed (`kill -9`)", "sent": 1200, "right": 1190, "refused": 4,
    "broken_off": 6, "lost": 0, "wrong": 0, "repeated": 0, "resumed": 7, "identical": 1190, "worst_wait": 1.55,
    "noticed_after_s": 0.2, "recovered_after_s": None, "problems": [], "ok": True,
    "samples": {"broken_off": {"error event bad_gateway": 6}, "refused": {"502 <bad> | gateway": 4}},
}  # fmt: skip
SKIPPED = {"case": "dns", "group": "the machine", "title": "no names", "skipped": "needs root\nreally", "ok": True}
OVERLOAD = ROW | {
    "case": "overload", "group": "load", "goodput": 27.4, "goodput_before": 27.2, "refused_after_median_s": 0.01,
    "memory_grown": 1 << 20,
}  # fmt: skip


def write(folder: Path, rows: object, name: str = "chaos", **changes: Any) -> None:
    told = {
        "bench": name, "schema": 1, "started": "2026-11-23T06:00:00Z", "seconds": 90.0, "commit": "0123456",
        "dirty": False, "finished": True, "machine": {"cpu": "Some CPU", "cores": 2, "python": "3.11"},
        "settings": {"seconds_per_fault": 5.0, "router": {"idle_timeout": 3}}, "rows": rows,
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(told | changes))


def test_without_results_the_page_says_so(tmp_path: Path) -> None:
    assert failures.UNMEASURED in failures.render(tmp_path)


def test_a_row_tells_what_became_of_every_request_and_why(tmp_path: Path) -> None:
    write(tmp_path, [ROW, SKIPPED, OVERLOAD])
    page = failures.render(tmp_path)
    figures = "| 1,200 | 1,190 | 10 | **0** | 7 | – | 1,190 | 1.6 s | 0.2 s | – |"
    assert f"| killed (`kill -9`) <sub>kill</sub> {figures}" in page
    assert "| kill | refused | 502 &lt;bad&gt; \\| gateway | 4 |" in page
    assert "Of 2,400 requests in 2 rows 2,380 were answered right,\n20 with an honest error, **0 were lost" in page
    assert "Every row holds." in page
    assert "Not run here: no names; needs root." in page
    assert "Goodput: 27.4 right answers a second, 27.2\nbefore" in page
    assert "- router: `idle_timeout = 3`" in page


def test_rows_that_fail_are_named_first_with_what_does_not_hold(tmp_path: Path) -> None:
    bad = ROW | {"lost": 2, "ok": False, "problems": ["not as before within 40 s"], "samples": {"lost": {"closed": 2}}}
    write(tmp_path, [bad], finished=False, dirty=True)
    page = failures.render(tmp_path)
    assert "**2 were lost or wrong**.\n1 rows fail: kill." in page
    assert "| kill | **fails** | not as before within 40 s |  |" in page
    assert "did not finish" in page
    assert "with changes" in page


def test_real_engines_have_a_section_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, [ROW])
    write(tmp_path, [ROW], name="chaos-real")
    assert failures.render(tmp_path).count("<sub>kill</sub>") == 2
    assert "## Real engines" in failures.render(tmp_path)


@pytest.mark.parametrize(("rows", "schema"), [([ROW], 9), (3, 1)])
def test_results_of_another_shape_are_refused(tmp_path: Path, rows: object, schema: int) -> None:
    write(tmp_path, rows, schema=schema)
    with pytest.raises(ValueError, match=r"chaos\.json"):
        failures.render(tmp_path)
