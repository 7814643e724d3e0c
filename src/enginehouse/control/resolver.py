"""From host names to addresses that may be connected to, kept fresh.

Owns `Resolver`: its table of checked addresses by host, looking up, looking up again. What it holds is what workers and
probes connect to, so an address that the rules refuse is never reached, whatever a name is pointed at.
May not live here: the rule itself (`core.address`), connections.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from enginehouse.core.address import address_allowed

#: Seconds a look-up may take.
LOOKUP_TIMEOUT = 5.0
#: Look-ups under way at once.
MAX_LOOKUPS = 16
#: Addresses of one name that are used.
MAX_ADDRESSES = 16


class Found(NamedTuple):
    """What a host resolves to: addresses, or the reason why there are none."""

    addresses: tuple[str, ...]
    reason: str = ""


class Resolver:
    """Addresses by host, at most one look-up of a host at a time."""

    def __init__(self, allow_networks: Sequence[str] = ()) -> None:
        """`allow_networks`: CIDR blocks, empty allows all but link-local."""
        self._allow = tuple(allow_networks)
        self._found: dict[str, Found] = {}
        self._running: dict[str, asyncio.Task[Found]] = {}
        self._gate = asyncio.Semaphore(MAX_LOOKUPS)

    def known(self, host: str) -> Found | None:
        """What is known without asking anybody; None for a name not looked up yet."""
        if (found := self._found.get(host)) is not None:
            return found
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return None
        return self._keep(host, [host])

    async def find(self, host: str) -> Found:
        """What is known, if it is of any use, else what a look-up says."""
        known = self.known(host)
        return known if known and (known.addresses or _is_literal(host)) else await self._look_up(host)

    async def refresh(self, hosts: Iterable[str]) -> None:
        """Look all of them up again, and forget every other one."""
        wanted = set(hosts)
        self._found = {host: found for host, found in self._found.items() if host in wanted}
        names = [host for host in wanted if not _is_literal(host)]
        await asyncio.gather(*[self._look_up(host) for host in names])

    async def _look_up(self, host: str) -> Found:
        """Ask the system. Whoever asks meanwhile gets the same answer; one who gives up waiting stops nobody else."""
        if (task := self._running.get(host)) is None:
            task = self._running[host] = asyncio.ensure_future(self._ask(host))
            task.add_done_callback(lambda _: self._running.pop(host, None))
        return await asyncio.shield(task)

    async def _ask(self, host: str) -> Found:
        loop = asyncio.get_running_loop()
        try:
            async with self._gate, asyncio.timeout(LOOKUP_TIMEOUT):
                infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # TimeoutError is an OSError
            # A name service that is away takes nobody's address away.
            last = self._found.get(host)
            return last if last and last.addresses else self._keep(host, [])
        return self._keep(host, [str(info[4][0]) for info in infos])

    def _keep(self, host: str, addresses: Sequence[str]) -> Found:
        allowed = [a for a in dict.fromkeys(addresses) if address_allowed(a, self._allow)][:MAX_ADDRESSES]
        reason = ""
        if not addresses:
            reason = f"{host} cannot be resolved"
        elif not allowed:
            reason = f"{host} is at an address that may not be used"
        found = self._found[host] = Found(tuple(allowed), reason)
        return found


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
