"""Who the client is: X-Forwarded-For, believed from configured proxies only, and the affinity key made of it.

Owns `client_address` (CONTRACTS 1.2) and `session_key`. May not live here: hashing a key to a service
(`policy.affinity`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

#: Addresses of one request that are looked at, from the right.
MAX_HOPS = 32
#: Bytes of a believed header that are passed on; more is cut off on the left, where it is oldest.
MAX_HEADER = 2048
_MAX_KEY = 256

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(peer: str, lines: Sequence[bytes], trusted: tuple[str, ...]) -> tuple[str, bytes]:
    """(address of the client, value of the X-Forwarded-For to send to the engine).

    `lines` are the values of that header as received. From a peer outside `trusted` (CIDR blocks) they are thrown
    away: the address is "", the value the peer alone. From a trusted one the address is the rightmost that is not
    trusted itself (the leftmost where all are), and the peer is appended. "" where there is none to believe: a bare
    peer never counts, since one gateway in front would stand for everybody.
    """
    if not lines or not is_trusted(peer, trusted):
        return "", peer.encode("latin-1", "replace")
    return _believed(peer, b", ".join(lines), trusted)


@lru_cache(maxsize=4096)
def is_trusted(address: str, trusted: tuple[str, ...]) -> bool:
    """Whether `address` lies in one of the CIDR blocks."""
    parsed = _parse(address)
    return parsed is not None and any(
        parsed.version == network.version and parsed in network for network in _networks(trusted)
    )


@lru_cache(maxsize=4096)
def _believed(peer: str, line: bytes, trusted: tuple[str, ...]) -> tuple[str, bytes]:
    client = ""
    for hop in reversed(line.decode("latin-1").split(",")[-MAX_HOPS:]):
        address = _parse(hop.strip())
        if address is None:
            client = ""  # what stands left of something unreadable may be anything
            break
        client = str(address)
        if not is_trusted(client, trusted):
            break
    return client, line[-MAX_HEADER:] + b", " + peer.encode("latin-1", "replace")


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address as proxies write it: bare, with a port, in brackets, with a zone, or IPv4 in IPv6's clothes."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=16)
def _networks(trusted: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(block, strict=False) for block in trusted)


def session_key(model: str, prompt_cache_key: str, client: str, user_agent: bytes, session: bytes = b"") -> str:
    """The affinity key of CONTRACTS 1.2, "" where nothing pins the request.

    `session`: the header x-session-id, which counts less than `prompt_cache_key` and more than the address. `client` is
    what `client_address` found.
    """
    if prompt_cache_key or session:
        kind, key = ("prompt_cache", prompt_cache_key) if prompt_cache_key else ("session", session.decode("latin-1"))
        if len(key) > _MAX_KEY:
            key = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{model or 'default'}:{kind}:{key}"
    if client:
        return f"{model or 'default'}:ip:{sha256(client.encode() + user_agent).hexdigest()[:16]}"
    return ""
