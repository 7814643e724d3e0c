"""What the router needs to reach some engines besides their address: a key and an authority.

Owns `Access` and `Accesses`, which keeps the TLS contexts. May not live here: finding a key (it is handed in, resolved)
and any printing of one.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

import msgspec

from enginehouse.core.config.base import ConfigError


class Access(msgspec.Struct, frozen=True):
    """How to reach one engine; "" where nothing special is needed. The key does not show in `repr`."""

    api_key: str = ""
    ca_file: str = ""

    def __repr__(self) -> str:
        return f"Access(api_key={'***' if self.api_key else ''!r}, ca_file={self.ca_file!r})"


class Accesses:
    """Access by service name. `find(name)` gives key and CA file, as `[[router.engines]]` says."""

    def __init__(self, find: Callable[[str], tuple[str, str]] = lambda _: ("", "")) -> None:
        self._find = find
        self._contexts: dict[str, ssl.SSLContext] = {}

    def of(self, name: str) -> Access:
        """How to reach the service of this name."""
        return Access(*self._find(name))

    def tls(self, ca_file: str) -> ssl.SSLContext:
        """The context that trusts this authority, or those of the system where it is "". Raises `ConfigError`."""
        if (context := self._contexts.get(ca_file)) is None:
            try:
                context = self._contexts[ca_file] = ssl.create_default_context(cafile=ca_file or None)
            except ssl.SSLError:
                raise ConfigError(f"ca_file {ca_file}: is no PEM file with certificates") from None
            except OSError as error:
                raise ConfigError(f"ca_file {ca_file}: {error.strerror}") from None
        return context
