"""Whether an engine is idle, as far as one can see."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from enginehouse.babysitter import idle
from enginehouse.babysitter.idle import connections, is_idle, requests


@pytest.mark.parametrize(
    ("metrics", "count"),
    [
        (
            'vllm:num_requests_running{model_name="m",engine="0"} 2.0\nvllm:num_requests_waiting{model_name="m"} 1.0\n',
            3,
        ),
        ("# HELP sglang:num_running_reqs x\nsglang:num_running_reqs 1\nsglang:num_queue_reqs 0.0\n", 1),
        ("llamacpp:requests_processing 0\nllamacpp:requests_deferred 0\n", 0),
        ("llamacpp:requests_processing 1e+00\n", 1),
        ("http_requests_total 7\n", None),
        ("vllm:num_requests_running_total 7\n", None),
        ("<html>", None),
        ("", None),
    ],
)
def test_engines_tell_their_requests_in_their_own_names(metrics: str, count: float | None) -> None:
    assert requests(metrics) == count


def test_connections_are_counted_at_the_engines_end_only() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert connections(port) == 0  # listening is no connection
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            assert connections(port) == 1
            assert connections(client.getsockname()[1]) == 1
            accepted.close()


def test_connections_over_ipv6_are_counted() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        listener.bind(("::1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection(("::1", port)):
            accepted, _ = listener.accept()
            assert connections(port) == 1
            accepted.close()


def test_a_system_that_does_not_tell_connections_says_so() -> None:
    assert connections(80, (Path("/nowhere/tcp"),)) is None


def test_while_the_router_has_something_left_an_engine_is_not_idle_and_without_connections_to_count_its_word_is_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody = 1  # a port that nobody listens on
    for metrics in ("", "llamacpp:requests_processing 0\n"):
        assert not is_idle(metrics, nobody, drained=False)
        assert is_idle(metrics, nobody, drained=True)
        assert is_idle(metrics, nobody, drained=None)
    assert not is_idle("llamacpp:requests_processing 1\n", nobody, drained=True), "a client that came past the router"
    monkeypatch.setattr(idle, "connections", lambda _: None)  # a system that does not tell
    assert [is_idle("", nobody, drained=word) for word in (False, None, True)] == [False, False, True]


def test_an_engine_that_tells_of_no_request_is_idle_whoever_is_connected() -> None:
    while True:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        if is_idle("", port):
            break
        listener.close()  # somebody else's connection to elsewhere begins at a port of this number
    with listener, socket.create_connection(("127.0.0.1", port)):
        accepted, _ = listener.accept()
        assert not is_idle("", port)
        assert is_idle("llamacpp:requests_processing 0\n", port)
        assert not is_idle("llamacpp:requests_processing 1\n", port)
        accepted.close()
