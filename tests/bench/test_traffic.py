"""The requests and services of a case."""

import json

import pytest

from bench.common import traffic


@pytest.mark.parametrize("size", [600, 1 << 10, 64 << 10, 1 << 20])
def test_bodies_are_chats_of_about_their_size_that_differ_in_length(size: int) -> None:
    bodies = traffic.bodies(size, traffic.models(3), 6, seed=1)
    assert len({len(body) for body in bodies}) > 3
    assert all(0.85 * size - 60 < len(body) < 1.15 * size + 60 for body in bodies)
    for body in bodies:
        messages = json.loads(body)["messages"]
        assert messages[0]["role"] == "system"
        assert messages[-1]["role"] == "user"


def test_bodies_ask_for_all_models_in_turn_and_are_the_same_for_a_seed() -> None:
    names = traffic.models(200)
    bodies = traffic.bodies(600, names, 200, seed=1)
    assert tuple(json.loads(body)["model"] for body in bodies) == names
    assert bodies == traffic.bodies(600, names, 200, seed=1)
    assert bodies != traffic.bodies(600, names, 200, seed=2)


@pytest.mark.parametrize(("count", "of_a_service", "of_a_model"), [(2, 100, 1), (100, 2, 1), (200, 1, 1), (1000, 1, 5)])
def test_models_are_spread_over_services(count: int, of_a_service: int, of_a_model: int) -> None:
    names = traffic.models(200)
    services = traffic.services(count, 9000, names)
    assert {len(service.models) for service in services} == {of_a_service}
    served = [model for service in services for model in service.models]
    assert {served.count(model) for model in names} == {of_a_model}


def test_every_service_has_a_loopback_address_of_its_own_on_the_same_port() -> None:
    services = traffic.services(1000, 9000, traffic.models(200))
    assert len({service.host for service in services}) == 1000
    assert all(service.host.startswith("127.0.") and service.host.count(".") == 3 for service in services)
    assert services[0].url == "http://127.0.0.2:9000"
