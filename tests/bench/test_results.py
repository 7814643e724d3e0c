"""What is written down of a run: nothing that belongs to this machine, nothing a thousand times."""

import json
from pathlib import Path

import pytest

from bench.common.machine import ROOT, portable, shortened
from bench.common.processes import BenchError
from bench.common.results import Results as Rows
from bench.proxy.results import Results


def test_folders_and_ports_of_this_run_are_taken_out() -> None:
    text = f"taskset -c 1 {ROOT}/.bench/env/x/bin/x --log '{ROOT}/.bench/run-ab/y.log' --port 4711 http://127.0.0.2:4712/v1"
    assert portable(text, {4711, 4712}) == "taskset -c 1 x --log 'y.log' --port PORT http://127.0.0.2:PORT/v1"


def test_other_numbers_and_paths_stay() -> None:
    text = "keepalive_requests 47110; location = /v1/models; /usr/sbin/nginx"
    assert portable(text, {4711}) == text


def test_lines_that_differ_in_numbers_only_are_shown_twice() -> None:
    lines = [f"    server 127.0.0.{index}:9000;" for index in range(2, 1002)]
    text = "\n".join(["upstream {", *lines, "}", ""])
    assert shortened(text).splitlines() == ["upstream {", *lines[:2], "    … and 998 more lines like these", "}"]


def test_short_texts_stay_as_they_are() -> None:
    text = "[router]\nport = 1\nworkers = 2\n\n\nhost = 3"
    assert shortened(text + "\n").rstrip() == text


def test_a_configuration_is_kept_once_and_again_where_it_differs(tmp_path: Path) -> None:
    results = Results(tmp_path / "deep" / "proxy.json", {"runs": 1})
    for case, text in (("json-1", "a"), ("json-64", "a"), ("sse-64", "b"), ("sse-512", "b")):
        results.describe("nginx", case, {"version": "1"}, {"nginx.conf": text})
    results.write()
    written = json.loads((tmp_path / "deep" / "proxy.json").read_text())
    assert written["contestants"]["nginx"] == {
        "version": "1",
        "configs": {"nginx.conf": "a", "nginx.conf (sse-64)": "b"},
    }
    assert written["schema"] == 1
    assert written["finished"] is False


def test_an_interrupted_run_is_gone_on_with_where_what_was_measured_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    first = Rows(path, "x", {}, ("LICENSE",))
    first.add({"case": "a", "run": 1, "took": 3})
    again = Rows(path, "x", {}, ("LICENSE",))
    again.resume("LICENSE")
    assert again.has({"case": "a", "run": 1})
    assert not again.has({"case": "a", "run": 2})
    again.add({"case": "a", "run": 2, "took": 4})
    again.finish()
    written = json.loads(path.read_text())
    assert [row["run"] for row in written["rows"]] == [1, 2]
    assert (written["started"], written["finished"]) == (first.data["started"], True)
    assert [session["commit"] for session in written["resumed"]] == [written["commit"]]


def test_a_run_of_another_version_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    first = Rows(path, "x", {}, ("LICENSE",))
    first.data["dirty"] = True
    first.write()
    with pytest.raises(BenchError, match="begin anew"):
        Rows(path, "x", {}, ("LICENSE",)).resume("LICENSE")


def test_where_there_is_nothing_to_go_on_with_it_begins(tmp_path: Path) -> None:
    results = Rows(tmp_path / "x.json", "x", {}, ("LICENSE",))
    results.resume("LICENSE")
    assert results.data["rows"] == []
