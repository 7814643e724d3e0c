"""A pytest plugin that fails the session when something of it stays behind.

Owns the search for processes that outlive the tests, for sockets that still listen, and for files outside the
directories pytest cleans by itself. May not live here: cleaning up for a test that forgot to.

How: the session marks its environment, which every process started by a test inherits, however far removed. Temporary
files go to a directory of the session's own, which has to be empty at its end. In CI, where nobody else edits the
repository, its files have to be the same as before.
"""

import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import psutil
import pytest
from xdist.workermanage import WorkerController

MARK = "ENGINEHOUSE_TEST_SESSION"
GRACE_SECONDS = 5.0  # for processes that are just ending

FOUND = pytest.StashKey[list[str]]()
SCRATCH = pytest.StashKey[Path]()
FILES = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Mark the session. Workers of pytest-xdist inherit everything from the process that starts them."""
    config = session.config
    config.stash[FOUND] = []
    if is_worker(config):
        return
    usual = tempfile.gettempdir()
    config.stash[SCRATCH] = Path(tempfile.mkdtemp(prefix="eh", dir=usual))
    config.stash[FILES] = repository_files(config.rootpath)
    os.environ[MARK] = uuid.uuid4().hex
    os.environ["PYTEST_DEBUG_TEMPROOT"] = usual  # where `tmp_path` is made; pytest removes those by itself
    os.environ["TMPDIR"] = tempfile.tempdir = str(config.stash[SCRATCH])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look around when all fixtures are torn down and all workers have ended."""
    config = session.config
    found = config.stash[FOUND]
    found += [f"port {port} still listens in the test process itself" for port in own_listeners()]
    if is_worker(config):
        config.workeroutput["leftovers"] = found  # type: ignore[attr-defined]  # set by pytest-xdist
        return
    found += processes(os.environ[MARK])
    found += [f"temporary file {path.name}" for path in sorted(config.stash[SCRATCH].iterdir())]
    shutil.rmtree(config.stash[SCRATCH], ignore_errors=True)
    if "CI" in os.environ and (now := repository_files(config.rootpath)) != config.stash[FILES]:
        found.append(f"files in the repository:\n{now}")
    if found and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """Take over what a worker of pytest-xdist found in itself."""
    output = getattr(node, "workeroutput", {})  # missing where the worker crashed
    node.config.stash[FOUND].extend(output.get("leftovers", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left behind."""
    if found := config.stash[FOUND]:
        terminalreporter.section("left behind by the tests", red=True)
        for line in found:
            terminalreporter.line(line)


def is_worker(config: pytest.Config) -> bool:
    """Whether this is one of several processes of pytest-xdist, not the one that reports."""
    return hasattr(config, "workerinput")


def own_listeners() -> list[int]:
    """Ports on which this very process listens."""
    listening = psutil.Process().net_connections(kind="tcp")
    return sorted(c.laddr.port for c in listening if c.status == psutil.CONN_LISTEN)


def processes(mark: str) -> list[str]:
    """The processes of the session that are still there after a while; they are killed once they are named."""
    psutil.wait_procs(marked(mark), timeout=GRACE_SECONDS)
    lines = []
    for process in marked(mark):
        try:
            test = process.environ().get("PYTEST_CURRENT_TEST", "no test")
            lines.append(f"process {process.pid} started by {test}: {' '.join(process.cmdline())}")
            process.kill()
        except psutil.Error:
            continue
    return lines


def marked(mark: str) -> list[psutil.Process]:
    """All living processes but this one whose environment carries the session's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:  # ended meanwhile, a zombie, or somebody else's
            continue
    return found


def repository_files(root: Path) -> str:
    """What git has to say about files that are not committed."""
    command = ["git", "status", "--porcelain"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout
