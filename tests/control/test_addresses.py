"""Packed addresses are what connect(2) takes: checked with the C function itself, against sockets that listen."""

from __future__ import annotations

import ctypes
import os
import socket

import pytest

from fe.control.addresses import display, literal, pack_inet, pack_unix, unpack

LIBC = ctypes.CDLL(None, use_errno=True)


def listener(family: int, address: object) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.bind(address)  # type: ignore[arg-type]
    made.listen()
    return made


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_the_kernel_connects_to_packed_bytes(family, tmp_path):
    addresses = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0), socket.AF_UNIX: str(tmp_path / "s")}
    with listener(family, addresses[family]) as server, socket.socket(family, socket.SOCK_STREAM) as client:
        bound = server.getsockname()
        packed = pack_unix(bound) if family == socket.AF_UNIX else pack_inet(bound[0], bound[1])
        assert LIBC.connect(client.fileno(), packed, len(packed)) == 0, os.strerror(ctypes.get_errno())
        peer = server.accept()[0]
        peer.close()
        unpacked_family, address = unpack(packed)
        assert unpacked_family == family
        assert (address.decode() if isinstance(address, bytes) else address) == client.getpeername()


@pytest.mark.parametrize("text", ["127.0.0.1:80", "[::1]:8080", "unix:/run/model.sock", "10.1.2.3:65535"])
def test_literals_come_back_as_they_were_written(text):
    assert display(literal(text)) == text


def test_names_are_no_literals():
    assert literal("ml.example:5001") is None


def test_a_unix_path_that_is_too_long_is_refused():
    assert len(pack_unix("/" + "x" * 106)) == 2 + 107 + 1
    with pytest.raises(ValueError, match="at most 107 bytes"):
        pack_unix("/" + "x" * 107)


def test_other_families_are_refused():
    with pytest.raises(ValueError, match="family 17"):
        unpack(b"\x11\0" + bytes(14))
