"""Promises about the repository as a whole: what is installed, what its files may mention, how long its scripts are."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())

# Put together from pieces, so that this file does not contain what it looks for.
HOSTS = ["py" + "pi.org", "python" + "hosted.org", "registry.npm" + "js", "deb." + "debian.org", "crates" + ".io"]
HOSTS += ["proxy.go" + "lang", "registry.yarn" + "pkg", "security." + "debian.org"]
MACHINE_PATH = re.compile(r"(?<![\w./~-])/(?:work|ro" + r"ot|opt/wheels|opt/py" + r"pi)\b[/\w]|\.\./sha" + r"red\b")


def committed() -> list[Path]:
    """Every file of the repository, and those that would be added next."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def locked(lock: Path) -> dict[str, list[str]]:
    """The packages of a lock with their pinned versions (more than one where they differ between Pythons)."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", lock.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(version)
    return found


def test_at_most_30_packages_are_needed_at_run_time_transitive_ones_counted() -> None:
    packages = locked(ROOT / "requirements" / "run.lock")
    assert 1 < len(packages) <= 30, sorted(packages)


def test_every_run_time_dependency_of_the_package_is_locked() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=!~\[; ]", dependency)[0] for dependency in declared}
    assert names <= set(locked(ROOT / "requirements" / "run.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_an_exact_version_and_hashes(lock: Path) -> None:
    # A requirement goes on over the lines that end in a backslash.
    text = re.sub(r"^#.*\n", "", lock.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    for requirement in text.splitlines():
        assert re.match(r"[a-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement[:100]


def test_tests_run_with_the_versions_that_users_get() -> None:
    run = locked(ROOT / "requirements" / "run.lock")
    test = locked(ROOT / "requirements" / "test.lock")
    assert {name: test[name] for name in run.keys() & test} == {name: run[name] for name in run.keys() & test}


def test_no_file_names_the_host_of_a_package_registry() -> None:
    named = [f"{path.relative_to(ROOT)}: {host}" for path in committed() for host in HOSTS if host in text(path)]
    assert named == []


def test_no_file_contains_a_path_of_the_machine_it_was_made_on() -> None:
    found = [f"{p.relative_to(ROOT)}: {hit[0]}" for p in committed() for hit in MACHINE_PATH.finditer(text(p))]
    assert found == []


@pytest.mark.parametrize("path", ["/wo" + "rk/main", "'/ro" + "ot/x'", "see ../sha" + "red", "=/opt/py" + "pi/simple"])
def test_a_path_of_this_machine_is_recognised(path: str) -> None:
    assert MACHINE_PATH.search(path)


@pytest.mark.parametrize("path", ["/workers", "/v1/work/1", "~/work/x", "/rooted", "docs/work/a"])
def test_a_path_of_the_web_is_not_taken_for_one_of_this_machine(path: str) -> None:
    assert not MACHINE_PATH.search(path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_has_under_20_lines_and_is_valid_shell(script: Path) -> None:
    assert len(script.read_text().splitlines()) < 20
    subprocess.run(["bash", "-n", str(script)], check=True)


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
