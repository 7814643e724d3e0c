"""A real OpenTelemetry collector: the program `rotel`, which installs as a package and prints the spans that it takes.

Owns starting and ending it, and reading what it prints. May not live here: what spans should say. That it cannot be
started is an error of the test that wants it, never a skip.
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.ports import Ports

DEADLINE = 30.0
POLL = 0.02

Attributes = dict[str, str | int | float | bool]
_TYPES: dict[str, Callable[[str], str | int | float | bool]] = {
    "Str": str,
    "Int": int,
    "Double": float,
    "Bool": "true".__eq__,
}


class Event(NamedTuple):
    name: str
    time: int
    attributes: Attributes


class Span(NamedTuple):
    """A span as the collector understood it. Times are nanoseconds since 1970."""

    trace_id: str
    parent_id: str
    id: str
    name: str
    kind: str
    status: str
    start: int
    end: int
    attributes: Attributes
    events: list[Event]
    resource: Attributes


class Collector:
    """Listens for OTLP over HTTP at `url`."""

    def __init__(self, url: str, output: Path) -> None:
        self.url = url
        self._output = output

    @property
    def printed(self) -> str:
        return self._output.read_text()

    def spans(self) -> list[Span]:
        """Everything it has taken so far, in that order."""
        found = []
        for resource in re.split(r"^ResourceSpans #\d+\n", self.printed, flags=re.MULTILINE)[1:]:
            about, *spans = re.split(r"^Span #\d+\n", resource, flags=re.MULTILINE)
            found += [_span(each, _attributes(about)) for each in spans]
        return found

    def span(self, **attributes: str | int | float | bool) -> Span:
        """The only span with these attributes (`_` stands for `.`), as soon as it is there."""
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}
        end = time.monotonic() + DEADLINE
        while True:
            found = [span for span in self.spans() if wanted.items() <= span.attributes.items()]
            if found:
                (span,) = found
                return span
            assert time.monotonic() < end, f"no span with {wanted} came: {self.printed}"
            time.sleep(POLL)


@contextmanager
def collector(ports: Ports, directory: Path) -> Iterator[Collector]:
    """A collector that listens, and ends with the context."""
    package = importlib.util.find_spec("rotel")
    assert package is not None, "the package `rotel` is missing: it is in requirements/test.lock, for Linux"
    assert package.origin is not None
    program, output = Path(package.origin).with_name("rotel-agent"), directory / "collector.txt"
    http, grpc = f"127.0.0.1:{ports.one()}", f"127.0.0.1:{ports.one()}"
    flags = ["--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"]
    flags += ["--otlp-http-endpoint", http, "--otlp-grpc-endpoint", grpc, "--batch-timeout", "20ms"]
    # It is linked with libpython, for processors that nobody uses here: Debian's package libpython3.N, or Python's own.
    where = {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")}
    with output.open("w") as file:
        process = subprocess.Popen([program, "start", *flags], stdout=file, stderr=file, env=os.environ | where)
    try:
        _until_it_listens(process, http, output)
        yield Collector(f"http://{http}", output)
    finally:
        process.kill()
        process.wait(DEADLINE)


def _until_it_listens(process: subprocess.Popen[bytes], address: str, output: Path) -> None:
    host, _, port = address.rpartition(":")
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        assert process.poll() is None, f"the collector ended: {output.read_text()}"
        try:
            socket.create_connection((host, int(port)), DEADLINE).close()
            return
        except ConnectionRefusedError:
            time.sleep(POLL)
    raise AssertionError(f"the collector does not listen: {output.read_text()}")


def _span(text: str, resource: Attributes) -> Span:
    about, _, events = text.partition("\nEvents:\n")

    def told(name: str) -> str:
        match = re.search(rf"^ *{name} *: *(.*)$", about, re.MULTILINE)
        return match[1] if match is not None else ""

    return Span(
        told("Trace ID"),
        told("Parent ID"),
        told("ID"),
        told("Name"),
        told("Kind"),
        told("Status code"),
        int(told("Start time")),
        int(told("End time")),
        _attributes(about),
        [_event(each) for each in re.split(r"^SpanEvent #\d+\n", events, flags=re.MULTILINE)[1:]],
        resource,
    )


def _event(text: str) -> Event:
    name, moment = re.search(r"-> Name: (.*)", text), re.search(r"-> Timestamp: (\d+)", text)
    assert name is not None
    assert moment is not None
    return Event(name[1], int(moment[1]), _attributes(text))


def _attributes(text: str) -> Attributes:
    found = re.findall(r"-> ([\w.]+): (Str|Int|Double|Bool)\((.*)\)$", text, re.MULTILINE)
    return {name: _TYPES[kind](value) for name, kind, value in found}
