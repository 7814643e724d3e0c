"""Our own checks: each rule refuses what breaks it and lets pass what just keeps it."""

from pathlib import Path

import pytest

from tools.house_rules import MAX_FILE_LINES, MAX_FUNCTION_LINES, main, offences

DOCSTRING = '"""What it owns."""\n'


def check(source: str, path: str = "core/fleet.py") -> list[str]:
    return list(offences(source, path))


def test_a_file_of_exactly_the_limit_passes_and_one_line_more_does_not() -> None:
    full = DOCSTRING + "\n" * (MAX_FILE_LINES - 1)
    assert check(full) == []
    (offence,) = check(full + "\n")
    assert offence.startswith(f"core/fleet.py:1: {MAX_FILE_LINES + 1} lines")


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_function_of_exactly_the_limit_passes_and_one_line_more_does_not(kind: str) -> None:
    full = f"{DOCSTRING}{kind} work():\n" + "    pass\n" * (MAX_FUNCTION_LINES - 1)
    assert check(full) == []
    (offence,) = check(full + "    pass\n")
    assert offence == f"core/fleet.py:2: `work` has {MAX_FUNCTION_LINES + 1} lines, at most {MAX_FUNCTION_LINES}"


def test_a_method_inside_a_class_is_measured_too_and_the_class_is_not() -> None:
    method = "    def {}(self):\n" + "        pass\n" * (MAX_FUNCTION_LINES - 1)
    assert check(f"{DOCSTRING}class House:\n" + method.format("a") + method.format("b")) == []
    assert len(check(f"{DOCSTRING}class House:\n" + method.format("a") + "        pass\n")) == 1


def test_a_file_that_does_not_open_with_a_docstring_is_refused() -> None:
    assert "docstring" in check("import os\n")[0]
    assert "docstring" in check("")[0]


READS = ["import os\nprint(os.environ)\n", "import os\nos.getenv('A')\n", "from os import environ\n"]


@pytest.mark.parametrize("reading", READS)
def test_only_app_and_the_command_line_read_the_environment(reading: str) -> None:
    assert check(DOCSTRING + reading, "app.py") == []
    assert check(DOCSTRING + reading, "cli/main.py") == []
    (offence,) = check(DOCSTRING + reading, "babysitter/process.py")
    assert "environment" in offence


def test_the_command_prints_one_line_for_each_offence_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.py").write_text(DOCSTRING)
    assert main([str(tmp_path)]) == 0
    (tmp_path / "bad.py").write_text("x = 1\n")
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith(f"{tmp_path}/bad.py:1: ")
