"""Asks the admin API of a running fe-serve, over TCP or a unix socket.

Owns: one bounded request at a time, and errors in words, each with the exit code of its command. Never: where the
server is (`fe.commands.address`), what is shown of an answer (`fe.commands.status`, `fe.commands.act`).
"""

from __future__ import annotations

import http.client
import socket
from typing import Final, TypeVar

import msgspec

from fe.commands.text import printable
from fe.config.addresses import Address
from fe.control.admin_types import ErrorAnswer, ErrorDetail
from fe.errors import FeError

EXIT_REFUSED: Final = 1
EXIT_UNREACHABLE: Final = 3

TIMEOUT: Final = 10.0  # seconds, for each step of a request
MOST_BYTES: Final = 64 << 20  # of an answer; a status with 10,000 replicas has 3 MB

T = TypeVar("T")


class UnreachableError(FeError):
    """No fe answers there."""

    exit_code = EXIT_UNREACHABLE


class RefusedError(FeError):
    """Fe has answered: no."""

    exit_code = EXIT_REFUSED


class Client:
    """One admin server."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def get(self, path: str, kind: type[T]) -> T:
        """The answer to a GET, read as `kind`. Raises UnreachableError and RefusedError."""
        return self._decoded(self._exchange("GET", path, None), kind)

    def post(self, path: str, body: msgspec.Struct, kind: type[T]) -> T:
        """Asks for a change. Raises UnreachableError and RefusedError."""
        return self._decoded(self._exchange("POST", path, msgspec.json.encode(body)), kind)

    def _exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        connection = _Connection(self.address)
        # The server answers to few names, for the sake of browsers; the one it was reached by need not be among them.
        headers = {"Host": "localhost", "Content-Type": "application/json", "Connection": "close"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            raw = answer.read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UnreachableError(printable(f"no fe-serve answers on {self.address}: {reason}")) from None
        finally:
            connection.close()
        if len(raw) > MOST_BYTES:
            raise self._stranger("its answer is too large")
        if answer.status != 200:
            raise RefusedError(self._reason(answer.status, raw))
        return raw

    def _reason(self, status: int, raw: bytes) -> str:
        try:
            detail = msgspec.json.decode(raw, type=ErrorAnswer).error
        except msgspec.MsgspecError:
            raise self._stranger(f"it answers {status}") from None
        return _words(detail)

    def _decoded(self, raw: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.MsgspecError as error:
            raise self._stranger(str(error)) from None

    def _stranger(self, reason: str) -> UnreachableError:
        return UnreachableError(printable(f"what answers on {self.address} is no fe-serve with this API: {reason}"))


class _Connection(http.client.HTTPConnection):
    """To a port, or to a unix socket."""

    def __init__(self, address: Address) -> None:
        super().__init__(address.host if address.family != "unix" else "localhost", address.port or 80, timeout=TIMEOUT)
        self._address = address

    def connect(self) -> None:
        if self._address.family != "unix":
            return super().connect()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        return self.sock.connect(self._address.host)


def _words(detail: ErrorDetail) -> str:
    mends = {"actions_disabled": "; `admin_actions: true` in the configuration allows them"}
    return printable(f"{detail.message}{mends.get(detail.code, '')}")
