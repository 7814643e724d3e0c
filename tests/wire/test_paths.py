"""Paths: the router's own, the engines', the administrative ones and their disguises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.outcome import Outcome
from enginehouse.wire.admin_paths import is_administrative
from enginehouse.wire.errors import Dialect, Unreadable
from enginehouse.wire.paths import (
    Classifier,
    Kind,
    Route,
    Where,
    classify,
    query_model,
    rename_query_model,
)

CONFIG = RouterConfig()

#: FIELD 3 and CONTRACTS 3: paths that reprogram, stop or read an engine.
_LINES = """POST /v1/load_lora_adapter
POST /v1/unload_lora_adapter
POST /load_lora_adapter
POST /unload_lora_adapter
POST /lora-adapters
GET /lora-adapters
POST /sleep
POST /wake_up
GET /is_sleeping
POST /reset_prefix_cache
POST /reset_mm_cache
GET /flush_cache
POST /release_memory_occupation
POST /resume_memory_occupation
POST /update_weights
POST /update_weights_from_disk
POST /update_weights_from_tensor
POST /init_weights_update_group
POST /start_weight_update
GET /get_weights_by_name
POST /pause
POST /resume
POST /abort_request
POST /abort_requests
POST /collective_rpc
POST /start_profile
POST /stop_profile
POST /scale_elastic_ep
GET /server_info
GET /get_server_info
POST /props
GET /slots
GET /slots?model=x
POST /slots/0?action=save
POST /models/load
POST /models/unload
GET /metrics?model=x
GET /metrics/x
GET /v1/metrics
POST /shutdown
POST /fault_tolerance/apply
GET /cors-proxy
POST /tools"""
ADMINISTRATIVE = _LINES.splitlines()

#: FIELD 3: the model is in the JSON body.
JSON_PATHS = """
/v1/chat/completions /v1/completions /v1/embeddings /v1/responses /v1/messages /rerank /v1/rerank /v2/rerank /reranking
/v1/score /score /pooling /classify /tokenize /detokenize /v1/images/generations /v1/audio/speech /api/chat
/api/generate /chat/completions /embeddings /v1/chat/completions/
"""


def route(line: str, config: RouterConfig = CONFIG) -> Route:
    method, target = line.encode().split(b" ")
    return classify(method, target, config)


# -- who answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/health", "/status", "/services", "/stats", "/models", "/v1/models", "/v1/models/", "/metrics"]
)
def test_the_routers_own_paths_go_to_control(path: str) -> None:
    assert route(f"GET {path}").kind is Kind.OWN


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/", "/dashboard/feed", "/dashboard/static/app.js"])
def test_the_dashboard_and_all_below_it_goes_to_control_by_any_method(path: str) -> None:
    assert {route(f"{method} {path}").kind for method in ("GET", "POST", "DELETE")} == {Kind.OWN}


def test_a_path_that_only_begins_like_the_dashboard_is_an_engines() -> None:
    assert route("GET /dashboards").kind is Kind.OTHER


@pytest.mark.parametrize("query", ["model=x", "a=b&model=x", "model=x&model=y", "model="])
def test_metrics_are_the_routers_unless_the_query_names_a_model_as_for_llama_cpp(query: str) -> None:
    assert route("GET /metrics?a=b").kind is Kind.OWN
    assert route("GET /metrics/").kind is Kind.OWN
    opened = RouterConfig(open_paths=("/metrics",))
    found = route(f"GET /metrics?{query}", opened)
    assert (found.kind, found.where) == (Kind.OTHER, Where.QUERY)
    assert route("GET /metrics", opened).kind is Kind.OWN


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_liveness_is_answered_by_the_worker_itself(path: str) -> None:
    assert route(f"GET {path}").kind is Kind.LIVE


@pytest.mark.parametrize("spelled", ["org/model", "org%2Fmodel", "org%2fmodel"])
def test_model_ids_with_slashes_are_normal_raw_or_encoded(spelled: str) -> None:
    found = route(f"GET /v1/models/{spelled}")
    assert (found.kind, found.id) == (Kind.OWN, "org/model")
    assert found.target == f"/v1/models/{spelled}".encode()


@pytest.mark.parametrize("name", ["sleep", "slots", "load", "metrics"])
def test_a_model_may_be_called_like_an_administrative_path(name: str) -> None:
    assert route(f"GET /v1/models/{name}").kind is Kind.OWN


def test_any_other_path_is_proxied() -> None:
    assert route("GET /").kind is Kind.OTHER
    assert route("GET /version").kind is Kind.OTHER
    assert route("POST /my/own/path?x=%2F..").kind is Kind.OTHER


def test_a_target_in_absolute_form_is_reduced_to_its_path() -> None:
    found = route("POST http://example.org:80/v1/chat/completions?a=b")
    assert (found.kind, found.target) == (Kind.INFERENCE, b"/v1/chat/completions?a=b")
    assert route("GET HTTPS://example.org").target == b"/"
    assert route("GET http://example.org?x").target == b"/?x"
    assert route("POST http://example.org/sleep").kind is Kind.DENIED
    assert route("POST http://example.org//sleep").kind is Kind.NOT_NORMAL


@pytest.mark.parametrize("line", ["CONNECT example.org:443", "TRACE /", "OPTIONS *"])
def test_tunnels_echoes_and_questions_to_nobody_are_not_allowed(line: str) -> None:
    found = route(line)
    assert (found.kind, found.outcome) == (Kind.WRONG_METHOD, Outcome.METHOD_NOT_ALLOWED)


# -- where the model is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", JSON_PATHS.split())
def test_the_model_is_in_the_json_body_of_inference_paths(path: str) -> None:
    found = route(f"POST {path}")
    assert (found.kind, found.where, found.strict) == (Kind.INFERENCE, Where.JSON, True)


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits"])
def test_the_model_is_in_a_form_field_of_audio_and_image_edits(path: str) -> None:
    found = route(f"POST {path}")
    assert (found.kind, found.where, found.strict) == (Kind.INFERENCE, Where.MULTIPART, True)


def test_the_model_is_in_the_query_of_llama_cpps_props() -> None:
    assert route("GET /props?model=a").where is Where.QUERY


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("/v1/responses/resp_1", "resp_1"),
        ("/v1/responses/resp_1/cancel", "resp_1"),
        ("/v1/videos/video_1/content", "video_1"),
        ("/v1/stream/conv-1", "conv-1"),
    ],
)
def test_what_an_engine_made_is_found_by_its_id(path: str, made: str) -> None:
    found = route(f"GET {path}")
    assert (found.where, found.id) == (Where.REMEMBERED, made)


def test_answers_that_carry_an_id_to_come_back_with_are_known() -> None:
    assert route("POST /v1/responses").makes_id
    assert route("POST /v1/videos").makes_id
    assert not route("GET /v1/videos").makes_id
    assert not route("POST /v1/chat/completions").makes_id


def test_counting_tokens_of_a_response_is_no_response() -> None:
    found = route("POST /v1/responses/input_tokens")
    assert (found.where, found.makes_id) == (Where.JSON, False)


def test_realtime_names_its_model_in_an_event() -> None:
    assert route("GET /v1/realtime").where is Where.REALTIME


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_nothing_is_read_from_the_body_of_a_get(method: str) -> None:
    found = route(f"{method} /v1/chat/completions")
    assert (found.where, found.strict) == (Where.NOWHERE, False)


def test_elsewhere_a_body_is_read_if_it_can_be() -> None:
    found = route("POST /some/path")
    assert (found.where, found.strict) == (Where.JSON, False)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages", Dialect.ANTHROPIC),
        ("/v1/messages/count_tokens", Dialect.ANTHROPIC),
        ("/v1/responses", Dialect.RESPONSES),
        ("/v1/responses/resp_1", Dialect.RESPONSES),
        ("/v1/chat/completions", Dialect.OPENAI),
        ("/anything", Dialect.OPENAI),
    ],
)
def test_each_path_has_the_dialect_of_its_api(path: str, dialect: Dialect) -> None:
    assert route(f"POST {path}").dialect is dialect


# -- administrative paths ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ADMINISTRATIVE)
def test_administrative_paths_of_the_engines_are_denied(line: str) -> None:
    """Defect: Every path is open, the engines' admin paths included."""
    found = route(line)
    assert (found.kind, found.outcome) == (Kind.DENIED, Outcome.PATH_DENIED)


