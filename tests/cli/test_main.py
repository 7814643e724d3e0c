"""The command itself: what it imports, what it says about itself, and how it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from enginehouse import __version__
from enginehouse.cli.main import COMMANDS
from tests.cli.programs import run, run_on_terminal

HEAVY = {"aiohttp", "starlette", "uvicorn", "rich", "asyncio", "msgspec", "argparse"}


def imported_by(*arguments: str) -> set[str]:
    """Top-level names of the modules a command imports."""
    command = [sys.executable, "-X", "importtime", "-m", "enginehouse.cli.main", *arguments]
    report = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stderr
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in report.splitlines() if "|" in line}


def test_the_version_is_told_without_importing_anything_that_takes_time() -> None:
    assert run("--version").stdout.removesuffix(" (compiled)\n").rstrip() == f"enginehouse {__version__}"
    assert not imported_by("--version") & HEAVY


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_comes_without_importing_what_the_command_does(name: str) -> None:
    assert not imported_by(name, "--help") & (HEAVY - {"argparse", "msgspec"})


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_says_what_it_is_for_and_how_to_call_it(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: enginehouse {name} ")
    assert len(done.stdout.splitlines()[2]) > 40


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_without_a_command_all_of_them_are_listed_with_a_way_to_begin(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert "enginehouse up house.toml" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rooter"], "enginehouse: there is no command rooter; did you mean router?"),
        (["--hlep"], "enginehouse: there is no option --hlep; did you mean --help?"),
        (["router", "--port", "1"], "enginehouse router: there is no option --port; did you mean --router-port?"),
        (
            ["router", "--router-prot", "1"],
            "enginehouse router: there is no option --router-prot; did you mean --router-p",
        ),
        (["router", "here"], "enginehouse router: there is no place for the argument 'here'"),
        (["router", "--router-port", "http"], "enginehouse router: --router-port: expected a whole number, got 'http'"),
        (["babysitter"], "enginehouse babysitter: `port` is missing: give --port"),
        (["babysitter", "--config-file", "no.toml"], "enginehouse babysitter: no.toml: cannot be read: No such file"),
        (["router", "--config", "no.toml"], "enginehouse router: no.toml: cannot be read: No such file"),
        (["up", "no.toml"], "enginehouse up: no.toml: cannot be read: No such file"),
        (["up"], "enginehouse up: the following arguments are required: FILE"),
        (["router", "--registry-token-file", "no"], "router: no: No such file or directory"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line_with_exit_status_2_and_no_traceback(
    arguments: list[str], message: str
) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m enginehouse.cli.main check no.toml no.toml | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""


def test_colours_are_for_terminals_and_not_where_somebody_said_no() -> None:
    assert "\x1b[" in run_on_terminal("check", "no.toml")[1]
    assert "\x1b[" not in run_on_terminal("check", "no.toml", NO_COLOR="1")[1]
    assert "\x1b[" not in run("check", "no.toml").stdout
