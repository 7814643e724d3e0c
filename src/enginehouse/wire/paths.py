"""What a request's target is: the router's own path, an engine's, one nobody may use, or one in disguise.

Owns the lists of paths, their normal form, where on each path the model is named and how errors look there.
May not live here: reading the model out of a body (`peek`, `multipart`), answering.
"""

from __future__ import annotations

import enum
import re
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import msgspec

from enginehouse.core.config.router import RouterConfig
from enginehouse.core.outcome import Outcome
from enginehouse.core.units import MAX_MODEL_ID
from enginehouse.wire.admin_paths import is_administrative
from enginehouse.wire.errors import Dialect, Unreadable
from enginehouse.wire.own_paths import DASHBOARD, EXPLAIN, METRICS, OWN_PATHS, WORKERS_PATHS

__all__ = ["Classifier", "Dialect", "Kind", "Route", "Where", "classify", "query_model", "rename_query_model"]


@enum.unique
class Kind(enum.Enum):
    """Who answers. The last four are refused: `Route.outcome` says how."""

    OWN = "own"
    """Control, over the workers' ordinary way to a service."""
    LIVE = "live"
    """The worker itself, whatever else is broken."""
    INFERENCE = "inference"
    """An engine; a known inference path."""
    OTHER = "other"
    """An engine; a path we do not know."""
    DENIED = "denied"
    NOT_NORMAL = "not_normal"
    UNKNOWN = "unknown"
    """Not among the known ones, in strict mode."""
    WRONG_METHOD = "wrong_method"


@enum.unique
class Where(enum.Enum):
    """Where the request names its model."""

    NOWHERE = "nowhere"
    JSON = "json"
    MULTIPART = "multipart"
    QUERY = "query"
    REALTIME = "realtime"
    """In the first `session.update` of a WebSocket."""
    REMEMBERED = "remembered"
    """Not at all: the path has an id (`Route.id`) that one engine made."""


class Route(msgspec.Struct, frozen=True, gc=False):
    """What a method and a target mean."""

    kind: Kind
    target: bytes = b""
    """The target to pass on: as sent, less scheme and host where they were given."""
    path: str = ""
    """The path in it, decoded, without query."""
    where: Where = Where.NOWHERE
    dialect: Dialect = Dialect.OPENAI
    strict: bool = False
    """A body that is not what `where` says is refused with 400; elsewhere it is passed on unread."""
    id: str = ""
    """The id in the path: of a model (OWN) or of something an engine made (REMEMBERED)."""
    makes_id: bool = False
    """The answer carries an id under which the client will come back."""
    generates: bool = False
    """A model reads a prompt and goes on with it, as far as we know: caches of prompts matter."""
    outcome: Outcome | None = None
    """Why it is refused; None where it is not."""


_JSON_NAMES = """
chat/completions completions embeddings responses messages rerank reranking score pooling classify tokenize detokenize
images/generations audio/speech moderations chat/completions/input_tokens responses/input_tokens messages/count_tokens
"""
_MORE_JSON_PATHS = """
/v2/rerank /api/chat /api/generate /api/embed /api/embeddings
/completion /embedding /infill /apply-template /generate /encode /invocations
"""
JSON_PATHS = frozenset(
    [prefix + name for prefix in ("/", "/v1/") for name in _JSON_NAMES.split()] + _MORE_JSON_PATHS.split()
)
_GENERATING_PATHS = frozenset(
    [prefix + name for prefix in ("/", "/v1/") for name in ("chat/completions", "completions", "responses", "messages")]
    + ["/api/chat", "/api/generate", "/completion", "/infill", "/generate", "/invocations"]
)
MULTIPART_PATHS = frozenset(
    prefix + name for prefix in ("/", "/v1/") for name in ("audio/transcriptions", "audio/translations", "images/edits")
)
_OWN_PATHS = frozenset(own.path for own in OWN_PATHS if "{" not in own.path)
_OWN_PREFIXES = (EXPLAIN + "/", DASHBOARD + "/")
_LIVE_PATHS = frozenset(own.path for own in WORKERS_PATHS)
_QUERY_PATHS = frozenset(("/props", "/slots", METRICS))
_MODEL_PREFIX = "/v1/models/"
_MADE = re.compile(r"/v1/(?:responses|videos|stream)/([^/]+)(?:/.*)?")
_MAKERS = frozenset(("/v1/responses", "/responses"))
#: Never passed on: a tunnel to anywhere, and an echo of what proxies add to a request.
_NEVER = frozenset((b"CONNECT", b"TRACE"))
_BODILESS = frozenset((b"GET", b"HEAD", b"OPTIONS", b"DELETE"))

