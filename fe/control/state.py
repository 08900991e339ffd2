"""What a controller leaves to its successor, kept in a memfd that outlives it: configuration, numbers, drains by hand.

Owns: what is left (`Legacy`), and the layout of that memfd: a header that names the valid copy, and copies written
beside each other so that a controller killed at any moment leaves the old or the new one, never a mixture. Never: what
the configuration's bytes mean (`fe.config` encodes them). The header is one small pwrite within a page, which a kill
does not split; the checksum guards the rest.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import Final

import msgspec

HEADER: Final = struct.Struct("=8sQQI")  # magic, offset, length, checksum
MAGIC: Final = b"fe-state"
FIRST: Final = 4096


class ClusterLegacy(msgspec.Struct, frozen=True):
    """What was known of the cluster whose objects are part of the applied configuration."""

    files: bytes  # the configuration without them, encoded likewise
    namespace: str  # fe's own
    seen: tuple[str, ...]  # paths of the lists that had been seen whole
    owners: dict[
        str, tuple[str, str, str]
    ] = {}  # "endpoint" or "endpoint/deployment" -> kind, namespace, name of its object


class Legacy(msgspec.Struct, frozen=True):
    """What a successor has to know beside the table and the supervisor's list of local replicas."""

    config: bytes  # the applied one, as `fe.config.snapshot` encodes it
    wanted: dict[str, int] = {}  # by "endpoint/deployment": how many replicas there should be
    held: dict[str, tuple[str, ...]] = {}  # likewise: addresses of replicas drained by hand
    cluster: ClusterLegacy | None = None  # where models are found in one


encode_legacy = msgspec.msgpack.Encoder().encode
decode_legacy = msgspec.msgpack.Decoder(Legacy).decode


def save_state(fd: int, raw: bytes) -> None:
    """Makes `raw` the state that `load_state` returns from now on."""
    offset = FIRST
    current = _header(fd)
    if current is not None and FIRST + len(raw) > current[0]:
        offset = -(-(current[0] + current[1]) // FIRST) * FIRST  # behind the valid copy, which stays whole
    written = 0
    while written < len(raw):
        written += os.pwrite(fd, raw[written:], offset + written)
    os.pwrite(fd, HEADER.pack(MAGIC, offset, len(raw), zlib.crc32(raw)), 0)
    if offset == FIRST:
        os.ftruncate(fd, FIRST + len(raw))


def load_state(fd: int) -> bytes | None:
    """The last saved state, or None when there is none (or it cannot be trusted)."""
    header = _header(fd)
    if header is None:
        return None
    offset, length, checksum = header
    raw = os.pread(fd, length, offset)
    return raw if len(raw) == length and zlib.crc32(raw) == checksum else None


def _header(fd: int) -> tuple[int, int, int] | None:
    raw = os.pread(fd, HEADER.size, 0)
    if len(raw) < HEADER.size:
        return None
    magic, offset, length, checksum = HEADER.unpack(raw)
    return (offset, length, checksum) if magic == MAGIC else None
