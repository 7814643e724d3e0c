"""Tables built from a snapshot."""

from enginehouse.core.config.router import ModelConfig
from tests.policy.fleets import service, services, table


def test_only_services_that_are_up_and_meant_for_inference_are_candidates() -> None:
    """A babysitter registers itself too and must never get a prompt."""
    built = table(
        service("good", 0),
        service("down", 1, up=False),
        service("babysitter", 2, inference=False),
    )
    assert [s.name for s in built.models["m"].services] == ["good"]
    assert [s.name for s in built.everyone.services] == ["good"]
    assert set(built.by_slot) == {0, 1, 2}


def test_known_models_include_those_seen_earlier_and_those_of_services_that_are_down() -> None:
    built = table(service("a", 0, models=("now",)), service("b", 1, models=("later",), up=False), known=("once",))
    assert built.known == {"now", "later", "once"}
    assert built.served == ("now",)


def test_a_model_has_its_own_policy_and_others_the_default() -> None:
    built = table(service("a", 0, models=("x", "y")), policy="random", models={"x": ModelConfig(policy="least_load")})
    assert built.models["x"].policy == "least_load"
    assert built.models["y"].policy == "random"
    assert built.everyone.policy == "random"


def test_an_alias_leads_to_the_real_model() -> None:
    built = table(*services(1, 1), models={"m": ModelConfig(aliases=("gpt-4", "default"))})
    assert built.models["gpt-4"] is built.models["m"]
    assert built.models["gpt-4"].model == "m"
    assert built.served == ("m",)


def test_an_alias_of_a_model_nobody_serves_is_an_entry_without_services() -> None:
    built = table(models={"m": ModelConfig(aliases=("gpt-4",))})
    assert built.models["gpt-4"].model == "m"
    assert built.models["gpt-4"].services == ()
    assert "m" not in built.models


def test_aliases_do_not_chain_and_a_model_with_a_section_of_its_own_is_never_an_alias() -> None:
    built = table(
        service("a", 0, models=("b",)),
        service("c", 1, models=("c",)),
        models={"b": ModelConfig(aliases=("x",)), "c": ModelConfig(aliases=("b",))},
    )
    assert built.models["b"].model == "b"
    assert built.models["x"].model == "b"


def test_the_rotation_respects_weights() -> None:
    built = table(*services(3, 1))
    names = [s.name for s in built.models["m"].rotation]
    assert sorted(names) == ["s0", "s0", "s0", "s1"]


def test_a_model_listed_twice_by_a_service_counts_once() -> None:
    assert len(table(service("a", models=("m", "m"))).models["m"].services) == 1


def test_cache_types_are_noticed() -> None:
    assert not table(*services(1)).has_cache_types
    assert table(service("a", cache_type="static")).has_cache_types
    assert not table(service("a", cache_type="static", up=False)).has_cache_types
