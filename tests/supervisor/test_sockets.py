"""The end of the intake: who waits to be accepted is still there, nobody new comes, and those who tried are refused."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
from collections.abc import Iterator

import pytest

from fe.supervisor.sockets import Sockets

TCP_SYN_SENT = 2
LIMIT = 60.0


@contextlib.contextmanager
def listening(*addresses: str) -> Iterator[Sockets]:
    sockets = Sockets()
    sockets.open(addresses, (), 1)
    try:
        yield sockets
    finally:
        sockets.close()


def client(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(LIMIT)
    return made


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1:0"), (socket.AF_INET6, "[::1]:0")])
def test_a_segment_that_begins_a_connection_is_dropped(family: int, address: str) -> None:
    with listening(address) as sockets, client(family) as former, client(family) as late:
        own = sockets.listeners[0].socket
        former.connect(own.getsockname()[:2])
        former.sendall(b"already here")
        sockets.end_intake()
        late.setblocking(False)
        assert late.connect_ex(own.getsockname()[:2]) == errno.EINPROGRESS
        state = late.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]
        assert state == TCP_SYN_SENT  # loopback would have connected it by now
        accepted, _ = own.accept()
        accepted.settimeout(LIMIT)
        with accepted:
            assert accepted.recv(100) == b"already here"
            former.sendall(b", and goes on")
            assert accepted.recv(100) == b", and goes on"
        with pytest.raises(BlockingIOError):
            own.accept()
        sockets.close_listeners()
        assert select.select([], [late], [], LIMIT)[1]  # it has tried again
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_a_handshake_under_way_can_end() -> None:
    """Its last segment is no SYN: who has been answered is let in."""
    with listening("127.0.0.1:0") as sockets, client(socket.AF_INET) as slow:
        own = sockets.listeners[0].socket
        # The client's connection is made by its first data, which is sent after the end of the intake.
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        slow.connect(own.getsockname())
        with pytest.raises(BlockingIOError):
            own.accept()
        sockets.end_intake()
        slow.sendall(b"x")
        assert select.select([own], [], [], LIMIT)[0]
        accepted, _ = own.accept()
        with accepted:
            assert accepted.recv(1) == b"x"


def test_a_file_of_a_socket_refuses_at_once(tmp_path) -> None:
    path = str(tmp_path / "fe.sock")
    with listening(f"unix:{path}") as sockets, client(socket.AF_UNIX) as former, client(socket.AF_UNIX) as late:
        own = sockets.listeners[0].socket
        former.connect(path)
        former.sendall(b"already here")
        sockets.end_intake()
        with pytest.raises(ConnectionRefusedError):
            late.connect(path)
        accepted, _ = own.accept()
        with accepted:
            assert accepted.recv(100) == b"already here"
        with pytest.raises(BlockingIOError):
            own.accept()


def test_a_kernel_without_such_means_is_no_obstacle() -> None:
    with listening("127.0.0.1:0") as sockets:
        own = sockets.listeners[0].socket
        own.setsockopt(socket.SOL_SOCKET, 44, struct.pack("i", 1))  # SO_LOCK_FILTER: none can be attached any more
        sockets.end_intake()
        with client(socket.AF_INET) as late:
            late.connect(own.getsockname())
            own.accept()[0].close()
