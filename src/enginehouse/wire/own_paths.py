"""The router's own paths: what it answers by itself, and with what.

Owns the table; `paths` routes by it, the reference page is made from it. May not live here: answering (`control`), the
worker's two.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: Before any target: what would become of such a request. By itself it means that of `EXPLAINED`.
EXPLAIN: Final = "/explain"
EXPLAINED: Final = b"/v1/chat/completions"
#: Unless the query names a model: that is how llama.cpp is asked for the metrics of one of its own.
METRICS: Final = "/metrics"
#: The page that shows the house, and all that lies below it.
DASHBOARD: Final = "/dashboard"


class OwnPath(NamedTuple):
    """One path. `path` as Starlette writes it; `members`: those of the JSON object in a 200, in words."""

    methods: str
    path: str
    meaning: str
    members: str = ""


ANY: Final = "any method"
OWN_PATHS: Final = (
    OwnPath(
        "GET",
        "/health",
        "how the house is. Always 200: `/readyz` says whether to send requests",
        "status router healthy_services registry_url message timestamp",
    ),
    OwnPath(
        "GET", "/status", "the same, in other words", "status router healthy_services registry_url message timestamp"
    ),
    OwnPath(
        "GET", "/models", "the models of all healthy services, sorted by id, as engines describe them", "object data"
    ),
    OwnPath("GET", "/v1/models", "the same", "object data"),
    OwnPath("GET", "/v1/models/{id:path}", "one of them, by its name or an alias"),
    OwnPath(
        "GET",
        "/services",
        "every service; `rejected` is what was offered and is not used, and why",
        "services total registry_url rejected",
    ),
    OwnPath(
        "GET",
        "/stats",
        "services, and of each in `details` what `/services` does not say; `workers` with the fleet that each has of "
        "which `fleet_version` is the newest; how many requests are `waiting`; what was `mended`",
        "total_services healthy_services registry_url services details fleet_version workers synced waiting mended",
    ),
    OwnPath(
        "POST",
        EXPLAIN,
        "[what would become](../how-to/policy.md) of this request to `/v1/chat/completions`; nothing is sent",
        "path asked_model model policy result service reason status code outcome explanation session prompt services",
    ),
    OwnPath(ANY, EXPLAIN + "/{target:path}", "likewise of a request to this target, with this body and these headers"),
    OwnPath(
        "GET",
        "/events",
        "what happened to the fleet, in order (`?since=ID`, `?limit=N`); with `Accept: text/event-stream` also what "
        "happens from now on, as server-sent events",
        "events next",
    ),
    OwnPath(
        "GET",
        METRICS,
        "[metrics](metrics.md) of all workers for Prometheus; in OpenMetrics' format for who accepts that one",
    ),
    OwnPath("GET", DASHBOARD, "the house as a page"),
    OwnPath("GET", DASHBOARD + "/", "leads there"),
    OwnPath("GET", DASHBOARD + "/static/{name}", "what the page loads"),
    OwnPath("GET", DASHBOARD + "/feed", "what the page shows: server-sent events, one JSON object a second"),
    OwnPath(
        "GET",
        DASHBOARD + "/service/{name}",
        "one service: its row, its last requests (while somebody watches), its probes, its babysitter; with the "
        "token of `admin_token_file` (`Authorization: Bearer TOKEN`) its engine's last lines",
        "service details recent probes babysitter log",
    ),
    OwnPath(
        "POST",
        DASHBOARD + "/actions/drain",
        'drains a service, or takes it back: `{"service": NAME, "undo": false}`. Needs `admin_token_file` and '
        "`Authorization: Bearer`, and no other site's page may send it",
    ),
)
#: Answered by the worker that was asked, whatever else is broken.
WORKERS_PATHS: Final = (
    OwnPath("GET", "/livez", "200 as long as the worker lives"),
    OwnPath("GET", "/readyz", "200 when it takes requests; 503 from the moment that it is told to stop"),
)
