"""`python -m bench.report`: the README's section, the page, and whether they are stale."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.report.__main__ import main, stale
from bench.report.markers import markers
from bench.report.readme import UNMEASURED
from tests.bench import invented

BEGIN, END = markers("speed")
ROUTING = "\n".join(markers("routing"))
CPU_PICTURE = Path("docs/pictures/speed-cpu.svg")
PAGE = Path("docs/explanation/speed.md")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a README, and nothing measured."""
    (tmp_path / "README.md").write_text(f"# A\n\n{ROUTING}\n\nbefore\n\n{BEGIN}\n{END}\n\nafter\n")
    return tmp_path


def measured(root: Path, **changes: Any) -> None:
    """Results in a repository, rendered."""
    (root / "bench" / "results").mkdir(parents=True, exist_ok=True)
    (root / "bench" / "results" / "proxy.json").write_bytes(msgspec.json.encode(invented.told(**changes)))
    assert main([], root) == 0


def readme(root: Path) -> str:
    return (root / "README.md").read_text()


def row(text: str, start: str) -> list[str]:
    """The cells of the table row that starts so."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_without_results_readme_and_page_say_so_and_are_not_stale(root: Path) -> None:
    assert main([], root) == 0
    assert f"before\n\n{BEGIN}\n{UNMEASURED}\n{END}\n\nafter\n" in readme(root)
    assert "Nothing has been measured" in (root / PAGE).read_text()
    assert not (root / CPU_PICTURE).exists()
    assert main(["--check"], root) == 0


def test_the_readme_keeps_what_stands_around_the_section(root: Path) -> None:
    measured(root)
    assert readme(root).startswith(f"# A\n\n{markers('routing')[0]}\n")
    assert f"\n\nbefore\n\n{BEGIN}\n![" in readme(root)
    assert readme(root).endswith(f"{END}\n\nafter\n")


def test_the_table_has_medians_with_their_spread_and_what_ours_is_in_proportion(root: Path) -> None:
    measured(root)
    cells = row(readme(root), "JSON request, 64 connections")
    assert cells[1] == "**18.0 µs**<br><sub>17.3–18.7 µs</sub>"
    assert cells[2] == "10.0 µs<br><sub>9.60–10.4 µs · 1.80×</sub>"
    assert cells[5] == "10,000 µs<br><sub>9,600–10,400 µs · 0.0018×</sub>"
    assert row(readme(root), "… time added")[4:] == ["4.40 ms<br><sub>4.22–4.58 ms</sub>", "–"]
    # Added to going direct, which took 101 to 105 µs.
    assert row(readme(root), "One connection: latency added, p50")[1:3] == ["**50.0 µs**", "30.0 µs"]


def test_the_readme_says_how_when_and_where_it_was_measured_and_what_holds(root: Path) -> None:
    measured(root)
    for said in ("5 interleaved runs of 3 s each", "2026-11-23", "Some CPU", "nginx 1.2.3", "commit 0123456789ab",
                 "core 1", "Of 17 targets 17 are held"):  # fmt: skip
        assert said in readme(root), said


def test_a_target_that_is_missed_or_not_measured_is_told_in_the_readme(root: Path) -> None:
    rows = [each for each in invented.measurements() if each["case"] != "body-1m"]
    measured(root, measurements=rows, soak=invented.soak(grows_by=50_000))
    assert "Of 17 targets 15 are held, 1 is not, 1 is not measured" in readme(root)
    assert row(readme(root), "Request with a body of 1 MB")[1:] == ["–"] * 5
    cells = row((root / PAGE).read_text(), "Memory over the soak")
    assert cells[1] == "**not held**"


def test_who_was_skipped_has_a_dash_and_its_reason(root: Path) -> None:
    rows = [each for each in invented.measurements() if each["contestant"] != "litellm"]
    measured(root, measurements=rows, skipped={"litellm": "no <wheel> | here"})
    assert row(readme(root), "JSON request")[5] == "–"
    assert "LiteLLM was skipped: no &lt;wheel&gt; \\| here." in readme(root)
    assert row((root / PAGE).read_text(), "LiteLLM")[1:3] == ["–", "–"]


def test_a_session_that_was_cut_short_or_measured_with_changed_files_says_so(root: Path) -> None:
    measured(root, finished=False, dirty=True)
    assert "did not finish" in readme(root)
    assert "with uncommitted changes" in readme(root)


def test_runs_that_differ_in_number_are_not_told_as_one_number(root: Path) -> None:
    rows = [each for each in invented.measurements() if each["contestant"] != "litellm" or each["run"] < 3]
    measured(root, measurements=rows)
    assert "Medians of 2 to 5 interleaved runs" in readme(root)


def test_the_page_has_every_case_with_runs_failures_and_errors(root: Path) -> None:
    odd = {"case": "odd", "contestant": "nginx", "why": "Traceback (most recent call last):\n  File\nKeyError: <1>"}
    failed = [invented.measurement("json-64", "nginx", 6, 0, errors=9), odd]
    measured(root, failed=failed)
    page = (root / PAGE).read_text()
    for heading in ("### JSON chat, 512 connections", "### 1,000 services, 200 models", "### odd", "## The soak"):
        assert heading in page, heading
    table = page.partition("### JSON chat, 64 connections")[2]
    assert row(table, "nginx")[-3:] == ["5", "1", "9"]
    assert row(table, "nginx")[1:3] == ["1.80×", "10.0 µs <sub>9.60–10.4 µs</sub>"]
    assert row(page.partition("### odd")[2], "nginx")[-3:] == ["0", "1", "0"]
    assert "nginx failed: Traceback (most recent call last): … KeyError: &lt;1&gt;." in page


def test_going_direct_has_times_and_no_cost(root: Path) -> None:
    measured(root)
    table = (root / PAGE).read_text().partition("### Latency")[2]
    assert row(table, "no router")[1:3] == ["–", "–"]
    assert row(table, "no router")[4] == "103 µs <sub>101–105 µs</sub>"
    assert row(table, "nginx")[7] == "30.0 µs"


def test_the_page_has_every_configuration_as_it_was_whatever_is_in_it(root: Path) -> None:
    nasty = "a = 1\n```\n</details>\n"
    measured(root, contestants={"enginehouse": {"version": "1", "configs": {"a<b": nasty}}})
    page = (root / PAGE).read_text()
    assert f"````text\n{nasty}````" in page
    assert "a&lt;b:" in page
    assert page.count("<details>") == 1


def test_links_of_readme_and_page_lead_to_files_that_were_written(root: Path) -> None:
    measured(root)
    for page in (root / "README.md", root / PAGE):
        links = re.findall(r"\]\(([^)]+)\)", page.read_text())
        assert links
        assert all((page.parent / link).exists() for link in links)


def test_rendering_twice_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured(root)
    capsys.readouterr()
    assert main([], root) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("touched", [Path("README.md"), PAGE, CPU_PICTURE], ids=str)
def test_check_fails_for_a_file_that_was_changed_by_hand_and_mends_nothing(
    root: Path, touched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(root)
    changed = (root / touched).read_text().replace("18.0", "8.0")
    (root / touched).write_text(changed)
    assert main(["--check"], root) == 1
    assert f"{touched} is stale" in capsys.readouterr().out
    assert (root / touched).read_text() == changed


def test_check_fails_when_results_are_newer_gone_or_a_picture_is_missing(root: Path) -> None:
    measured(root)
    (root / CPU_PICTURE).unlink()
    assert stale(root) == [CPU_PICTURE]
    measured(root)
    (root / "bench" / "results" / "proxy.json").unlink()
    assert {CPU_PICTURE, PAGE, Path("README.md")} < set(stale(root))
    assert main([], root) == 0
    assert not (root / CPU_PICTURE).exists()


@pytest.mark.parametrize(
    "text", ["no markers", ROUTING, f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"]
)
def test_a_readme_without_its_markers_is_refused_and_left_alone(
    root: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{ROUTING}\n{text}" if BEGIN in text else text
    (root / "README.md").write_text(text)
    assert main([], root) == 2
    assert "README.md needs one line" in capsys.readouterr().err
    assert readme(root) == text


def test_results_that_cannot_be_read_are_refused_and_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "bench" / "results").mkdir(parents=True)
    (root / "bench" / "results" / "proxy.json").write_text('{"bench": "proxy"}')
    assert main(["--check"], root) == 2
    assert "proxy.json" in capsys.readouterr().err
