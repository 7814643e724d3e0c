"""What the simulated engine answers: which path does what, who may ask, and errors.

Owns the table of endpoints. May not live here: their answers (`shapes`, `tasks`), `/sim/…` (`control`).
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest

import msgspec

from enginehouse.sim import asks, control, metrics, tasks
from enginehouse.sim.answer import Answer
from enginehouse.sim.generate import Generation
from enginehouse.sim.model import count_tokens
from enginehouse.sim.request import Request
from enginehouse.sim.responses import Responses
from enginehouse.sim.shapes import Chat, Completion, Messages, Shape, dump
from enginehouse.sim.state import Sim

Handler = Callable[[Sim, Answer], None]

SHAPES: dict[str, type[Shape]] = {
    "/v1/chat/completions": Chat,
    "/v1/completions": Completion,
    "/v1/messages": Messages,
    "/v1/responses": Responses,
}
ADMINISTRATIVE = (
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/load_lora_adapter", "/unload_lora_adapter", "/lora-adapters",
    "/sleep", "/wake_up", "/is_sleeping", "/reset_prefix_cache", "/reset_mm_cache", "/flush_cache",
    "/release_memory_occupation", "/resume_memory_occupation", "/update_weights", "/update_weights_from_disk", "/pause",
    "/resume", "/abort_request", "/abort_requests", "/collective_rpc", "/start_profile", "/stop_profile",
    "/scale_elastic_ep", "/server_info", "/get_server_info", "/props", "/slots", "/models/load", "/models/unload",
    "/metrics", "/shutdown",
)  # fmt: skip
"""Paths that do something to a real engine. Here they answer 200, so that a test can prove they were not reached."""
REASONS = {503: "Loading model", 401: "Unauthorized"}


def problem(sim: Sim, request: Request) -> int | None:
    """The status with which a request is refused before anybody looks at it: loading (503), or no key (401)."""
    if sim.loading and not request.control:
        return 503
    if sim.key and request.path != "/health":
        given = request.header(b"authorization").removeprefix(b"Bearer ") or request.header(b"x-api-key")
        if not compare_digest(given, sim.key):
            return 401
    return None


def answer(sim: Sim, reply: Answer) -> None:
    """Answer a request; what it is, the answer knows."""
    request = reply.request
    if refusal := problem(sim, request):
        error(sim, reply, refusal, REASONS[refusal], "unavailable_error" if refusal == 503 else "invalid_request_error")
        return
    method = "GET" if request.method == "HEAD" else request.method
    handler = ROUTES.get((method, request.path))
    try:
        if handler:
            handler(sim, reply)
        elif request.path.startswith("/v1/responses/"):
            _response(sim, reply)
        elif request.path in KNOWN:
            error(sim, reply, 405, "Method Not Allowed")
        else:
            error(sim, reply, 404, "Not Found")
    except (msgspec.DecodeError, tasks.BadRequest, ValueError, RecursionError) as trouble:
        error(sim, reply, 400, str(trouble))


def error(sim: Sim, reply: Answer, status: int, message: str, kind: str = "BadRequestError") -> None:
    """An error as vLLM writes it (its code is a number), or as Anthropic does on its path."""
    if reply.request.path == "/v1/messages":
        body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    else:
        body = {"error": {"message": message, "type": kind, "param": None, "code": status}}
    reply.whole(status, dump({**body, "system_fingerprint": sim.name}))


def _generate(sim: Sim, reply: Answer) -> None:
    request = reply.request
    work = asks.read(request.path, request.body, sim.llama_style)
    if not knows(sim, work.model):
        error(sim, reply, 404, f"The model `{work.model}` does not exist.", "NotFoundError")
    elif count_tokens(work.prompt) > sim.config.context:
        error(sim, reply, 400, f"This model's maximum context length is {sim.config.context} tokens.")
    else:
        if not Generation(sim, reply, SHAPES[request.path](sim, work), work).start():
            error(sim, reply, sim.config.full_status, "Too many requests are waiting", "ServiceUnavailableError")


def knows(sim: Sim, model: str) -> bool:
    """Whether a request for this model is answered; llama.cpp answers for any name, vLLM when there is none."""
    return sim.llama_style or not model or model in sim.config.models


def _task(make: Callable[[Sim, Request], tuple[str, bytes]]) -> Handler:
    """An endpoint whose answer is there at once: `make` gives the model asked for and the body."""

    def handle(sim: Sim, reply: Answer) -> None:
        model, body = make(sim, reply.request)
        if knows(sim, model):
            reply.whole(200, body)
        else:
            error(sim, reply, 404, f"The model `{model}` does not exist.", "NotFoundError")

    return handle


def _response(sim: Sim, reply: Answer) -> None:
    """`GET /v1/responses/{id}`, `POST /v1/responses/{id}/cancel`: only answers that this engine made."""
    name = reply.request.path.removeprefix("/v1/responses/").removesuffix("/cancel")
    body = sim.responses.get(name)
    if body is None:
        error(sim, reply, 404, f"Response with id '{name}' not found.", "NotFoundError")
    else:
        reply.whole(200, body)


def _models(sim: Sim, reply: Answer) -> None:
    reply.whole(200, dump(tasks.models(sim)))


def _health(sim: Sim, reply: Answer) -> None:
    reply.whole(200, b'{"status":"ok"}' if sim.llama_style else b"")


def _metrics(sim: Sim, reply: Answer) -> None:
    if sim.paced:
        reply.whole(200, metrics.text(sim.paced, next(iter(sim.config.models), "")), metrics.CONTENT_TYPE)
    else:
        _administrative(sim, reply)


def _administrative(sim: Sim, reply: Answer) -> None:
    reply.whole(200, dump({"reached": reply.request.path, "system_fingerprint": sim.name}))


ROUTES: dict[tuple[str, str], Handler] = {
    **{("POST", path): _generate for path in SHAPES},
    **{("POST", path): _task(tasks.rerank) for path in ("/v1/rerank", "/rerank", "/v2/rerank", "/reranking")},
    **{(method, path): _administrative for path in ADMINISTRATIVE for method in ("GET", "POST")},
    **control.ROUTES,
    ("GET", "/v1/models"): _models,
    ("GET", "/models"): _models,
    ("GET", "/health"): _health,
    ("GET", "/metrics"): _metrics,
    ("POST", "/v1/embeddings"): _task(tasks.embeddings),
    ("POST", "/tokenize"): _task(tasks.tokenize),
    **{("POST", f"{path}/render"): _task(tasks.render) for path in ("/v1/chat/completions", "/v1/completions")},
    ("POST", "/v1/audio/transcriptions"): _task(tasks.transcription),
    ("POST", "/v1/audio/translations"): _task(tasks.transcription),
}
KNOWN = {path for _, path in ROUTES}