#: RFC 3986 3.3: the characters of a path as they are, and octets that have to be percent-encoded.
_PATH = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
#: Percent-encoded though it need not be (RFC 3986 6.2.2.2), or a character that has no business in a path.
_DISGUISED = re.compile(
    rb"%(?:2[dDeE]|3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aAeE]|5[cC]|[01][0-9a-fA-F]|7[fF])"
)
_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
#: What some servers cut off a segment before they look at it: parameters (RFC 3986 3.3), a query that came encoded,
#: and blanks and dots at its end.
_CUT_OFF = re.compile(r"[;?#][^/]*|(?<=[^./ ])[ .]+(?=/|$)")
#: Decoded this often a path must be at rest: `%2573leep` is `/sleep` to a server that decodes twice.
_MAX_ENCODINGS = 3


def classify(method: bytes, target: bytes, config: RouterConfig) -> Route:
    """What `method` and `target` (as on the request line) mean. Costs some microseconds: see `Classifier`."""
    if method in _NEVER or target == b"*":
        return Route(Kind.WRONG_METHOD, target, outcome=Outcome.METHOD_NOT_ALLOWED)
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        target = target[absolute.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    path = _decoded(target.partition(b"?")[0])
    if path is None:
        return Route(Kind.NOT_NORMAL, target, outcome=Outcome.PATH_NOT_NORMAL)
    return _route(method, target, path, config)


def _decoded(path: bytes) -> str | None:
    """The path percent-decoded, or None where it is not in its normal form, encoded or decoded."""
    if _PATH.fullmatch(path) is None or _DISGUISED.search(path) is not None:
        return None
    try:
        text = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return None
    if "//" in text or "\\" in text or not text.isprintable():
        return None
    return None if "." in text and not {".", ".."}.isdisjoint(text.split("/")) else text


def _undressed(path: str) -> str | None:
    """The path as a server might read it that decodes again and again and cuts segments off.

    None if that takes suspiciously long, or leads up.
    """
    for _ in range(_MAX_ENCODINGS):
        again = unquote_to_bytes(path).decode("utf-8", "replace")
        if again == path:
            path = _CUT_OFF.sub("", path)
            return None if ".." in path.split("/") else path
        path = again
    return None


def _route(method: bytes, target: bytes, path: str, config: RouterConfig) -> Route:
    """The route of a decoded path in normal form."""
    key = path[:-1] if path.endswith("/") and path != "/" else path
    if key in _LIVE_PATHS:
        return Route(Kind.LIVE, target, path)
    if (key in _OWN_PATHS or key.startswith(_OWN_PREFIXES)) and not (key == METRICS and _names_model(target)):
        return Route(Kind.OWN, target, path)
    if key.startswith(_MODEL_PREFIX):
        return Route(Kind.OWN, target, path, id=key[len(_MODEL_PREFIX) :])
    bare = _undressed(key)
    if bare is None:
        return Route(Kind.NOT_NORMAL, target, path, outcome=Outcome.PATH_NOT_NORMAL)
    opened = _is_open(key, config.open_paths)
    if not opened and is_administrative(method, bare):
        return Route(Kind.DENIED, target, path, dialect=_dialect(key), outcome=Outcome.PATH_DENIED)
    route = _inference(method, target, path, key)
    if route is not None:
        return route
    if config.strict_paths and not opened:
        return Route(Kind.UNKNOWN, target, path, outcome=Outcome.PATH_UNKNOWN)
    if method in _BODILESS:
        return Route(Kind.OTHER, target, path, Where.QUERY if key in _QUERY_PATHS else Where.NOWHERE)
    return Route(Kind.OTHER, target, path, Where.JSON, generates=True)


def _inference(method: bytes, target: bytes, path: str, key: str) -> Route | None:
    """The route of a known inference path."""
    dialect = _dialect(key)
    named = method not in _BODILESS
    if key in JSON_PATHS:
        where = Where.JSON if named else Where.NOWHERE
        makes_id, generates = named and key in _MAKERS, named and key in _GENERATING_PATHS
        return Route(Kind.INFERENCE, target, path, where, dialect, strict=named, makes_id=makes_id, generates=generates)
    if key in MULTIPART_PATHS:
        return Route(Kind.INFERENCE, target, path, Where.MULTIPART if named else Where.NOWHERE, strict=named)
    if key == "/v1/realtime":
        return Route(Kind.INFERENCE, target, path, Where.REALTIME)
    if key == "/v1/videos":
        # A form, or JSON: `Where.MULTIPART` without `strict` means what the content type says.
        return Route(Kind.INFERENCE, target, path, Where.MULTIPART if named else Where.NOWHERE, makes_id=named)
    made = _MADE.fullmatch(key)
    if made is not None:
        return Route(Kind.INFERENCE, target, path, Where.REMEMBERED, dialect, id=made[1])
    return None


def _dialect(key: str) -> Dialect:
    if key.startswith(("/v1/messages", "/messages")):
        return Dialect.ANTHROPIC
    if key.startswith(("/v1/responses", "/responses")):
        return Dialect.RESPONSES
    return Dialect.OPENAI


def _is_open(key: str, open_paths: tuple[str, ...]) -> bool:
    """Whether the configuration opens this administrative path (`/x`, or `/x*` for all that begin so)."""
    return any(key.startswith(path[:-1]) if path.endswith("*") else key == path.rstrip("/") for path in open_paths)


class Classifier:
    """`classify` with one configuration, remembering the few targets that nearly every request has."""

    #: Targets remembered. Only known paths without id and query are, so clients cannot fill it with others.
    LIMIT = 512

    __slots__ = ("_config", "_known")

    def __init__(self, config: RouterConfig) -> None:
        self._config = config
        self._known: dict[tuple[bytes, bytes], Route] = {}

    def __call__(self, method: bytes, target: bytes) -> Route:
        """The route of a request line."""
        route = self._known.get((method, target))
        if route is None:
            route = classify(method, target, self._config)
            common = route.kind in (Kind.INFERENCE, Kind.LIVE, Kind.OWN) and not route.id
            common = common and not route.path.startswith(_OWN_PREFIXES)
            if common and b"?" not in target and target is route.target and len(self._known) < self.LIMIT:
                self._known[method, target] = route
        return route


def query_model(target: bytes) -> str | None:
    """The model in the query (`?model=`), or None.

    Raises `Unreadable` (BAD_MODEL) where it is given twice, empty or too long.
    """
    query = target.partition(b"?")[2]
    if b"model" not in query:
        return None
    found = [value for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True) if name == "model"]
    if not found:
        return None
    if len(found) > 1:
        raise Unreadable(Outcome.BAD_MODEL, "The query gives `model` more than once; give it once.", "model")
    if not found[0] or len(found[0]) > MAX_MODEL_ID:
        raise Unreadable(Outcome.BAD_MODEL, f"`model` must have 1 to {MAX_MODEL_ID} characters.", "model")
    return found[0]


def _names_model(target: bytes) -> bool:
    try:
        return query_model(target) is not None
    except Unreadable:
        return True  # the way of every request finds that out again, and says so


def rename_query_model(target: bytes, new: str) -> bytes:
    """The same target with another model in its query; nothing else changes."""
    path, mark, query = target.partition(b"?")
    value = quote(new, safe="").encode()
    parts = []
    for part in query.split(b"&"):
        name, equals, _ = part.partition(b"=")
        parts.append(name + equals + value if unquote_to_bytes(name) == b"model" else part)
    return path + mark + b"&".join(parts)
