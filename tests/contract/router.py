"""A router as the process that one starts, and a caller that knows nothing but HTTP.

Owns starting it with its flags, simulated engines that outlive one test, asking, and waiting. May not live here: what a
test expects, except for what holds of every answer: `ask` checks that each one carries the router's header lines.
"""

from __future__ import annotations

import http.client
import json
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil

from tests.e2e.engines import SimProcess

DEADLINE = 30.0
POLL = 0.02
OURS = (
    "x-request-id",
    "x-enginehouse-service",
    "x-enginehouse-attempts",
    "x-enginehouse-queue-ms",
    "x-enginehouse-overhead-ms",
    "x-enginehouse-reason",
)


class Answer(NamedTuple):
    """What a caller got; header names in lower case, in order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str:
        """The only value of a header."""
        (value,) = self.all(name)
        return value

    @property
    def service(self) -> str:
        """Who answered."""
        return self.header("x-enginehouse-service")

    @property
    def error(self) -> dict[str, Any]:
        """The error, which has OpenAI's shape, whole."""
        told = self.json
        assert told.keys() == {"error"}, told
        assert told["error"].keys() == {"message", "type", "param", "code"}, told
        assert isinstance(told["error"]["message"], str)
        assert isinstance(told["error"]["type"], str)
        assert isinstance(told["error"]["code"], str | None)
        assert self.header("content-type") == "application/json"
        return dict(told["error"])


def worker_of(answer: Answer) -> str:
    """Which worker process gave it: the middle of the ids it makes."""
    return answer.header("x-request-id").split("-")[1]


def send(
    url: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, raw: Any = None
) -> Answer:
    """One request on a connection of its own: `body` is sent as JSON, `raw` as it is."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=DEADLINE)
    try:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        usual = {"content-type": "application/json"} if data is not None else {}
        connection.request(method, path, data, usual | dict(headers or {}))
        response = connection.getresponse()
        told = [(name.lower(), value) for name, value in response.getheaders()]
        return Answer(response.status, told, response.read())
    finally:
        connection.close()


class Router:
    """A running router. `url` is where it is, `log` what it wrote to standard error."""

    def __init__(self, log: Path, flags: Iterable[str]) -> None:
        self.log_file = log
        command = [sys.executable, "-m", "enginehouse.cli.main", "router", "--host", "127.0.0.1", "--router-port", "0"]
        with log.open("w") as errors:
            self.process = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE)
        self.url = self.process.stdout.readline().strip() if ready else ""
        assert self.url, f"the router did not start: {self.log}"
        self.port = int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Answer:
        """One request. Every answer, errors included, carries each of the router's own lines exactly once."""
        answer = send(self.url, method, path, body, headers, raw)
        for name in OURS:
            assert len(answer.all(name)) == 1, f"{name} in the answer to {method} {path}: {answer}"
        return answer

    def chat(self, model: str | None = "m", headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
        """A chat request."""
        message = {"role": "user", "content": "Say something."}
        named = {} if model is None else {"model": model}
        return self.ask("POST", "/v1/chat/completions", named | {"messages": [message]} | fields, headers)

    def service(self, name: str) -> dict[str, Any]:
        """What `/services` tells of one; `LookupError` where it does not."""
        listed = self.ask("GET", "/services").json["services"]
        return dict({item["name"]: item for item in listed}[name])

    def healthy(self) -> set[str]:
        """Names of the services that are healthy now."""
        return {item["name"] for item in self.ask("GET", "/services").json["services"] if item["healthy"]}

    def until_healthy(self, *names: str) -> None:
        """Until exactly these services are healthy, and each of the workers sends requests to each of them."""
        until(lambda: self.healthy() == set(names), f"healthy services {names}")
        workers = len(self.workers())
        until(lambda: self._all_answer(names, workers), f"answers of {names} through each worker")

    def _all_answer(self, names: tuple[str, ...], workers: int) -> bool:
        """Ask what is as good for one service as for another: do these answer, and no others?"""
        tries = range(4 * workers * len(names) if workers > 1 else len(names))
        answers = [self.ask("OPTIONS", "/v1/chat/completions") for _ in tries]
        pairs = {(worker_of(answer), answer.service) for answer in answers}
        return {service for _, service in pairs} == set(names) and len(pairs) == workers * len(names)

    def ready(self) -> bool:
        """Whether a worker takes requests, which it does when it has a fleet."""
        return self.ask("GET", "/readyz").status == 200

    def workers(self) -> list[psutil.Process]:
        """Processes of the data plane."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "worker" in child.cmdline()]

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def running(directory: Path, static: object = None, config: str = "", **settings: Any) -> Iterator[Router]:
    """A router: `static` goes into a static file, `config` is TOML for what has no flag, the rest are flags."""
    directory.mkdir(parents=True, exist_ok=True)
    flags: list[str] = []
    if static is not None:
        flags += ["--static-services", str(write(directory / "static.json", static))]
    if config:
        (directory / "house.toml").write_text(config)
        flags += ["--config", str(directory / "house.toml")]
    for name, value in {"health_interval": 60, "drain_timeout": 1, "queue_timeout": 0.2, **settings}.items():
        flag = "--" + name.replace("_", "-")
        for item in value if isinstance(value, list | tuple) else [value]:
            flags += [flag] if item is True else [flag, str(item)]
    router = Router(directory / "router.log", flags)
    try:
        yield router
        assert "a bug" not in router.log, router.log
    finally:
        router.stop()


@contextmanager
def engines(**settings: Mapping[str, Any]) -> Iterator[dict[str, SimProcess]]:
    """Simulated engines by name; all of them end with the context. A dash in a name is written as underscore."""
    with ExitStack() as stack:
        started: dict[str, SimProcess] = {}
        for key, wanted in settings.items():
            name = key.replace("_", "-")
            started[name] = SimProcess({"name": name, "models": ["m"], **wanted})
            stack.callback(started[name].kill9)
        yield started


def static(engine: SimProcess, **fields: Any) -> dict[str, Any]:
    """An engine's item in a static file."""
    return {"name": engine.name, "host": "127.0.0.1", "port": engine.port} | fields


def write(file: Path, content: object) -> Path:
    """Replace a JSON file at once, as an editor does."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(content))
    return fresh.replace(file)


def until(holds: Callable[..., object], what: str) -> None:
    """Wait until something holds; an answer that is not there yet counts as no."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            if holds():
                return
        except (LookupError, OSError, http.client.HTTPException):
            pass
        time.sleep(POLL)
    raise AssertionError(f"not within {DEADLINE:g} s: {what}")


@contextmanager
def steady(ask: Callable[[], int]) -> Iterator[None]:
    """Another client that goes on asking meanwhile, and every one of whose requests is answered with 200."""
    answered: list[int] = []
    problems: list[object] = []
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            try:
                answered.append(ask())
            except Exception as error:
                problems.append(error)
            over.wait(POLL)

    client = threading.Thread(target=go_on)
    client.start()
    try:
        yield
        before = len(answered) + len(problems)
        until(lambda: len(answered) + len(problems) > before + 1, "an answer for the other client")
    finally:
        over.set()
        client.join(DEADLINE)
    assert not problems
    assert set(answered) == {200}


Sims = dict[str, SimProcess]


def services(answers: list[Answer]) -> list[str]:
    """Who answered, in order; all of them with 200."""
    assert {answer.status for answer in answers} == {200}, answers
    return [answer.service for answer in answers]
