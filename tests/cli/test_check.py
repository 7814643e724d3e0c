"""`enginehouse check`: what it finds in a house, an engine's file and static services, and that it says the fix."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from enginehouse.cli.check import inspect
from enginehouse.cli.findings import Finding, Level
from tests.cli.programs import run
from tests.ports import Ports

SAFE = '[router]\nhost = "127.0.0.1"\nport = 0\n[registry]\nhost = "127.0.0.1"\nport = 0\njournal = ""\n'


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(text: str, name: str = "house.toml") -> list[Finding]:
    Path(name).write_text(text)
    return list(inspect(name)[1])


def bad(text: str, name: str = "house.toml") -> list[Finding]:
    """What is worth a WARN or a FAIL."""
    return [finding for finding in found(text, name) if finding.level is not Level.OK]


def engine(name: str, port: int, more: str = "", backend: str = 'type = "mock", models = ["m"]') -> str:
    return f'[[engine]]\nname = "{name}"\nport = {port}\nbackend = {{ {backend} }}\n{more}\n'


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_a_house_with_nothing_wrong_gets_ok_lines_only_and_exit_status_0(ports: Ports) -> None:
    text = SAFE + engine("a", ports.pair()) + engine("b", ports.pair())
    assert {finding.level for finding in found(text)} == {Level.OK}
    done = run("check", "house.toml")
    assert done.returncode == 0
    assert done.stdout.endswith("0 failures, 0 warnings\n")


def test_a_failure_makes_the_exit_status_1_and_every_bad_line_is_followed_by_its_fix() -> None:
    Path("house.toml").write_text(SAFE + engine("a", 9000) + engine("b", 9001))
    done = run("check", "house.toml")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    wrong = [number for number, line in enumerate(lines) if line.startswith(("  FAIL ", "  WARN "))]
    assert wrong
    assert all(lines[number + 1].startswith("        → ") for number in wrong)


def test_an_unknown_key_is_named_with_the_nearest_valid_one() -> None:
    finding = only(bad("[router]\nprot = 1\n"))
    assert finding.level is Level.FAIL
    assert finding.text == "`router`: unknown key `prot`; did you mean `port`?"


def test_wrong_syntax_is_told_with_its_place() -> None:
    assert "not valid TOML" in only(bad("[router\n")).text
    assert "line 1" in only(bad("[router\n")).text


def test_one_engines_port_plus_one_is_another_ones_port(ports: Ports) -> None:
    port = ports.pair()
    finding = only([f for f in bad(SAFE + engine("a", port) + engine("b", port + 1)) if f.level is Level.FAIL])
    assert finding.text == (
        f"port {port + 1} is wanted by the babysitter of a and by the engine b "
        "(a babysitter listens on its engine's port + 1)"
    )
    assert finding.fix == f"give the engine b another port, e.g. {port + 3}"


def test_router_registry_and_engines_want_ports_of_their_own(ports: Ports) -> None:
    port = ports.pair()
    text = f'[router]\nhost = "127.0.0.1"\nport = {port}\n[registry]\nhost = "127.0.0.1"\nport = {port}\njournal = ""\n'
    assert any("wanted by the router and by the registry" in f.text for f in bad(text + engine("a", port + 10)))
    text = text.replace(f"port = {port}\njournal", f"port = {port + 1}\njournal") + engine("a", port)
    clashes = [f.text for f in bad(text) if "wanted" in f.text]
    assert clashes[0].startswith(f"port {port} is wanted by the router and by the engine a")
    assert clashes[1].startswith(f"port {port + 1} is wanted by the registry and by the babysitter of a")


def test_a_port_that_somebody_uses_now_is_worth_a_warning() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        text = SAFE.replace("port = 0\n[registry]", f"port = {port}\n[registry]") + engine("a", 9000)
        assert f"port {port} (router) is in use now" in [f.text for f in bad(text) if f.level is Level.WARN]


def test_two_engines_of_one_name_or_a_name_that_an_other_engine_takes_as_its_server(ports: Ports) -> None:
    text = SAFE + engine("a", ports.pair()) + engine("a-server", ports.pair())
    assert only(bad(text)).text == "2 services would register as a-server"


def test_an_engine_whose_program_is_not_on_the_path(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    text = SAFE + engine("a", ports.pair(), backend='type = "vllm", model = "org/model"')
    finding = only(bad(text))
    assert finding.text == "engine a: the program vllm is not there"
    assert "pip install vllm" in finding.fix


def test_a_kind_of_engine_that_there_is_not_and_a_key_that_a_kind_needs(ports: Ports) -> None:
    assert "did you mean 'vllm'?" in only(bad(SAFE + engine("a", ports.pair(), backend='type = "vlm"'))).text
    assert "`backend.model`" in only(bad(SAFE + engine("a", ports.pair(), backend='type = "vllm"'))).text


def test_a_model_file_that_is_not_there_but_a_name_to_download_is_left_to_the_engine(ports: Ports) -> None:
    backend = 'type = "llama.cpp", command = "true", model = "MODEL"'
    finding = only(bad(SAFE + engine("a", ports.pair(), backend=backend.replace("MODEL", "no.gguf"))))
    assert finding.text == "engine a: backend.model no.gguf is not there"
    assert not bad(SAFE + engine("a", ports.pair(), backend=backend.replace("MODEL", "org/model")))


def test_a_model_in_a_home_folder_needs_its_path_written_out(ports: Ports) -> None:
    backend = 'type = "llama.cpp", command = "true", model = "~/m.gguf"'
    assert "~ is not expanded" in only(bad(SAFE + engine("a", ports.pair(), backend=backend))).fix


def test_a_key_among_the_arguments_is_seen_by_everybody(ports: Ports) -> None:
    finding = only(bad(SAFE + engine("a", ports.pair(), backend='type = "mock", args = ["--api-key=s3cr3t"]')))
    assert "list of processes" in finding.text
    assert "s3cr3t" not in finding.text + finding.fix


def test_key_files_must_be_there_hold_something_and_be_nobody_elses(ports: Ports) -> None:
    Path("empty").touch(mode=0o600)
    Path("open").write_text("key")
    Path("open").chmod(0o644)
    Path("good").write_text("key")
    Path("good").chmod(0o600)
    for name, level, words in [
        ("absent", Level.FAIL, "cannot be read"),
        ("empty", Level.FAIL, "is empty"),
        ("open", Level.WARN, "may be read by others"),
    ]:
        finding = only(
            bad(SAFE.replace("[registry]", f'[registry]\ntoken_file = "{name}"') + engine("a", ports.pair()))
        )
        assert (finding.level, words in finding.text) == (level, True), finding
    assert not bad(SAFE.replace("[registry]", '[registry]\ntoken_file = "good"') + engine("a", ports.pair()))


def test_open_to_the_network_without_a_token_is_worth_a_warning(ports: Ports) -> None:
    open_house = SAFE.replace("127.0.0.1", "0.0.0.0")
    warned = [f.text for f in bad(open_house + engine("a", ports.pair())) if f.level is Level.WARN]
    assert [text.split(" 0.0.0.0 ")[0] for text in warned] == ["the registry listens on", "the router listens on"]


def test_heartbeats_rarer_than_the_registrys_patience(ports: Ports) -> None:
    text = SAFE + engine("a", ports.pair(), more="babysitter = { heartbeat_interval = 100 }")
    assert "a heartbeat every 100 s is too rare" in only(bad(text)).text


def test_an_alias_of_two_models_and_networks_that_are_none(ports: Ports) -> None:
    models = '[router.models.a]\naliases = ["x"]\n[router.models.b]\naliases = ["x"]\n'
    assert only(bad(SAFE + models + engine("a", ports.pair()))).text == "2 models have the alias x"
    text = SAFE.replace("[registry]", '[registry]\nallow_networks = ["10.0.0.0/33"]')
    assert "'10.0.0.0/33' is not a CIDR block" in only(bad(text + engine("a", ports.pair()))).text


def test_metadata_that_the_registry_would_refuse(ports: Ports) -> None:
    finding = only(bad(SAFE + engine("a", ports.pair(), more="metadata = { capacity = 0 }")))
    assert "the registry would refuse it: `metadata.capacity`" in finding.text


def test_a_babysitters_own_file_is_checked_as_such(ports: Ports) -> None:
    text = f'port = {ports.pair()}\n[backend]\ntype = "mock"\n'
    assert inspect_kind(text) == "one engine and its babysitter"
    assert "no router will hear of this engine" in only(bad(text, "engine.toml")).text
    far = 'registry_url = "http://registry.lan:8081"\n' + text
    assert "registers as localhost with a registry on another machine" in only(bad(far, "engine.toml")).text


def inspect_kind(text: str) -> str:
    Path("engine.toml").write_text(text)
    return inspect("engine.toml")[0]


STATIC = {"name": "a", "host": "10.0.0.5", "port": 8000, "metadata": {"type": "openai-api", "models": ["m"]}}


@pytest.mark.parametrize("shape", [[STATIC], {"services": [STATIC]}, {"static_services": {"services": [STATIC]}}])
def test_static_services_may_have_each_of_the_three_shapes(shape: object) -> None:
    finding = only(found(json.dumps(shape), "static.json"))
    assert (finding.level, finding.text) == (Level.OK, "service a: http://10.0.0.5:8000  m")


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"name": "a b"}, Level.FAIL, "`name` must be"),
        ({"port": "8000"}, Level.FAIL, "`port` must be"),
        ({"host": "169.254.169.254"}, Level.FAIL, "`host` must be"),
        ({"wieght": 3}, Level.WARN, "the key `wieght` means nothing"),
        ({"metadata": {"cache_type": "warm"}}, Level.WARN, "unknown cache_type 'warm'"),
    ],
)
def test_a_static_service_is_judged_as_the_router_judges_it(
    change: dict[str, object], level: Level, words: str
) -> None:
    finding = only(bad(json.dumps([STATIC | change]), "static.json"))
    assert finding.level is level
    assert words in finding.text


def test_static_services_of_one_name_and_a_file_that_is_no_list_of_services() -> None:
    assert "used by an earlier service" in only(bad(json.dumps([STATIC, STATIC]), "static.json")).text
    assert "must be a list of services" in only(bad('{"service": []}', "static.json")).text
    assert "is not JSON" in only(bad("[", "static.json")).text


def test_a_house_names_the_file_in_which_a_static_service_is_wrong() -> None:
    Path("static.json").write_text(json.dumps([STATIC | {"port": 0}]))
    text = SAFE.replace("[router]", '[router]\nstatic_services = "static.json"')
    assert only(bad(text)).text.startswith("static.json: service a: `port`")
