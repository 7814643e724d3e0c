"""The generated reference: fresh, and complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginehouse.cli import reference
from enginehouse.cli.main import COMMANDS
from enginehouse.cli.options import settings
from enginehouse.cli.reference_errors import errors_page
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import Config
from enginehouse.core.config.registry import RegistryConfig
from enginehouse.core.config.router import RouterConfig
from enginehouse.core.config.sim import SimConfig
from enginehouse.core.outcome import Outcome


@pytest.fixture(autouse=True)
def the_pages_of_this_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the package under test is not the source tree but an installed copy of it."""
    monkeypatch.setattr(reference, "FOLDER", Path(__file__).parents[2] / "docs" / "reference")


def test_the_committed_pages_say_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "section"),
    [(RegistryConfig, "registry"), (RouterConfig, "router"), (BabysitterConfig, "babysitter"), (SimConfig, "sim")],
)
def test_every_setting_is_there_with_its_flag_and_its_variable(kind: type[Config], section: str) -> None:
    """Trap: every limit has a number in the reference."""
    page = reference.configuration_page()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for setting in settings(kind, section):
        row = next(line for line in rows if f"`{setting.variable}`" in line)
        assert row.startswith(f"| `{setting.option.name}` |")
        assert setting.option.flag == "-" or f"| `{setting.option.flag}` |" in row


def test_every_command_and_every_outcome_is_there() -> None:
    cli = reference.cli_page()
    assert all(f"## `enginehouse {name} " in cli for name in COMMANDS)
    errors = errors_page()
    for outcome in Outcome:
        row = next(line for line in errors.splitlines() if line.startswith(f"| `{outcome.value}` |"))
        assert len(row.split("|")[7]) > 15, f"{outcome} says nothing"


def test_a_stale_page_is_named_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(reference.PAGES, "cli.md", lambda: "other")
    assert reference.main(["--check"]) == 1
    said = capsys.readouterr().out
    assert said == "docs/reference/cli.md is not what the code says: run python -m enginehouse.cli.reference\n"
