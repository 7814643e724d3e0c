"""What must hold of every request that an engine gets, whatever a client sent.

Owns a reader of requests that is stricter than any engine's. May not live here: answering (`engine`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from bench.fuzz.corpus import DIGITS

_LINE = re.compile(rb"([A-Z][A-Z-]*) (/[\x21-\x7e\x80-\xff]*) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ([\t\x20-\x7e\x80-\xff]*)")
_TAG = re.compile(rb"(?i)\r\nx-fuzz: *(\d{%d})\r\n" % DIGITS)
#: Of engines' administration, none of which the router's configuration opens.
_ADMIN: Final = frozenset(b"/sleep /wake_up /shutdown /reset_prefix_cache /load_lora_adapter /pause".split())
#: What the router asks engines by itself.
PROBED: Final = frozenset(
    (b"/health", b"/v1/models", b"/models", b"/metrics", b"/server_info", b"/get_server_info", b"/props")
)
_HOPS: Final = frozenset(
    (b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer", b"http2-settings", b"expect")
)


@dataclass(frozen=True)
class Asked:
    """One head as an engine read it. `problem`: what is wrong with it, "" if nothing is."""

    method: bytes
    target: bytes
    length: int
    tag: int
    websocket: bool
    problem: str


def read(head: bytes, host: bytes) -> Asked:
    """Read a head up to and with its empty line; `host`: what its Host must be."""
    found = _TAG.search(head)
    tag = int(found[1]) if found else -1
    first, *lines = head[:-4].split(b"\r\n")
    matched = _LINE.fullmatch(first)
    if matched is None:
        return Asked(b"", b"", 0, tag, False, f"a request line that is none: {first[:120]!r}")
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return Asked(matched[1], matched[2], 0, tag, False, f"a header line that is none: {line[:120]!r}")
        fields.setdefault(field[1].lower(), []).append(field[2])
    lengths = fields.get(b"content-length", [])
    length = int(lengths[0]) if lengths and lengths[0].isdigit() else 0
    websocket = fields.get(b"upgrade") == [b"websocket"]
    return Asked(matched[1], matched[2], length, tag, websocket, _problem(matched[2], fields, host, websocket))


def _problem(target: bytes, fields: dict[bytes, list[bytes]], host: bytes, websocket: bool) -> str:
    if target in PROBED and not {b"x-request-id", b"x-forwarded-for", b"x-fuzz"} & fields.keys():
        return ""  # a probe of the router's own
    lengths = fields.get(b"content-length", [])
    if len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
        return f"lengths: {lengths}"
    if b"transfer-encoding" in fields:
        return f"a transfer coding: {fields[b'transfer-encoding']}"
    if fields.get(b"host") != [host]:
        return f"Host: {fields.get(b'host')}, not {host!r}"
    for name in (b"x-request-id", b"x-forwarded-for"):
        if len(fields.get(name, [])) != 1:
            return f"{name.decode()} comes {len(fields.get(name, []))} times"
    for name in _HOPS & fields.keys():
        return f"{name.decode()} was passed on"
    if (b"connection" in fields or b"upgrade" in fields) and not websocket:
        return f"Connection: {fields.get(b'connection')}, Upgrade: {fields.get(b'upgrade')}"
    path = unquote_to_bytes(target.partition(b"?")[0])
    if path.rstrip(b"/") in _ADMIN or b"/../" in path or path.endswith(b"/.."):
        return f"a path that nobody may use: {target!r}"
    return ""
