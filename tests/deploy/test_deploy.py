"""Units and the container file: parsed, hardened, and starting commands that exist with options they have."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from enginehouse.cli.check_deploy import container, container_lines, unit, unit_lines
from enginehouse.cli.findings import Finding, Level

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
CONTAINER = DEPLOY / "Containerfile"


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.OK]


def mended(folder: Path, source: Path, old: str, new: str) -> Path:
    """A copy with one thing changed."""
    path = folder / source.name
    assert old in source.read_text()
    path.write_text(source.read_text().replace(old, new))
    return path


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_has_nothing_that_check_would_mend(path: Path) -> None:
    assert bad(list(unit(path))) == []


def test_there_is_a_unit_for_every_role() -> None:
    commands = {
        value.split()[1] for path in UNITS for _, name, value in unit_lines(path.read_text()) if name == "ExecStart"
    }
    assert commands == {"registry", "router", "babysitter"}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_reads_the_same_for_an_other_parser(path: Path) -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case
    parser.read(path)
    theirs = {(section, name, value) for section in parser.sections() for name, value in parser.items(section)}
    assert theirs <= set(unit_lines(path.read_text()))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd-analyze")
def test_systemd_itself_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    paths = []
    for path in UNITS:
        copy = tmp_path / path.name.replace("@.", "@chat.")
        copy.write_text(path.read_text().replace("/usr/bin/enginehouse", "/bin/true"))
        paths.append(str(copy))
    environment = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths],
        capture_output=True, text=True, timeout=60, env=environment, check=False,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if str(tmp_path) in line] == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("NoNewPrivileges=", "NoNewPriviledges=", "unknown directive NoNewPriviledges in [Service]"),
        ("[Service]", "[Servce]", "there is no section [Servce]"),
        (
            "ExecStart=/usr/bin/enginehouse router",
            "ExecStart=/usr/bin/enginehouse rooter",
            "there is no command rooter",
        ),
        ("router --config", "router --confg", "`enginehouse router` has no option --confg"),
        ("ExecStart=", "ExecStop=", "no ExecStart"),
        ("Restart=always", "Restart=no", "not restarted when it dies"),
        ("DynamicUser=yes\n", "", "runs as root"),
        ("KillMode=mixed\n", "", "children before their parents"),
        ("PrivateTmp=yes\n", "", "not hardened: PrivateTmp"),
        ("[Install]\n", "[Install]\nnonsense\n", "is neither [Section] nor Name=value: 'nonsense'"),
    ],
)
def test_what_is_wrong_with_a_unit_is_found(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = mended(tmp_path, DEPLOY / "systemd" / "enginehouse-router.service", old, new)
    assert words in " / ".join(finding.text for finding in bad(list(unit(path))))


def test_the_container_file_has_nothing_that_check_would_mend() -> None:
    assert bad(list(container(CONTAINER))) == []


def test_the_container_file_has_steps_with_arguments_and_runs_as_nobody_important() -> None:
    steps = list(container_lines(CONTAINER.read_text()))
    assert [value for name, value in steps if name == "USER"] == ["65532:65532"]
    assert steps[-2:] == [("ENTRYPOINT", '["enginehouse"]'), ("CMD", '["router"]')]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ENTRYPOINT", "ENTRYPIONT", "unknown instruction ENTRYPIONT"),
        ('CMD ["router"]', 'CMD ["rooter"]', "there is no command rooter"),
        ('["enginehouse"]', "enginehouse", "ENTRYPOINT in shell form"),
        ("USER 65532:65532\n", "", "runs as root"),
        ("COPY src src", "COPY sources src", "COPY sources: not there"),
        ("python:3.12-slim", "python:latest", "FROM python:latest means another image every month"),
        ("EXPOSE 8080 8081", "EXPOSE", "an instruction without an argument: 'EXPOSE'"),
    ],
)
def test_what_is_wrong_with_a_container_file_is_found(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = mended(tmp_path, CONTAINER, old, new)
    assert words in " / ".join(finding.text for finding in bad(list(container(path))))
