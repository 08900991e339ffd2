"""Whether the peer of a connection is a trusted proxy, whose forwarding fields are added to instead of overwritten.

Owns: networks in CIDR notation and the test of one address, asked once per connection. Never: header fields (those are
`_build.pyx`). A peer on a unix socket is trusted where `unix` stands among the networks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
UNIX = "unix"


def plain_address(host: str) -> str:
    """An address as it is written in header fields: without a zone, IPv4 not in IPv6 clothes."""
    address = _parse(host)
    return str(address)


def _parse(host: str) -> Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class TrustedNetworks:
    """The `trusted_proxies` of a snapshot."""

    def __init__(self, networks: Iterable[str]) -> None:
        given = tuple(networks)
        self._unix = any(network.startswith(UNIX) for network in given)
        self._networks = tuple(
            ipaddress.ip_network(network, strict=False) for network in given if not network.startswith(UNIX)
        )
        self._covers = lru_cache(maxsize=1024)(self._look_up)

    def covers(self, host: str | None) -> bool:
        """Whether `host`, an address in text (None: a unix socket's peer), is trusted."""
        if host is None:
            return self._unix
        return bool(self._networks) and self._covers(host)

    def _look_up(self, host: str) -> bool:
        address = _parse(host)
        return any(address in network for network in self._networks)
