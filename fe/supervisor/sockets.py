"""Listening sockets: opened before the fork, kept open by the supervisor while it serves.

Owns: binding, the files of AF_UNIX sockets, and clear words for what cannot be bound. Never: accepts. On TCP each
worker has a SO_REUSEPORT socket of its own; on AF_UNIX, which has no such option, all share one.
Read next: arbiter.py (who closes what when), fe/worker.py (who accepts).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from fe.errors import ResourceError
from fe.log import logger
from fe.model import Listener

log = logger("supervisor")

BACKLOG = 65_535  # the kernel cuts it to net.core.somaxconn
_LOCK_LIMIT = 2.0  # seconds to wait for another fe-serve that is opening a socket in the same directory

_SO_ATTACH_FILTER = 26
# Classic BPF (linux/filter.h) on a segment from its TCP header on. A SYN without ACK is dropped, so that its sender
# tries again in a second; everything else passes, so that a handshake under way can end.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # A = the byte of the flags
    (0x54, 0, 0, 0x12),  # A &= SYN | ACK
    (0x15, 0, 1, 0x02),  # A == SYN?
    (0x06, 0, 0, 0),  # then nothing of it
    (0x06, 0, 0, 0xFFFFFFFF),  # else all
)

MENDS = {
    errno.EADDRINUSE: "something listens there already; stop it or choose another address",
    errno.EACCES: "no permission; ports below 1024 and foreign directories need privileges",
    errno.EPERM: "no permission",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EAFNOSUPPORT: "this machine does not support that kind of address",
    errno.ENOENT: "its directory does not exist",
    errno.EMFILE: "too many open descriptors; raise the limit (ulimit -n, LimitNOFILE=)",
}


@dataclass
class Sockets:
    """The listening sockets of fe-serve and the socket files it has to remove."""

    listeners: list[Listener] = field(default_factory=list)
    admin: list[socket.socket] = field(default_factory=list)
    _files: list[tuple[str, int, int]] = field(default_factory=list)  # path, device, inode

    def open(self, listen: tuple[str, ...], admin: tuple[str, ...], workers: int) -> None:
        """Opens everything or nothing; ResourceError names the address that could not be had."""
        try:
            for address in listen:
                self._open_listener(address, workers)
            for address in admin:
                self._open_admin(address)
        except BaseException:
            self.close()
            raise

    def end_intake(self) -> None:
        """No connection begins from now on, while those that wait to be accepted stay: then the sockets can be emptied
        and closed without one that came in between."""
        for listener in self.listeners:
            _refuse_new(listener.socket)

    def close_listeners(self) -> None:
        """Ends our copies, so that the workers' are the last ones; removes socket files, so that nobody new comes."""
        for listener in self.listeners:
            listener.socket.close()
        self._unlink()

    def close(self) -> None:
        """Closes everything; may be called twice."""
        self.close_listeners()
        for admin in self.admin:
            admin.close()

    def addresses(self) -> list[str]:
        """Where clients find us, with the ports that were really bound; each once."""
        return list(dict.fromkeys(describe(listener.socket) for listener in self.listeners))

    def _open_listener(self, address: str, workers: int) -> None:
        with _described(address):
            if address.startswith("unix:"):
                self.listeners.append(Listener(self._open_unix(address.removeprefix("unix:")), address, None))
                return
            for index, opened in enumerate(_open_tcp(address, workers)):
                self.listeners.append(Listener(opened, address, index))

    def _open_admin(self, address: str) -> None:
        with _described(address):
            if address.startswith("unix:"):
                self.admin.append(self._open_unix(address.removeprefix("unix:")))
            else:
                self.admin.extend(_open_tcp(address, 1))

    def _open_unix(self, path: str) -> socket.socket:
        with contextlib.ExitStack() as stack:
            # The lock keeps two starting servers from taking each other's fresh socket for a stale one.
            stack.enter_context(_locked(os.path.dirname(path) or "."))
            _remove_stale(path)
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            stack.callback(opened.close)
            opened.bind(path)
            opened.listen(BACKLOG)
            made = os.stat(path)
            stack.pop_all()
        self._files.append((path, made.st_dev, made.st_ino))
        return opened

    def _unlink(self) -> None:
        for path, device, inode in self._files:
            with contextlib.suppress(OSError):
                found = os.stat(path)
                if (found.st_dev, found.st_ino) == (device, inode):
                    os.unlink(path)
        self._files.clear()


def describe(bound: socket.socket) -> str:
    """The address of a bound socket as a user writes it."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _open_tcp(address: str, count: int) -> list[socket.socket]:
    """`count` sockets that share the port by SO_REUSEPORT, and with nobody outside this process.

    The option would let a second fe-serve of the same user join silently. So the first socket binds and listens
    without it, which fails while anybody else listens there, and gets it afterwards.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sockaddr = (host, int(port))
    with contextlib.ExitStack() as stack:
        group: list[socket.socket] = []
        for index in range(count):
            opened = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            stack.callback(opened.close)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if index:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            opened.bind(sockaddr if index == 0 else group[0].getsockname())
            opened.listen(BACKLOG)
            if index == 0 and count > 1:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            group.append(opened)
        stack.pop_all()
    return group


def _refuse_new(listening: socket.socket) -> None:
    """Of all processes that have this socket. Where the kernel has no such means, somebody may slip in as it closes."""
    try:
        if listening.family == socket.AF_UNIX:
            listening.shutdown(socket.SHUT_RD)
        else:
            program = array("B", b"".join(struct.pack("HBBI", *one) for one in _DROP_SYN))
            told = struct.pack("HP", len(_DROP_SYN), program.buffer_info()[0])
            listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, told)
    except OSError as error:
        log.debug("connections may still begin while this socket closes", address=describe(listening), reason=error)


def _remove_stale(path: str) -> None:
    """Removes the socket file of a server that is gone; OSError when something lives there."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "a file that is not a socket is in the way; remove it or choose another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        refused = probe.connect_ex(path)
    if refused != errno.ECONNREFUSED:  # 0 or EAGAIN: somebody listens; EACCES: cannot know
        raise OSError(errno.EADDRINUSE if refused in (0, errno.EAGAIN) else refused, os.strerror(refused))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        limit = time.monotonic() + _LOCK_LIMIT
        while time.monotonic() < limit:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.01)
        yield  # without the lock after the limit: somebody else locks this directory for reasons of their own
    finally:
        os.close(fd)


@contextlib.contextmanager
def _described(address: str) -> Iterator[None]:
    """Turns an OSError into a ResourceError with the address and what to do."""
    try:
        yield
    except OSError as error:
        mend = MENDS.get(error.errno or 0, error.strerror or str(error))
        raise ResourceError(f"cannot listen on {address}: {mend}") from error
