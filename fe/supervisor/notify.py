"""What systemd is told, over the datagram socket it names in NOTIFY_SOCKET (sd_notify's protocol, in a few lines).

Owns: the socket and the watchdog's period. Never: waits, or fails because nobody listens - without systemd every call
does nothing. The variables are taken out of the environment, so that no child speaks in fe-serve's name.
Read next: arbiter.py decides when what is said; docs/operations.md shows the unit file.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping


class Notifier:
    """Speaks to systemd for this process."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        usec = environ.pop("WATCHDOG_USEC", "")
        pid = environ.pop("WATCHDOG_PID", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._status = ""
        self.watchdog_interval: float | None = None  # seconds between signs of life; half of what systemd allows
        if address[:1] not in ("/", "@"):
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        if usec.isdigit() and int(usec) > 0 and pid in ("", str(os.getpid())):
            self.watchdog_interval = int(usec) / 2e6

    def ready(self) -> None:
        """Started, or a reload has ended."""
        self._send("READY=1")

    def reloading(self) -> None:
        """A reload has begun; systemd compares the time with that of its own request."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The drain has begun."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """A sign of life."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows; sent when it has changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def close(self) -> None:
        """Nothing is said after this."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            return  # nobody there, or its buffer is full: no reason to stop serving
