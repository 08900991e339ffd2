"""Addresses of replicas: text as configured, text for people, and the bytes that the lease table keeps.

Owns: packing into struct sockaddr_in, sockaddr_in6 and sockaddr_un and back. Never: the grammar of what users write
(`fe.config.addresses`), name resolution (`fe.control.providers.static`). The table treats the bytes as opaque; workers
hand them to connect(2).
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from fe.config.addresses import parse_address

UNIX_PATH_BYTES: Final = 107  # sun_path without its final NUL

SocketAddress = tuple[str, int] | tuple[str, int, int, int] | str | bytes


def pack_inet(host: str, port: int, scope_id: int = 0) -> bytes:
    """A literal IPv4 or IPv6 address and port as a struct sockaddr. Raises OSError on anything else."""
    if ":" in host:
        raw = socket.inet_pton(socket.AF_INET6, host)
        return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16s", port, 0, raw) + struct.pack("=I", scope_id)
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_pton(socket.AF_INET, host))


def pack_unix(path: str) -> bytes:
    """A path as a struct sockaddr_un. Raises ValueError when it is too long."""
    raw = path.encode("utf-8", "surrogateescape")
    if len(raw) > UNIX_PATH_BYTES:
        raise ValueError(f"a unix socket's path has at most {UNIX_PATH_BYTES} bytes, this one has {len(raw)}")
    return struct.pack("=H", socket.AF_UNIX) + raw + b"\0"


def unpack(sockaddr: bytes) -> tuple[int, SocketAddress]:
    """Family and Python socket address of packed bytes. Raises ValueError on an unknown family."""
    (family,) = struct.unpack_from("=H", sockaddr)
    if family == socket.AF_INET:
        port, raw = struct.unpack_from("!H4s", sockaddr, 2)
        return family, (socket.inet_ntop(family, raw), port)
    if family == socket.AF_INET6:
        port, flow, raw = struct.unpack_from("!HI16s", sockaddr, 2)
        (scope,) = struct.unpack_from("=I", sockaddr, 24)
        return family, (socket.inet_ntop(family, raw), port, flow, scope)
    if family == socket.AF_UNIX:
        return family, sockaddr[2:].rstrip(b"\0")
    raise ValueError(f"an address of family {family} cannot be used")


def display(sockaddr: bytes) -> str:
    """The address as a person writes it: 127.0.0.1:5001, [::1]:5001, unix:/run/model.sock."""
    family, address = unpack(sockaddr)
    if isinstance(address, bytes):
        return "unix:" + address.decode("utf-8", "replace")
    if family == socket.AF_INET6:
        return f"[{address[0]}]:{address[1]}"
    return f"{address[0]}:{address[1]}"


def literal(text: str) -> bytes | None:
    """The packed address of a configured replica without a name, or None when `text` holds a name to resolve."""
    address = parse_address(text)
    if address.family == "unix":
        return pack_unix(address.host)
    return None if address.family == "name" else pack_inet(address.host, address.port)
