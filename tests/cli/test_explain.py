"""`enginehouse explain`: what it sends, a table on a terminal, JSON otherwise, a clear word when nobody answers."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.programs import COMMAND, DEADLINE, run, run_on_terminal
from tests.ports import Ports

CHOSEN: dict[str, Any] = {
    "path": "/v1/chat/completions",
    "asked_model": "big",
    "model": "m",
    "policy": "prefix",
    "result": "service",
    "service": "a",
    "reason": "prefix",
    "status": None,
    "code": None,
    "outcome": None,
    "explanation": "The first token comes soonest there.",
    "session": None,
    "prompt": {"bytes": 20_480, "chunks": 11},
    "services": [
        {
            "name": "a", "candidate": True, "share": 1.0, "excluded": None, "note": "", "in_flight": 2, "capacity": 8,
            "matched_bytes": 16_384, "matched_share": 0.8, "uncached_tokens": 1025, "queued_tokens": 7, "cost_ms": 54.4,
            "tokens_per_second": 30_000.0, "bytes_per_token": 4.0,
        },
        {
            "name": "b", "candidate": False, "share": 0.0, "excluded": "down", "note": "it is down: connection refused",
            "in_flight": 0, "capacity": None,
        },
        *[
            {
                "name": f"x{n}", "candidate": False, "share": 0.0, "excluded": "other_model", "note": "",
                "in_flight": 0, "capacity": None,
            }
            for n in range(7)
        ],
    ],
}  # fmt: skip
REFUSED = CHOSEN | {"result": "refused", "service": None, "reason": None, "status": 503, "code": "model_not_found"}


class Asked(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class FakeRouter:
    """Gives one answer, and notes what it was asked."""

    def __init__(self) -> None:
        self.told: Any = CHOSEN
        self.asked: list[Asked] = []
        router = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                router.asked.append(Asked(self.command, self.path, headers, body))
                told = json.dumps(router.told).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            do_GET = do_POST = answer  # noqa: N815 (as the server wants them)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def explain(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run("explain", "--router", self.url, *arguments)

    def shown(self, *arguments: str) -> tuple[int, list[str]]:
        status, seen = run_on_terminal("explain", "--router", self.url, *arguments, NO_COLOR="1")
        return status, [" ".join(line.split()) for line in seen.splitlines()]


@pytest.fixture
def router() -> Iterator[FakeRouter]:
    made = FakeRouter()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_a_file_goes_to_the_router_byte_for_byte(router: FakeRouter, tmp_path: Path) -> None:
    body = b'{"messages": [],\n  "model":"m" }'
    (tmp_path / "request.json").write_bytes(body)
    assert router.explain(str(tmp_path / "request.json")).returncode == 0
    (asked,) = router.asked
    assert (asked.method, asked.target, asked.body) == ("POST", "/explain/v1/chat/completions", body)
    assert asked.headers["content-type"] == "application/json"


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_without_a_file_the_standard_input_is_read(router: FakeRouter, arguments: list[str]) -> None:
    command = [*COMMAND, "explain", "--router", router.url, *arguments]
    subprocess.run(command, input=b'{"input": "x"}', stdout=subprocess.DEVNULL, timeout=DEADLINE, check=True)
    assert (router.asked[0].target, router.asked[0].body) == ("/explain/v1/responses", b'{"input": "x"}')


def test_a_request_is_made_of_a_model_and_a_prompt(router: FakeRouter) -> None:
    router.explain("--model", "big", "--prompt", "Wer bist Du, Käthe?")
    message = {"role": "user", "content": "Wer bist Du, Käthe?"}
    assert json.loads(router.asked[0].body) == {"model": "big", "messages": [message]}


def test_any_apis_request_may_be_explained_with_its_headers(router: FakeRouter) -> None:
    headers = ["--header", "content-type: text/x", "--header", "X-Forwarded-For:203.0.113.5"]
    router.explain("--path", "/v1/audio/speech?x=1", *headers, "--prompt", "")
    router.explain("--method", "get", "--path", "/v1/responses/resp_1")
    spoken, fetched = router.asked
    assert spoken.target == "/explain/v1/audio/speech?x=1"
    assert (spoken.headers["content-type"], spoken.headers["x-forwarded-for"]) == ("text/x", "203.0.113.5")
    assert (fetched.method, fetched.target, fetched.body) == ("GET", "/explain/v1/responses/resp_1", b"")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"messages": [], "prompt": ""}', "/v1/chat/completions"),
        (b'{"prompt": ""}', "/v1/completions"),
        (b'{"input": ""}', "/v1/responses"),
        (b"{}", "/v1/chat/completions"),
        (b"[]", "/v1/chat/completions"),
        (b"\xff", "/v1/chat/completions"),
    ],
)
def test_the_path_is_the_one_that_fits_the_body(router: FakeRouter, tmp_path: Path, body: bytes, path: str) -> None:
    (tmp_path / "request.json").write_bytes(body)
    router.explain(str(tmp_path / "request.json"))
    assert router.asked[0].target == "/explain" + path


def test_a_program_gets_the_routers_json(router: FakeRouter) -> None:
    done = router.explain("--prompt", "x")
    assert (done.returncode, json.loads(done.stdout)) == (0, CHOSEN)


def test_a_terminal_gets_who_and_why_and_a_table_of_all_that_serve_the_model(router: FakeRouter) -> None:
    status, lines = router.shown("--prompt", "x")
    assert status == 0
    assert lines == [
        "POST /v1/chat/completions model m, asked for as big policy prefix prompt of 20.0 KiB",
        "→ a (prefix)",
        "The first token comes soonest there.",
        "",
        "SERVICE GETS IT WARM TO COMPUTE QUEUED IN FLIGHT COST",
        "a 100% 80% 1025 tok 7 tok 2 of 8 54.4 ms",
        "b 0 it is down: connection refused",
        "7 with other models: x0, x1, x2, x3, x4, …",
    ]


def test_on_a_terminal_json_is_printed_when_asked_for(router: FakeRouter) -> None:
    _, lines = router.shown("--prompt", "x", "--json")
    assert json.loads("".join(lines)) == CHOSEN


def test_a_policy_that_looks_at_no_prompt_has_a_table_without_costs(router: FakeRouter) -> None:
    plain = {
        "name": "a",
        "candidate": True,
        "share": 0.5,
        "excluded": None,
        "note": "",
        "in_flight": 2,
        "capacity": None,
    }
    router.told = CHOSEN | {"result": "shared", "service": None, "services": [plain, plain | {"name": "b"}]}
    _, lines = router.shown("--prompt", "x")
    assert lines[1] == "→ one of several (prefix)"
    assert lines[-3:] == ["SERVICE GETS IT IN FLIGHT", "a 50% 2", "b 50% 2"]


@pytest.mark.parametrize(
    ("told", "status", "line"),
    [
        (REFUSED, 1, "it would be refused: 503 model_not_found"),
        (REFUSED | {"code": None}, 1, "it would be refused: 503"),
        (CHOSEN | {"result": "waits"}, 0, "it would wait"),
        (CHOSEN | {"result": "own"}, 0, "no service is asked"),
    ],
)
def test_the_exit_status_tells_whether_it_would_be_refused(
    router: FakeRouter, told: Any, status: int, line: str
) -> None:
    router.told = told
    assert (lines := router.shown("--prompt", "x"))[0] == status
    assert lines[1][1] == line
    assert router.explain("--prompt", "x").returncode == status


@pytest.mark.parametrize("told", [{"error": {"message": "Not Found"}}, [], "x", {"detail": "Not Found"}])
def test_somebody_who_does_not_explain_is_told_from_a_router(router: FakeRouter, told: Any) -> None:
    router.told = told
    done = router.explain("--prompt", "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not explain" in done.stderr


def test_where_nobody_answers_it_says_so(ports: Ports) -> None:
    done = run("explain", "--router", f"http://127.0.0.1:{ports.one()}", "--prompt", "x")
    assert done.returncode == 1
    assert "--router URL" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["x.json", "--prompt", "x"], "not both"),
        (["/nonexistent/x.json"], "No such file"),
        (["--prompt", "x", "--header", "x"], "NAME:VALUE"),
        (["--prompt", "x", "--path", "v1"], "a path such as"),
    ],
)
def test_what_cannot_be_sent_is_a_usage_error(arguments: list[str], problem: str) -> None:
    done = run("explain", *arguments)
    assert done.returncode == 2
    assert problem in done.stderr


def test_on_a_terminal_with_nothing_given_it_says_what_it_needs() -> None:
    status, seen = run_on_terminal("explain")
    assert status == 2
    assert "give a FILE" in seen