@pytest.mark.parametrize("line", ADMINISTRATIVE)
def test_administrative_paths_are_denied_in_any_letter_case_and_with_a_slash_behind(line: str) -> None:
    method, _, target = line.partition(" ")
    path, mark, query = target.partition("?")
    assert route(f"{method} {path.upper()}{mark}{query}").kind is Kind.DENIED
    assert route(f"{method} {path}/{mark}{query}").kind is Kind.DENIED


@pytest.mark.parametrize(
    "target",
    [
        "//sleep",
        "/%73leep",
        "/v1/../sleep",
        "/./sleep",
        "/sleep/.",
        "/sleep/..",
        "/v1//sleep",
        "/sleep//",
        "/v1/%2e%2e/sleep",
        "/v1/..%2Fsleep",
        "/v1%2F..%2Fsleep",
        "/%2Fsleep",
        "/x%2F%2Fsleep",
        "/\\sleep",
        "/%5Csleep",
        "/%5csleep",
        "/sleep%00",
        "/sleep%0a",
        "/sleep%7F",
        "/sl%65%65p",
        "/sle%zzep",
        "/sleep%",
        "/sleep%2",
        "/%25252573leep",
        "/sleep%C0%AF",
        "/sleep\u00ff",
        "/sleep#x",
        "sleep",
        "",
    ],
)
def test_a_path_whose_normal_form_differs_is_refused(target: str) -> None:
    found = classify(b"POST", target.encode("latin-1"), CONFIG)
    assert (found.kind, found.outcome) == (Kind.NOT_NORMAL, Outcome.PATH_NOT_NORMAL)


