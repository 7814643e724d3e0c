"""Compiles the hot modules with mypyc where `ENGINEHOUSE_COMPILE=1` asks for it; else pyproject.toml says everything.

Owns how they are compiled. May not live here: which they are, and the compiler's version: both stand in pyproject.toml.
"""

import os
import sys
import tomllib
from pathlib import Path

from setuptools import Extension, setup

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))

# Only the files named are compiled and judged, and nothing that happens to be installed plays a part: the same sources
# make the same program everywhere. `scripts/check` is where types are checked, in full.
MYPY = ["--config-file=", "--no-site-packages", "--ignore-missing-imports", "--follow-imports=silent"]


def compiled() -> list[Extension]:
    """One library with the code of all hot modules, and beside the source of each a stub that Python imports first."""
    from mypyc.build import mypycify

    files = [f"src/enginehouse/{module}.py" for module in PROJECT["tool"]["enginehouse"]["compile"]]
    extensions: list[Extension] = mypycify([*MYPY, *files], debug_level="0", group_name="enginehouse")  # at -O3
    for extension in extensions:
        extension.extra_compile_args.append("-Wno-error")  # a newer C compiler may warn of what this one does not
        extension.extra_link_args += ["-s"] if sys.platform == "linux" else []
    return extensions


# An editable install stays pure: what is compiled into the source tree would hide every later change of a source.
if os.environ.get("ENGINEHOUSE_COMPILE") != "1" or "editable_wheel" in sys.argv:
    setup()
elif {"egg_info", "dist_info"}.intersection(sys.argv):  # asked for metadata, and for what building needs
    setup(setup_requires=PROJECT["dependency-groups"]["compile"])
else:
    setup(ext_modules=compiled())
