"""How flags, environment and file become one configuration: precedence, text to values, errors that name the source."""

import argparse
from typing import Any

import pytest

from enginehouse.cli.options import add_flags, build, settings, shown
from enginehouse.core.config.babysitter import BabysitterConfig
from enginehouse.core.config.base import Config, ConfigError
from enginehouse.core.config.registry import RegistryConfig
from enginehouse.core.config.router import RouterConfig


def router(flags: str = "", file: dict[str, Any] | None = None, **environment: str) -> RouterConfig:
    """The router's configuration from a command line, the environment and a file called house.toml."""
    given = vars(parser_of(RouterConfig, "router").parse_args(flags.split()))
    return build(RouterConfig, "router", flags=given, environment=environment, file=file, file_name="house.toml")


def babysitter(*flags: str, file: dict[str, Any] | None = None, **environment: str) -> BabysitterConfig:
    given = vars(parser_of(BabysitterConfig, "babysitter").parse_args(flags))
    return build(BabysitterConfig, "babysitter", flags=given, environment=environment, file=file)


def parser_of(kind: type[Any], section: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, kind, section)
    return parser


def test_without_anything_given_the_defaults_of_the_struct_hold() -> None:
    assert router() == RouterConfig()


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() -> None:
    file = {"port": 1111, "workers": 2, "max_errors": 5}
    made = router("--router-port 3333", file, ENGINEHOUSE_ROUTER_PORT="2222", ENGINEHOUSE_ROUTER_WORKERS="4")
    assert (made.port, made.workers, made.max_errors, made.health_interval) == (3333, 4, 5, 30.0)


def test_the_merge_does_not_change_what_was_read_from_the_file() -> None:
    file = {"name": "a", "port": 9000, "backend": {"type": "mock"}}
    made = babysitter("--service-type", "vllm", file=file)
    assert made.backend.type == "vllm"
    assert file == {"name": "a", "port": 9000, "backend": {"type": "mock"}}


def test_the_inherited_variable_sets_both_timeouts_and_a_derived_name_beats_it() -> None:
    made = router(PROXY_TIMEOUT_SECONDS="60", ENGINEHOUSE_ROUTER_IDLE_TIMEOUT="7.5")
    assert (made.first_byte_timeout, made.idle_timeout) == (60.0, 7.5)
    assert router(CACHE_TYPE_ROUTING_THRESHOLD="1").cache_type_routing_threshold == 1


def test_an_empty_variable_is_not_set() -> None:
    assert router(PROXY_TIMEOUT_SECONDS="", ENGINEHOUSE_ROUTER_PORT="").port == 8080


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_a_switch_in_the_environment_is_true_or_false(text: str, value: bool) -> None:
    assert router(ENGINEHOUSE_ROUTER_STRICT_PATHS=text).strict_paths is value


def test_a_switch_as_a_flag_has_a_form_that_turns_it_off() -> None:
    assert router("--require-model").require_model
    assert not router("--no-require-model", {"require_model": True}).require_model


def test_a_list_is_a_repeated_flag_or_has_commas_in_the_environment() -> None:
    wanted = ("10.0.0.0/8", "::1/128")
    assert router("--trusted-proxies 10.0.0.0/8 --trusted-proxies ::1/128").trusted_proxies == wanted
    assert router(ENGINEHOUSE_ROUTER_TRUSTED_PROXIES="10.0.0.0/8, ::1/128").trusted_proxies == wanted


def test_defect_arguments_are_split_on_blanks() -> None:
    """Defect: Arguments are split on blanks."""
    made = babysitter("--name=a", "--port=1", "--args=--title 'two words' --n=1", "--args=-v")
    assert made.backend.args == ("--title", "two words", "--n=1", "-v")


def test_environment_of_the_engine_is_name_value_one_or_several_a_flag() -> None:
    one = babysitter("--name=a", "--port=1", "--env", "GREETING=hello big world", "--env", "EMPTY=")
    assert one.backend.env == {"GREETING": "hello big world", "EMPTY": ""}
    inherited = babysitter("--name=a", "--port=1", "--env", "CUDA_VISIBLE_DEVICES=0 SPAWN=1")
    assert inherited.backend.env == {"CUDA_VISIBLE_DEVICES": "0", "SPAWN": "1"}


def test_an_environment_value_is_not_shown_when_it_cannot_be_used() -> None:
    with pytest.raises(ConfigError) as error:
        babysitter("--name=a", "--port=1", "--env", "s3cr3t")
    assert str(error.value) == "--env: expected NAME=VALUE, without blanks around the ="


