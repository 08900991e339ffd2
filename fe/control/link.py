"""The controller's end of the socket to the supervisor: one JSON document per SOCK_SEQPACKET message.

Owns: reading and writing without ever blocking the loop. Never: what the messages mean (they go to `on_message`; see
`fe.model`). When the supervisor's end closes, `on_close` is called once: the controller has nothing left to do.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from fe import model
from fe.log import logger

log = logger("control.link")

MESSAGE_BYTES: Final = 1 << 20  # largest message read: the list of 10,000 local replicas is below that
SEND_BUFFER: Final = 4 << 20

_decode = msgspec.json.Decoder(model.ToController).decode
_encode = msgspec.json.Encoder().encode


class SupervisorLink:
    """Messages to and from the supervisor, in order."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_message: Callable[[model.ToController], None],
        on_close: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._on_message = on_message
        self._on_close = on_close
        self._waiting: deque[bytes] = deque()  # not yet taken by the socket
        self._open = True
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        loop.add_reader(sock.fileno(), self._on_readable)

    def send(self, message: model.ToSupervisor) -> None:
        """Queues a message; it goes out in order, at once where the socket takes it."""
        if not self._open:
            return
        self._waiting.append(_encode(message))
        if len(self._waiting) == 1:
            self._flush()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            self._waiting.clear()

    def _flush(self) -> None:
        while self._waiting:
            try:
                self._sock.send(self._waiting[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    self._end(f"cannot send: {error}")
                    return
                log.error("a message is too large for the supervisor's socket", bytes=len(self._waiting[0]))
            self._waiting.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _on_readable(self) -> None:
        for _ in range(64):  # fair to the other readers of this loop
            if not self._open:
                return
            try:
                raw = self._sock.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._end(f"cannot receive: {error}")
                return
            if not raw:
                self._end("the supervisor has closed")
                return
            try:
                message = _decode(raw)
            except msgspec.MsgspecError as error:
                log.error("a message of the supervisor was not understood", reason=error)
                continue
            self._on_message(message)

    def _end(self, why: str) -> None:
        if self._open:
            log.debug("the link has ended", reason=why)
            self.close()
            self._on_close()
