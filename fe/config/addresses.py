"""Addresses as users write them: `127.0.0.1:8080`, `[::1]:8080`, `ml.example:5001`, `unix:/run/fe.sock`.

Owns: their grammar, their one canonical spelling, and which of them a listener or a replica may have. Never: resolving
names, opening sockets (the supervisor for listeners, the replica providers for replicas).
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Final, NamedTuple

UNIX: Final = "unix:"
MAX_UNIX_PATH: Final = 107  # sun_path has 108 bytes, the last of them NUL

_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_DIGITS = re.compile(r"[0-9]{1,5}")


class AddressError(ValueError):
    """Not an address: the reason, with what to write instead after a semicolon."""


class Address(NamedTuple):
    """An address taken apart. `family`: "ipv4", "ipv6", "name" or "unix" (then `host` is the path, `port` 0)."""

    family: str
    host: str
    port: int

    def __str__(self) -> str:
        if self.family == "unix":
            return UNIX + self.host
        return f"[{self.host}]:{self.port}" if self.family == "ipv6" else f"{self.host}:{self.port}"


def parse_address(text: str, folder: str = "") -> Address:
    """The address in `text`; a relative socket path is taken from `folder`. Raises AddressError."""
    if text.startswith(UNIX):
        return _unix(text.removeprefix(UNIX), folder)
    if "://" in text or text.startswith("//"):
        raise AddressError("has a scheme; write host:port alone, fe speaks plain HTTP to it")
    if any(character in text for character in "/@?# \t"):
        raise AddressError("is not host:port; write for example 127.0.0.1:5001, [::1]:5001 or unix:/run/model.sock")
    host, colon, port_text = text.rpartition(":")
    if not colon or not _DIGITS.fullmatch(port_text) or int(port_text) > 65535:
        raise AddressError("has no port from 0 to 65535; write for example 127.0.0.1:5001")
    port = int(port_text)
    if host.startswith("[") and host.endswith("]"):
        return Address("ipv6", _ipv6(host[1:-1]), port)
    if ":" in host:
        raise AddressError(f"is ambiguous; write an IPv6 address in brackets, as in [{host}]:{port}")
    return _ipv4_or_name(host, port)


def listen_address(text: str, folder: str = "") -> Address:
    """An address to listen on: an IP address of this machine, or a socket path. `localhost` means 127.0.0.1."""
    if _DIGITS.fullmatch(text):
        raise AddressError(f"has no host; write 0.0.0.0:{text} for all IPv4 addresses, or 127.0.0.1:{text}")
    if text.startswith((":", "*:")) and not text.startswith("::"):
        raise AddressError(f"has no host; write 0.0.0.0{text[text.index(':') :]} for all IPv4 addresses")
    address = parse_address(text, folder)
    if address.family == "name":
        if address.host.lower() == "localhost":
            return Address("ipv4", "127.0.0.1", address.port)
        raise AddressError("has a host name; write the IP address to listen on, or 0.0.0.0 or [::] for all")
    return address


def replica_address(text: str, folder: str = "") -> Address:
    """An address to send requests to: an IP address or a name, with a port, or a socket path."""
    address = parse_address(text, folder)
    if address.family == "unix":
        return address
    if address.port == 0:
        raise AddressError("has port 0; write the port on which the replica serves")
    if address.host in ("0.0.0.0", "::"):  # noqa: S104 - refused, not bound
        raise AddressError("is not an address to connect to; write 127.0.0.1 or [::1] for this machine")
    return address


def _unix(path: str, folder: str) -> Address:
    if not path or "\0" in path or path.startswith("@"):
        raise AddressError("has no path; write for example unix:/run/fe.sock")
    whole = os.path.normpath(os.path.join(folder, path))
    if len(os.fsencode(whole)) > MAX_UNIX_PATH:
        raise AddressError(f"has a socket path longer than {MAX_UNIX_PATH} bytes; use a shorter one")
    return Address("unix", whole, 0)


def _ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise AddressError("has no IPv6 address in its brackets; write for example [::1]:5001") from None
    if address.scope_id is not None:
        raise AddressError("has a zone, which is not supported; write the address without %...")
    return str(address)


def _ipv4_or_name(host: str, port: int) -> Address:
    try:
        return Address("ipv4", str(ipaddress.IPv4Address(host)), port)
    except ValueError:
        pass
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise AddressError("has neither an IP address nor a host name before the port")
    return Address("name", host, port)
