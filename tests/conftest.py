"""What every test may ask for: ports, a short directory for sockets, and a session that leaves nothing behind.

Owns fixtures that know nothing of Enginehouse, and the settings of hypothesis. May not live here: fixtures that start a
part of the house (those stand beside the tests of that part).
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.ports import Ports

pytest_plugins = ["tests.leftovers", "tests.e2e.engines"]

# A loaded machine is no reason to fail an example; in CI, where a change is judged, chance is none either.
hypothesis.settings.register_profile("house", deadline=None, derandomize="CI" in os.environ, print_blob=True)
hypothesis.settings.load_profile("house")

# A shell that runs the tests in the background has them ignore Ctrl-C, and with them all programs that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def ports() -> Iterator[Ports]:
    """Hands out free ports; see `Ports`."""
    given = Ports()
    yield given
    given.release()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a path short enough for Unix sockets (about 100 bytes), which `tmp_path` may exceed."""
    path = Path(tempfile.mkdtemp(prefix="s", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())))
    yield path
    shutil.rmtree(path)
