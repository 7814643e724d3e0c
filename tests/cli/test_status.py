"""`enginehouse status`: a table on a terminal, JSON otherwise, a clear word when nobody answers."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.programs import run, run_on_terminal


def service(name: str, **more: Any) -> dict[str, Any]:
    known = {"healthy": True, "request_count": 7, "error_count": 0, "response_time": 0.0123, "weight": 1}
    return {"name": name, "host": "h", "port": 1, "url": "http://h:1", "models": ["m"], "metadata": {}} | known | more


SERVICES = [
    service("a-server", models=["m1", "m2", "m3", "m4", "m5"]),
    service("b-server", healthy=False, error_count=2, response_time=1.5),
]
DETAILS = {
    "a-server": {"state": "up", "reason": "", "in_flight": 3},
    "b-server": {"state": "down", "reason": "connection refused", "in_flight": 0},
}
ANSWERS: dict[str, Any] = {
    "/services": {"services": SERVICES, "total": 2, "rejected": [{"name": "bad one", "reason": "`name` is not one"}]},
    "/stats": {"services": SERVICES, "details": DETAILS, "registry_url": "http://r:8081", "synced": True},
}


@pytest.fixture
def answers() -> dict[str, Any]:
    return dict(ANSWERS)


@pytest.fixture
def url(answers: dict[str, Any]) -> Iterator[str]:
    """A router that gives these answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers[self.path]).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_terminal_gets_a_table_of_services_models_health_and_requests(url: str) -> None:
    status, seen = run_on_terminal("status", "--router", url, NO_COLOR="1")
    assert status == 0
    title, heading, first, second, rejected = [line.rstrip() for line in seen.splitlines()]
    assert title == f"{url}  1 of 2 services healthy  registry http://r:8081"
    assert heading.split()[:3] == ["SERVICE", "HEALTH", "MODELS"]
    assert " ".join(first.split()) == "a-server up m1, m2, m3, +2 3 7 0 12.3 ms 1 http://h:1"
    assert " ".join(second.split()) == "b-server down: connection refused m 0 7 2 1.50 s 1 http://h:1"
    assert rejected == "not used  bad one: `name` is not one"


def test_what_is_sick_is_red_on_a_terminal_that_has_colours(url: str) -> None:
    _, seen = run_on_terminal("status", "--router", url)
    assert "\x1b[31mdown: connection refused" in seen
    assert "\x1b[32mup" in seen


def test_who_is_ejected_rests_or_starts_slowly_is_told(url: str, answers: dict[str, Any]) -> None:
    names = ("out", "resting", "back")
    services = [service(name, healthy=name != "out") for name in names]
    details = {
        "out": {"state": "ejected", "reason": "too much", "ejected_for": 27.6},
        "resting": {"state": "up", "rests_for": 0.7, "slow_start_for": None},
        "back": {"state": "up", "rests_for": None, "slow_start_for": 3.0},
    }
    answers["/services"] = {"services": services, "rejected": []}
    answers["/stats"] = {"services": services, "details": details}
    _, seen = run_on_terminal("status", "--router", url, NO_COLOR="1")
    assert [" ".join(line.split()).split(" m ")[0] for line in seen.splitlines()[2:]] == [
        "out ejected for 28 s: too much",
        "resting up, rests",
        "back up, starts slowly",
    ]


def test_names_from_a_registry_cannot_paint_on_the_terminal(url: str, answers: dict[str, Any]) -> None:
    answers["/services"] = {"services": [service("[red]x[/]", models=["[bold]m"])], "rejected": []}
    assert "[red]x[/]" in run_on_terminal("status", "--router", url, NO_COLOR="1")[1]


def test_a_program_gets_json_and_a_person_who_asks_for_it_too(url: str) -> None:
    for output in (run("status", "--router", url).stdout, run_on_terminal("status", "--router", url, "--json")[1]):
        told = json.loads(output)
        assert told["services"] == SERVICES
        assert told["details"] == DETAILS
        assert told["rejected"][0]["name"] == "bad one"


def test_a_router_of_the_inherited_kind_which_tells_less_is_shown_too(url: str, answers: dict[str, Any]) -> None:
    answers["/stats"] = {"total_services": 2, "services": SERVICES}
    answers["/services"] = {"services": SERVICES, "total": 2}
    status, seen = run_on_terminal("status", "--router", url, NO_COLOR="1")
    assert status == 0
    assert "b-server  down " in seen


def test_nothing_healthy_is_exit_status_1_and_no_service_at_all_says_what_to_do(
    url: str, answers: dict[str, Any]
) -> None:
    answers["/services"] = {"services": [], "rejected": []}
    status, seen = run_on_terminal("status", "--router", url, NO_COLOR="1")
    assert status == 1
    assert "start an engine with `enginehouse babysitter`" in seen.replace("\r\n", " ")


def test_a_router_that_is_not_there_is_named_with_the_way_out(ports: Any) -> None:
    port = ports.one()
    done = run("status", "--router", f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert done.stderr == (
        f"enginehouse status: http://127.0.0.1:{port} cannot be reached: Connection refused\n"
        "Is the router running? Another address: --router URL.\n"
    )


def test_something_else_than_a_router_is_recognised(url: str, answers: dict[str, Any]) -> None:
    answers["/services"] = {"detail": "Not Found"}
    done = run("status", "--router", url)
    assert done.returncode == 1
    assert "answers, but not as a router does" in done.stderr
