"""What a request asks for: from its head and body to an `Ask`, the same for whoever wants to know.

Owns `read_ask`, which puts together what the other modules here find in a request. May not live here: the finding
itself, the head for the engine (`data.intake`), the choice (`policy`).
"""

from __future__ import annotations

from typing import Final, get_args

from enginehouse.core.ask import Ask, Prompt
from enginehouse.core.config.router import Policy, RouterConfig
from enginehouse.core.outcome import Outcome
from enginehouse.core.shared import Shared
from enginehouse.policy.chunks import ENDS, chunks, seed_of
from enginehouse.policy.remembered import recall
from enginehouse.policy.table import Table
from enginehouse.wire import forwarded, multipart
from enginehouse.wire.errors import Unreadable
from enginehouse.wire.paths import Route, Where, query_model
from enginehouse.wire.peek import peek, text_bytes
from enginehouse.wire.prompt import PromptMembers, text_of
from enginehouse.wire.request_head import RequestHead

_POLICIES: Final = get_args(Policy)
# Members of an enumeration are looked up by name each time; these are on the way of every request.
_JSON: Final = Where.JSON

#: Model, prompt cache key and id of an earlier answer ("" for what is not named), and where the prompt is.
_Names = tuple[str, str, str, PromptMembers | None]


def read_ask(
    config: RouterConfig,
    table: Table,
    shared: Shared,
    route: Route,
    head: RequestHead,
    body: bytes,
    client: str,
    realtime_model: str = "",
) -> tuple[str, Ask]:
    """The model as the client names it, and the rest. Raises `Unreadable` for a request that cannot be accepted.

    `client`: its address as far as it is to be believed (`forwarded.client_address`), "" where it is not.
    `realtime_model` was named within a WebSocket.
    """
    named, key, made_id, members = (
        (realtime_model, "", "", None) if realtime_model else _read_names(config, route, head, body)
    )
    entry = table.models.get(named) if named else table.everyone
    model, usual = (entry.model, entry.policy) if entry is not None else (named, "")
    asked = _policy(head.policy) if head.policy and config.allow_policy_header else ""
    weighed = members is not None and route.generates and (asked or usual) == "prefix"
    ask = Ask(
        model,
        forwarded.session_key(model, key, client, head.user_agent, head.session)
        if key or client or head.session
        else "",
        recall(shared, table, made_id) if made_id else -1,
        _cache_type(config, route, body) if table.has_cache_types else "",
        _prompt(members, model) if weighed and members is not None else None,
        asked,
    )
    return named, ask


def _read_names(config: RouterConfig, route: Route, head: RequestHead, body: bytes) -> _Names:
    where = route.where
    if where is not _JSON and where is not Where.MULTIPART:
        if where is Where.REMEMBERED:
            return "", "", route.id, None
        return (query_model(route.target) or "" if where is not Where.NOWHERE else ""), "", "", None
    if not (body or route.strict):
        return "", "", "", None
    if head.content_encoding and head.content_encoding.lower() != b"identity":
        if route.strict and not config.encoded_bodies:
            raise Unreadable(Outcome.BODY_ENCODED, "")
        return "", "", "", None
    if head.content_type[:10].lower() == b"multipart/":
        names: _Names = _form_model(head.content_type, body, route.strict), "", "", None
    else:
        found = peek(body, route.strict)
        names = found.model or "", found.prompt_cache_key, found.previous_response_id, found.prompt
    if not names[0] and route.strict and config.require_model:
        raise Unreadable(Outcome.MODEL_MISSING, "", "model")
    return names


def _policy(header: bytes) -> str:
    """A policy that there is. Raises `Unreadable` (BAD_REQUEST) for another name."""
    policy = header.decode("latin-1").lower()
    if policy not in _POLICIES:
        raise Unreadable(Outcome.BAD_REQUEST, f"x-enginehouse-policy may be {', '.join(_POLICIES)}.")
    return policy


def _form_model(content_type: bytes, body: bytes, strict: bool) -> str:
    try:
        return multipart.read_model(content_type, body) or ""
    except Unreadable:
        if strict:
            raise
        return ""


def _prompt(members: PromptMembers, model: str) -> Prompt | None:
    """The prompt, by the hashes under which services remember it."""
    text = text_of(members, ENDS[-1])
    return Prompt(text[0], chunks(text[1], seed_of(model)), ENDS) if text is not None else None


def _cache_type(config: RouterConfig, route: Route, body: bytes) -> str:
    """CONTRACTS 1.2, size routing: more text than the threshold prefers static caches, less paged ones."""
    if route.where is not _JSON:
        return ""
    threshold = config.cache_type_routing_threshold
    return "static" if len(body) > threshold and text_bytes(body) > threshold else "paged"
