"""Which hosts and addresses may be registered and connected to.

Owns: the spelling of a host and the rule for addresses (link-local never, an optional allow-list). Used on what is
registered and again on what a name resolves to, because a name can be pointed elsewhere after it was accepted.
May not live here: looking names up.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
#: What the system's resolver takes for a number: it reads 2852039166, 0251.254.1 and 0xA9FEA9FE as addresses, too.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
#: IPv6 networks whose last 32 bits are an IPv4 address (NAT64, IPv4-compatible), and that are reached as that one.
_WRAPPERS = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))


def check_host(host: str, allow_networks: Sequence[str] = ()) -> None:
    """Accept a host name or the usual spelling of an IP address (IPv6 without brackets).

    Raises `ValueError` with a message to show. A name is accepted whatever it may resolve to: `address_allowed` decides
    on that later.
    """
    if not host or len(host) > 253:
        raise ValueError("must be a host name or an IP address of 1 to 253 characters")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        if not all(_LABEL.fullmatch(label) for label in labels) or _NUMBER.fullmatch(labels[-1]):
            raise ValueError("must be a host name or an IP address in its usual spelling") from None
        return
    if not address_allowed(host, allow_networks):
        wanted = f"in {', '.join(allow_networks)} and " if allow_networks else ""
        raise ValueError(f"must be {wanted}the address of one machine, not link-local, multicast or unspecified")


def address_allowed(ip: str, allow_networks: Sequence[str] = ()) -> bool:
    """May we connect to this address? False for what is no address at all, and for an IPv6 address with a zone.

    Addresses that carry an IPv4 address inside are judged by both. `allow_networks`: CIDR blocks, empty allows all
    but link-local, multicast, broadcast and unspecified ones. Raises `ValueError` for a block that is not one.
    """
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return False
    inner = _inner(address)
    if any(a.is_link_local or a.is_multicast or a.is_unspecified or int(a) == 0xFFFFFFFF for a in (address, inner)):
        return False
    return not allow_networks or any(inner in network for network in networks(tuple(allow_networks)))


@functools.lru_cache(maxsize=16)
def networks(blocks: tuple[str, ...]) -> tuple[Network, ...]:
    """CIDR blocks as networks. Raises `ValueError` naming the one that cannot be read."""
    return tuple(ipaddress.ip_network(block, strict=False) for block in blocks)


def _inner(address: Address) -> Address:
    """The IPv4 address an IPv6 address stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if found := address.ipv4_mapped or address.sixtofour:
        return found
    if any(address in wrapper for wrapper in _WRAPPERS) and int(address) > 1:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
