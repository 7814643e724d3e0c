"""The micro bench: every case does what its name says, and figures are told as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.micro import __main__ as micro
from bench.micro import passage, show
from bench.micro.dry import Dry, Wire, services
from bench.micro.measure import Case, Figure, measure
from bench.micro.messages import MODEL, STREAM_HEAD, answer, chunk, request
from enginehouse.core.config.router import RouterConfig
from enginehouse.data.request_reader import RequestReader
from enginehouse.wire.known_heads import KnownHeads
from enginehouse.wire.request_head import RequestHead


@pytest.mark.parametrize("case", micro.CASES, ids=lambda case: case.name)
def test_every_case_runs(case: Case) -> None:
    operation = case.make()
    for _ in range(3):
        operation()


def test_cases_have_names_of_their_own_and_cover_what_has_a_budget() -> None:
    names = [case.name for case in micro.CASES]
    assert len(set(names)) == len(names)
    for budget in ("peek: chat of 1 MiB", "choose: least_load, 8 of 1000", "request: head known, access log",
                   "request: head known, 1000 services", "chunk: one in a read"):  # fmt: skip
        assert budget in names


def test_a_case_is_measured_in_rounds_and_by_unit() -> None:
    calls = 0

    def one() -> None:
        nonlocal calls
        calls += 1

    *_, (done, figures) = measure([Case("a", lambda: one), Case("b", lambda: one, 4)], 3, 0.001)
    assert done == 3
    assert [len(figure.rounds) for figure in figures.values()] == [3, 3]
    assert figures["b"].units % 4 == 0
    assert calls > figures["a"].units * 3
    assert all(value > 0 for figure in figures.values() for value in figure.rounds)


def test_the_figure_is_the_median_and_its_spread_half_the_range() -> None:
    figure = Figure((100.0, 110.0, 80.0), 1000)
    assert (figure.median, figure.spread) == (100.0, 0.15)


def test_the_command_runs_what_is_asked_for_and_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert micro.main(["chunk", "--rounds", "2", "--seconds", "0.001"]) == 0
    first, header, *lines = capsys.readouterr().out.splitlines()
    assert first == ("compiled" if show.is_compiled() else "pure Python")
    assert "CPU per unit" in header
    assert [line.split("  ")[0] for line in lines] == [c.name for c in micro.CASES if c.name.startswith("chunk")]


def test_a_run_can_be_kept_and_compared_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "before.json"
    micro.main(["chunk: one", "--rounds", "1", "--seconds", "0.001", "--json"])
    kept.write_text(capsys.readouterr().out)
    data = json.loads(kept.read_text())
    assert (data["bench"], set(data["cases"])) == ("micro", {"chunk: one in a read", "chunk: one in two reads"})
    micro.main(["chunk", "--rounds", "1", "--seconds", "0.001", "--compare", str(kept)])
    lines = {line.split("  ")[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines()[2:]}
    assert float(lines["chunk: one in a read"]) > 0
    assert lines["chunk: two in a read"] == "–"


def test_ratios_are_those_of_medians() -> None:
    text = show.table({"a": Figure((50.0, 50.0, 90.0), 1), "b": Figure((2e6,), 1)}, {"a": 100.0})
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["a", "50", "ns", "±40%", "0.50"],
        ["b", "2", "ms", "±0%", "–"],
    ]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"bench":"proxy","schema":1,"cases":{}}'])
def test_what_is_no_result_of_this_bench_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    for path in (file, tmp_path / "missing.json"):
        with pytest.raises(SystemExit):
            micro.main(["chunk", "--compare", str(path)])
        assert path.name in capsys.readouterr().err


def test_a_name_that_no_case_has_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        micro.main(["no such case"])
    assert "chunk: one in a read" in capsys.readouterr().err


def test_fresh_heads_are_known_to_nobody_however_often_they_take_turns() -> None:
    known: KnownHeads[RequestHead] = KnownHeads()
    reader = RequestReader(passage._Sink(), RouterConfig(), known)
    reads = passage._requests(fresh=True)
    assert len(set(passage._answers(fresh=True))) == len(set(reads)) == len(reads)
    for data in reads * 2:
        reader.feed(data, 1.0)
    assert len(known) == 0


def test_the_worker_without_sockets_answers_as_one_with_sockets_does() -> None:
    dry = Dry(services(2, lambda _: (MODEL,)))
    client = dry.client()
    wire = client.transport
    assert isinstance(wire, Wire)
    for _ in range(3):
        client.data_received(request())
        engine = dry.engine(client)
        sent = engine.transport
        assert isinstance(sent, Wire)
        assert sent.last.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.")
        engine.data_received(answer())
        assert wire.last.startswith(b"HTTP/1.1 200 OK\r\n")
        assert wire.last.endswith(answer().partition(b"\r\n\r\n")[2])
    client.data_received(request())
    engine = dry.engine(client)
    engine.data_received(STREAM_HEAD)
    engine.data_received(chunk())
    assert wire.last == chunk()
    engine.data_received(b"0\r\n\r\n")
    assert client.driver is None
    assert sum(dry.shared.loads[0]) == 0
