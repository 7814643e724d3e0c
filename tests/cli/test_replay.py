"""`enginehouse replay` as a process: what it reports, where, what it refuses, and that Ctrl-C reports what was done."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from enginehouse.replay.traces import read
from tests.cli.programs import Running, run, run_on_terminal
from tests.contract.router import engines, running, static
from tests.e2e.engines import LlamaFactory, SimFactory
from tests.pictures import check
from tests.ports import Ports

MOONCAKE = "".join(
    json.dumps({"timestamp": 100 * at, "input_length": 700, "output_length": 12, "hash_ids": [0, at + 1]}) + "\n"
    for at in range(20)
)


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "conversation.jsonl"
    path.write_text(MOONCAKE)
    return str(path)


def test_a_trace_is_played_and_reported_as_json_with_pictures_and_every_call(
    trace: str, tmp_path: Path, sim_engine: SimFactory
) -> None:
    sim = sim_engine(engine_model="h100-8b", time_scale=10.0, models=("m",))
    files = ["--json", str(tmp_path / "r.json"), "--calls", str(tmp_path / "c.jsonl"), "--plots", str(tmp_path / "p")]
    ordered = ["--requests", "15", "--rate-scale", "2", "--time-scale", "10", "--jitter", "--slo-ttft", "0.5"]
    done = run("replay", trace, "--url", f"{sim.url}/v1", *ordered, *files, ENGINEHOUSE_REPLAY_API_KEY="very-secret")
    assert done.returncode in (0, 1), done.stderr  # 1 on a machine so loaded that the client was late
    told = json.loads(done.stdout)
    assert told == json.loads((tmp_path / "r.json").read_text())
    assert (told["planned"], told["asked"], told["answered"], told["errors"]) == (15, 15, 15, {})
    assert told["trace"] == {"name": "conversation", "requests": 15, "sessions": 15}
    assert told["options"]["model"] == "m"
    assert told["objective"]["ttft"] == 0.5
    assert told["tokens"]["output"] == told["tokens"]["asked_output"] == 15 * 12
    assert told["tokens"]["hit_share"] > 0.4
    assert told["model"]["ttft"]["mean"] == pytest.approx(10 * told["wall"]["ttft"]["mean"])
    calls = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert [call["ending"] for call in calls] == ["answered"] * 15
    assert all(0 <= call["due"] <= call["first"] <= call["end"] for call in calls)
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["timeline.svg", "ttft.svg"]
    for picture in (tmp_path / "p").iterdir():
        check(picture.read_text())
    everything = done.stdout + done.stderr + "".join(p.read_text() for p in tmp_path.rglob("*.*") if p.is_file())
    assert "very-secret" not in everything


def test_a_terminal_gets_tables_and_progress(trace: str, sim_engine: SimFactory) -> None:
    sim = sim_engine(tokens=100)
    status, seen = run_on_terminal("replay", trace, "--url", f"{sim.url}/v1", NO_COLOR="1")
    assert status in (0, 1)
    assert seen.startswith(f"{sim.url}/v1  sim-model  20 requests of conversation")
    assert " of 20 asked · " in seen
    report = seen.rpartition("\x1b[K")[2]
    rows = [line.split() for line in report.splitlines()]
    assert ["MEAN", "P50", "P90", "P99", "MAX"] in rows
    assert any(row[:6] == ["answered", "20", "of", "20", "asked,", "in"] for row in rows)
    assert "240 out where 240 were asked for" in report


def test_through_a_router_each_service_has_its_share_and_a_prefix_is_found_warm(tmp_path: Path) -> None:
    model = {"engine_model": "h100-8b", "time_scale": 10.0}
    with (
        engines(a=model, b=model) as sims,
        running(tmp_path, [static(sim) for sim in sims.values()]) as router,
    ):
        router.until_healthy("a", "b")
        load = "agents:sessions=8,turns=4,rate=4,groups=2,output=20,delay=0.1"
        words = ("--url", f"{router.url}/v1", "--time-scale", "10", "--plots", str(tmp_path))
        told = json.loads(run("replay", load, *words).stdout)
    assert (told["answered"], told["errors"]) == (32, {})
    assert {service["name"] for service in told["services"]} <= {"a", "b"}
    assert sum(service["requests"] for service in told["services"]) == 32
    assert (
        sum(service["computed"] for service in told["services"]) == told["tokens"]["prompt"] - told["tokens"]["cached"]
    )
    assert told["tokens"]["hit_share"] > 0.5  # three turns of four have all before them in a cache
    check((tmp_path / "balance.svg").read_text())


def test_a_made_up_load_is_written_and_played_from_its_file(tmp_path: Path, sim_engine: SimFactory) -> None:
    path = tmp_path / "agents.jsonl"
    done = run("replay", "agents:sessions=6,turns=3,rate=50,delay=0.01", "--write", str(path), "--seed", "4")
    assert (done.returncode, done.stdout) == (0, f"{path}: 6 sessions, 18 requests\n")
    assert read(path).requests == 18
    sim = sim_engine(tokens=4000)
    told = json.loads(run("replay", str(path), "--url", f"{sim.url}/v1", "--concurrency", "2").stdout)
    assert (told["answered"], told["planned"]) == (18, 18)


def test_ctrl_c_reports_what_was_done(tmp_path: Path, sim_engine: SimFactory) -> None:
    sim = sim_engine(ttft=0.01, tokens=100)
    calls = tmp_path / "calls.jsonl"
    words = ["--url", f"{sim.url}/v1", "--json", str(tmp_path / "r.json"), "--calls", str(calls)]
    playing = Running("replay", "unique:requests=100000,rate=20,output=5", *words, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 60
        while sim.stats()["requests"] < 5:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        playing.interrupt()
        assert playing.ended() == 130
    finally:
        playing.close()
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["planned"] == 100_000
    assert 1 <= told["answered"] <= told["asked"] < 100_000
    assert len(calls.read_text().splitlines()) == told["asked"]


def test_errors_are_reported_by_kind_and_nothing_answered_is_exit_status_1(trace: str, sim_engine: SimFactory) -> None:
    sim = sim_engine(faults=("status:code=503",))
    done = run("replay", trace, "--url", f"{sim.url}/v1", "--model", "sim-model")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["answered"], told["rejected"]) == (0, 20)
    assert sum(told["errors"].values()) == 20
    assert next(iter(told["errors"])).startswith("rejected: 503")


def refused(*words: str, key: str = "") -> str:
    done = run("replay", *words, ENGINEHOUSE_REPLAY_API_KEY=key)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_bad_line_is_named_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(MOONCAKE + '{"timestamp": 0}\n')
    assert refused(str(path), "--url", "http://127.0.0.1:1/v1").startswith(
        "enginehouse replay: bad.jsonl, line 21: Object missing required field `input_length`; mend the line"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.jsonl", "--url", "http://h/v1"], "none.jsonl cannot be read: No such file"),
        (["hot:shares=1", "--url", "http://h/v1"], "hot has no setting 'shares'; did you mean share?"),
        (["hot"], "--url is needed: the API to ask, like --url http://127.0.0.1:8080/v1"),
        (["hot", "--url", "127.0.0.1:8080"], "it should be like http://127.0.0.1:8080/v1"),
        (["hot", "--url", "http://h/v1", "--rate-scale", "0"], "argument --rate-scale: 0 is not above 0"),
        (["hot", "--url", "http://h/v1", "--requests", "-3"], "argument --requests: -3 is below 1"),
        (["hot", "--url", "http://h/v1", "--session-header", "a b"], "'a b' is no name of a header"),
        (["hot", "--url", "http://h/v1", "--time-scal", "2"], "did you mean --time-scale?"),
        (["hot", "--url", "http://h/v1", "--json", "/no/such/dir/r.json"], "/no/such/dir/r.json cannot be written"),
    ],
)
def test_what_cannot_be_played_is_refused_with_the_way_out(words: list[str], said: str) -> None:
    assert said in refused(*words)


def test_a_key_that_could_not_be_a_header_is_refused() -> None:
    said = refused("hot", "--url", "http://h/v1", key="a\nb")
    assert "ENGINEHOUSE_REPLAY_API_KEY" in said
    assert "a\nb" not in said


def test_nobody_there_is_said_with_the_address(ports: Ports) -> None:
    port = ports.one()
    said = refused("hot", "--url", f"http://127.0.0.1:{port}/v1", "--model", "m")
    assert f"http://127.0.0.1:{port}/v1 cannot be reached: Connection refused" in said


def test_a_model_that_is_not_there_is_said_with_those_that_are(sim_engine: SimFactory) -> None:
    sim = sim_engine(models=("org/chat-a", "org/chat-b"))
    said = refused("hot", "--url", f"{sim.url}/v1", "--model", "org/chat-c")
    assert "has no model org/chat-c; did you mean" in said
    assert "it has org/chat-a, org/chat-b" in said
    assert "which model?" in refused("hot", "--url", f"{sim.url}/v1")


def test_a_key_that_is_missing_is_said_with_where_it_goes(sim_engine: SimFactory) -> None:
    sim = sim_engine(api_key="right")
    said = refused("hot", "--url", f"{sim.url}/v1")
    assert "refuses requests without a key (status 401); a key goes into $ENGINEHOUSE_REPLAY_API_KEY" in said
    done = run(
        *("replay", "hot:requests=3,rate=100,prefix=500,output=3", "--url", f"{sim.url}/v1"),
        ENGINEHOUSE_REPLAY_API_KEY="right",
    )
    assert json.loads(done.stdout)["answered"] == 3


def test_a_real_engine_gives_as_many_tokens_as_were_asked_for_and_tells_what_it_had_cached(
    llama_engine: LlamaFactory,
) -> None:
    engine = llama_engine("tiny")
    load = "agents:sessions=2,turns=3,rate=2,groups=1,system=512,first=40,input=20,output=8,delay=0.1"
    told = json.loads(run("replay", load, "--url", f"{engine.url}/v1", "--concurrency", "1").stdout)
    assert (told["answered"], told["errors"]) == (6, {})
    assert told["tokens"]["output"] == told["tokens"]["asked_output"]
    assert told["tokens"]["hit_share"] > 0.3