@pytest.mark.parametrize(
    ("flags", "file", "environment", "message"),
    [
        ("--router-port x", {}, {}, "--router-port: expected a whole number, got 'x'"),
        ("--router-port 70000", {}, {}, "--router-port: expected int <= 65535, got 70000"),
        ("--health-interval nan", {}, {}, "--health-interval: expected float > 0.0, got nan"),
        ("--unknown-model-status 500", {}, {}, "--unknown-model-status: expected one of 503, 404, got '500'"),
        ("", {}, {"PROXY_TIMEOUT_SECONDS": "-1"}, "PROXY_TIMEOUT_SECONDS: expected float > 0.0, got -1.0"),
        ("", {}, {"ENGINEHOUSE_ROUTER_PORT": "a"}, "ENGINEHOUSE_ROUTER_PORT: expected a whole number, got 'a'"),
        ("", {"port": "a"}, {}, "house.toml: `port`: expected int, got 'a'"),
        ("", {"prot": 1}, {}, "house.toml: unknown key `prot`; did you mean `port`?"),
        ("", {"models": {"m": {"policy": "x"}}}, {}, "house.toml: `models[...].policy`: must be one of prefix,"),
        ("", {"engines": [{}]}, {}, "house.toml: `engines[0]`: `services` is missing"),
    ],
)
def test_an_error_names_where_the_value_was_written_and_what_is_wrong(
    flags: str, file: dict[str, Any], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        router(flags, file, **environment)
    assert str(error.value).startswith(message)


def test_a_value_of_the_file_that_a_flag_replaces_is_not_complained_about() -> None:
    assert router("--router-port 80", {"port": "a"}).port == 80


def test_a_missing_setting_is_named_with_every_way_to_give_it() -> None:
    with pytest.raises(ConfigError) as error:
        babysitter("--name", "a")
    assert str(error.value) == "`port` is missing: give --port, ENGINEHOUSE_BABYSITTER_PORT or `port` in a file"


def test_a_misspelt_variable_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"ENGINEHOUSE_ROUTER_WROKERS: .*did you mean ENGINEHOUSE_ROUTER_WORKERS"):
        router(ENGINEHOUSE_ROUTER_WROKERS="2")


def test_variables_of_other_commands_and_of_other_programs_are_left_alone() -> None:
    assert router(ENGINEHOUSE_REGISTRY_PROT="x", ENGINEHOUSE_TEST_SESSION="x", PATH="x") == RouterConfig()


def test_what_kubernetes_injects_for_a_service_called_enginehouse_router_is_not_taken_for_a_setting() -> None:
    injected = {
        "ENGINEHOUSE_ROUTER_PORT": "tcp://10.0.0.1:8080",
        "ENGINEHOUSE_ROUTER_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "ENGINEHOUSE_ROUTER_PORT_8080_TCP_ADDR": "10.0.0.1",
        "ENGINEHOUSE_ROUTER_SERVICE_HOST": "10.0.0.1",
        "ENGINEHOUSE_ROUTER_SERVICE_PORT_HTTP": "8080",
    }
    assert router("", None, **injected) == RouterConfig()


INHERITED: dict[tuple[type[Config], str], str] = {
    (RouterConfig, "router"): "--router-port --registry-url --static-services --health-interval --health-timeout "
    "--max-errors --registry-sync-interval --service-removal-grace-period",
    (RegistryConfig, "registry"): "--port --health-interval --health-timeout --cleanup-interval",
    (BabysitterConfig, "babysitter"): "--name --host --port --service-type --command --args --work-dir --registry-url "
    "--router-url --max-restarts --restart-delay --heartbeat-interval --env",
}


@pytest.mark.parametrize(("of", "flags"), INHERITED.items(), ids=lambda value: value[1] if len(value) == 2 else "")
def test_every_flag_of_the_inherited_programs_exists_under_its_name(of: tuple[type[Any], str], flags: str) -> None:
    assert set(flags.split()) <= set(parser_of(*of)._option_string_actions)


def test_no_two_settings_of_a_command_share_a_flag_or_a_variable() -> None:
    for kind, section in INHERITED:
        known = list(settings(kind, section))
        flags = [s.option.flag for s in known if s.option.flag != "-"]
        assert len(flags) == len(set(flags))
        assert len(known) == len({s.variable for s in known})


def test_defaults_are_shown_with_their_unit() -> None:
    assert [shown(30.0, "s"), shown(64 * 2**20, "bytes"), shown(51200, "bytes"), shown(51201, "bytes")] == [
        "30 s",
        "64 MiB",
        "50 KiB",
        "51201 bytes",
    ]
    assert [shown(True), shown(("a", "b")), shown(3)] == ["on", "a, b", "3"]
