"""Answers that are not generated text: models, embeddings, rerank, tokenize, transcription.

Owns their JSON, a pure function of the request. May not live here: which path they belong to, who may ask (`api`).
"""

from __future__ import annotations

import base64
import struct
import sys
from hashlib import blake2b, sha256
from typing import Any, Protocol

import msgspec

from enginehouse.sim import asks
from enginehouse.sim.asks import prompt_text
from enginehouse.sim.model import count_tokens
from enginehouse.sim.request import Request
from enginehouse.sim.shapes import dump
from enginehouse.sim.state import Sim

DIMENSIONS = 8
MAX_DIMENSIONS = 4096
TOKEN_MASK = struct.pack("=I", 0x1FFFF)
"""Of the four bytes of a token, those that are its number."""


class BadRequest(Exception):
    """The request cannot be answered; the message goes to the client."""


class _Embeddings(msgspec.Struct):
    input: str | list[str | int | list[int]]
    model: str = ""
    encoding_format: str | None = None
    dimensions: int | None = None


class _Rerank(msgspec.Struct):
    query: str
    documents: list[str | dict[str, Any]]
    model: str = ""
    top_n: int | None = None


class _Tokenize(msgspec.Struct):
    model: str = ""
    prompt: str | None = None
    content: str | None = None


def models(sim: Sim) -> dict[str, Any]:
    """The list of models as vLLM gives it."""
    common = {"object": "model", "created": 0, "owned_by": "enginehouse-sim", "max_model_len": sim.config.context}
    return {
        "object": "list",
        "data": [{"id": name, **common, "root": name, "parent": None} for name in sim.config.models],
    }


def embeddings(sim: Sim, request: Request) -> tuple[str, bytes]:
    """One vector for each input; the same text gives the same vector on every engine."""
    ask = msgspec.json.decode(request.body, type=_Embeddings)
    several = isinstance(ask.input, list) and ask.input and not isinstance(ask.input[0], int)
    inputs = [prompt_text([each]) for each in ask.input] if several else [prompt_text(ask.input)]
    size = min(max(ask.dimensions or DIMENSIONS, 1), MAX_DIMENSIONS)
    data = []
    for index, each in enumerate(inputs):
        vector: list[float] | str = _vector(each, size)
        if ask.encoding_format == "base64":
            vector = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    used = sum(count_tokens(each) for each in inputs)
    usage = {"prompt_tokens": used, "total_tokens": used}
    answer = {"object": "list", "model": ask.model, "system_fingerprint": sim.name, "data": data, "usage": usage}
    return ask.model, dump(answer)


def _vector(text: str, size: int) -> list[float]:
    """A direction of length 1 that follows from the text."""
    values: list[float] = []
    for block in range(-(-size // 16)):
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32, salt=struct.pack("<q", block)).digest()
        values += [number / 32768 for number in struct.unpack("<16h", digest)]
    length = sum(value * value for value in values[:size]) ** 0.5 or 1.0
    return [value / length for value in values[:size]]


def rerank(sim: Sim, request: Request) -> tuple[str, bytes]:
    """Documents by how many of the query's words they hold."""
    ask = msgspec.json.decode(request.body, type=_Rerank)
    wanted = set(ask.query.lower().split())
    scored = []
    for index, document in enumerate(ask.documents):
        words = str(document.get("text", "") if isinstance(document, dict) else document)
        score = len(wanted & set(words.lower().split())) / max(1, len(wanted))
        scored.append({"index": index, "relevance_score": score, "document": {"text": words}})
    scored.sort(key=lambda each: (-each["relevance_score"], each["index"]))  # type: ignore[operator]
    results = scored[: ask.top_n] if ask.top_n is not None else scored
    return ask.model, dump({"id": sim.new_id("rerank-"), "model": ask.model, "engine": sim.name, "results": results})


def tokenize(sim: Sim, request: Request) -> tuple[str, bytes]:
    """Token ids: four bytes each, read as a number."""
    ask = msgspec.json.decode(request.body, type=_Tokenize)
    data = (ask.prompt or ask.content or "").encode("utf-8", "surrogatepass")
    tokens = [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]
    answer = {"count": len(tokens), "max_model_len": sim.config.context, "tokens": tokens, "engine": sim.name}
    return ask.model, dump(answer)


def render(sim: Sim, request: Request) -> tuple[str, bytes]:
    """`…/render`, where vLLM tells routers which tokens a prompt would be: four bytes each, as a number of 17 bits."""
    ask = asks.read(request.path.removesuffix("/render"), request.body, sim.llama_style)
    data = ask.prompt.encode("utf-8", "surrogatepass")
    whole = len(data) // 4 * 4
    # One number of all of them, and one operation: routers ask this of every engine for every prompt.
    masked = int.from_bytes(data[:whole], sys.byteorder) & int.from_bytes(TOKEN_MASK * (whole // 4), sys.byteorder)
    tokens = memoryview(masked.to_bytes(whole, sys.byteorder)).cast("I").tolist()
    answer = {"request_id": sim.new_id("render-"), "model": ask.model, "token_ids": tokens}
    return ask.model, dump(answer)


def transcription(sim: Sim, request: Request) -> tuple[str, bytes]:
    """What was received, as text, and exactly: the file's name, size and SHA-256."""
    fields, files = _form(request)
    if "file" not in files:
        raise BadRequest("the form has no file called `file`")
    name, data = files["file"]
    digest = sha256(data).hexdigest()
    model = fields.get("model", "")
    answer = {
        "text": f"{len(data)} bytes of sound called {name}",
        "model": model,
        "engine": sim.name,
        "file": {"name": name, "bytes": len(data), "sha256": digest},
        "fields": fields,
    }
    return model, dump(answer)


class _Named(Protocol):
    field_name: bytes | None


def _form(request: Request) -> tuple[dict[str, str], dict[str, tuple[str, bytes]]]:
    """The fields and the files (name, content) of a multipart form."""
    from python_multipart import FormParser  # loaded by those who need it: the engine has to start fast
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(request.header(b"content-type"))
    if kind != b"multipart/form-data" or "boundary" not in {key.decode() for key in options}:
        raise BadRequest("this endpoint takes multipart/form-data")
    fields: dict[str, str] = {}
    files: dict[str, tuple[str, bytes]] = {}

    def on_field(field: Any) -> None:
        fields[field.field_name.decode()] = (field.value or b"").decode("utf-8", "replace")

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        files[file.field_name.decode()] = ((file.file_name or b"").decode("utf-8", "replace"), file.file_object.read())

    settings = {"MAX_MEMORY_FILE_SIZE": len(request.body) + 1, "MAX_BODY_SIZE": len(request.body) + 1}
    parser = FormParser(kind.decode(), on_field, on_file, boundary=options[b"boundary"], config=settings)
    try:
        parser.write(request.body)
        parser.finalize()
    except FormParserError as trouble:
        raise BadRequest(f"malformed form: {trouble}") from None
    return fields, files