@pytest.mark.parametrize("target", ["/%2573leep", "/v1%2Fsleep", "/v1%2fsleep", "/%25%37%33leep"])
def test_a_path_that_a_server_might_decode_once_more_is_denied_for_what_it_would_be_then(target: str) -> None:
    assert classify(b"POST", target.encode(), CONFIG).kind in {Kind.DENIED, Kind.NOT_NORMAL}


@given(st.lists(st.sampled_from(["sleep", "v1", "slots", "..", ".", "", "%2F", "%2e", "%73", "x", "a%20b", "\\"])))
def test_nothing_administrative_ever_passes_however_it_is_put_together(parts: list[str]) -> None:
    found = classify(b"POST", ("/" + "/".join(parts)).encode(), CONFIG)
    if found.kind in {Kind.OTHER, Kind.INFERENCE}:
        # What an engine would see, decoded as often as it may like, is not administrative.
        assert not is_administrative(b"POST", found.path)
        assert ".." not in found.path.split("/")


def test_props_may_be_read() -> None:
    assert route("GET /props").kind is Kind.OTHER
    assert route("HEAD /props").kind is Kind.OTHER


def test_the_configuration_opens_administrative_paths_one_by_one() -> None:
    config = RouterConfig(open_paths=("/slots", "/update_weights*"))
    assert route("GET /slots?model=m", config).where is Where.QUERY
    assert route("POST /update_weights_from_disk", config).kind is Kind.OTHER
    assert route("POST /slots/0", config).kind is Kind.DENIED
    assert route("POST /sleep", config).kind is Kind.DENIED


def test_strict_mode_passes_known_inference_paths_and_opened_ones_only() -> None:
    config = RouterConfig(strict_paths=True, open_paths=("/version",))
    assert route("POST /v1/chat/completions", config).kind is Kind.INFERENCE
    assert route("GET /health", config).kind is Kind.OWN
    assert route("GET /livez", config).kind is Kind.LIVE
    assert route("GET /version", config).kind is Kind.OTHER
    found = route("GET /docs", config)
    assert (found.kind, found.outcome) == (Kind.UNKNOWN, Outcome.PATH_UNKNOWN)


# -- remembering -------------------------------------------------------------------------------------------------------


def test_the_classifier_says_what_classify_says_and_remembers_it() -> None:
    classifier = Classifier(CONFIG)
    for line in [*ADMINISTRATIVE, "POST /v1/chat/completions", "GET /v1/models/x", "GET /a?b", "POST http://h/health"]:
        method, target = line.encode().split(b" ")
        assert classifier(method, target) == classify(method, target, CONFIG)
    assert classifier(b"POST", b"/v1/completions") is classifier(b"POST", b"/v1/completions")


def test_clients_cannot_fill_the_classifiers_memory() -> None:
    classifier = Classifier(CONFIG)
    for number in range(2000):
        mine = (f"/x{number}", f"/v1/models/{number}", f"/v1/responses/{number}", f"/health?{number}")
        for target in (*mine, f"/dashboard/{number}", f"/explain/{number}"):
            classifier(b"GET", target.encode())
        classifier(b"M%d" % number, b"/health")
        classifier(b"GET", b"http://host%d/health" % number)
    assert len(classifier._known) <= Classifier.LIMIT
    assert not [target for _, target in classifier._known if target.startswith((b"/dashboard/", b"/explain/"))]


# -- the query ---------------------------------------------------------------------------------------------------------


def test_the_model_is_read_from_the_query() -> None:
    assert query_model(b"/props?model=org%2Fm&x=1") == "org/m"
    assert query_model(b"/props?x=1&model=a+b") == "a b"
    assert query_model(b"/props?xmodel=a") is None
    assert query_model(b"/props") is None


@pytest.mark.parametrize("query", [b"model=a&model=b", b"model=", b"model=" + b"x" * 600, b"model=a&mode%6C=b"])
def test_a_model_in_the_query_must_be_one(query: bytes) -> None:
    with pytest.raises(Unreadable) as refused:
        query_model(b"/props?" + query)
    assert refused.value.outcome is Outcome.BAD_MODEL


def test_renaming_in_the_query_changes_the_value_alone() -> None:
    assert rename_query_model(b"/props?a=%20&model=x&b", "org/m") == b"/props?a=%20&model=org%2Fm&b"
    assert rename_query_model(b"/v1/realtime?mode%6c=x&xmodel=1", "y") == b"/v1/realtime?mode%6c=y&xmodel=1"


@pytest.mark.parametrize(
    ("path", "generates"),
    [
        ("/v1/chat/completions", True),
        ("/v1/completions", True),
        ("/v1/responses", True),
        ("/v1/messages", True),
        ("/completion", True),
        ("/generate", True),
        ("/api/chat", True),
        ("/something/new", True),
        ("/v1/embeddings", False),
        ("/v1/rerank", False),
        ("/v1/messages/count_tokens", False),
        ("/v1/images/generations", False),
        ("/v1/audio/transcriptions", False),
        ("/stats", False),
    ],
)
def test_it_is_known_on_which_paths_a_model_goes_on_with_a_prompt(path: str, generates: bool) -> None:
    assert classify(b"POST", path.encode(), CONFIG).generates is generates
    assert classify(b"GET", path.encode(), CONFIG).generates is False
