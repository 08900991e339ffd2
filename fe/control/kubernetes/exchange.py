"""One exchange with an API server: what was asked, what came of it, how much of it is read.

Owns: an `Answer`, the server's own refusal (`ApiError`) and every other outcome as an `UnreachableError`; the bounds
on bodies and lines. Never: a limit in time or a second attempt (`fe.control.kubernetes.client`), what an answer means.
The text of an exception of aiohttp may hold a request's headers: it goes no further than here.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import msgspec

from fe.control.kubernetes.access import Access, UnreachableError, UntrustedError
from fe.errors import FeError

CONNECT_WITHIN: Final = 2.0  # seconds; a server that returns is found by the attempt after
BODY_BYTES: Final = 32 << 20
LINE_BYTES: Final = 8 << 20  # an object has at most 1.5 MB in etcd
MESSAGE_CHARS: Final = 500
CLOSED: Final = "the connection to the cluster was closed"
KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 3), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))

_decode = msgspec.json.Decoder().decode


class UnansweredError(UnreachableError):
    """Nothing came of it: no connection, or no answer in time. What else is open there may be dead, too."""


class ApiError(FeError):
    """The server refused. `reason` is its word (NotFound, Conflict, ...), `retry_after` in seconds if it named any."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}" if message else f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. `body` is empty where the server sent no JSON."""

    status: int
    body: dict[str, Any]
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `silence`: seconds without a byte that end it; `stream`: not one answer, but lines for long."""

    method: str
    path: str
    query: Mapping[str, str]
    silence: float
    body: Any = None
    content_type: str | None = None
    stream: bool = False


@contextlib.asynccontextmanager
async def exchange(access: Access, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
    """Asks; inside, a successful head is there and the body can be read. Raises ApiError, UnreachableError."""
    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_WITHIN, sock_read=request.silence)
    response: aiohttp.ClientResponse | None = None
    try:
        response = await _send(access, request, limits)
        if response.status >= 300:
            raise _refusal(response, await _read(response))
        if request.stream:
            _keep_alive(response)
        yield response
    except ssl.SSLCertVerificationError as error:  # aiohttp's error for certificates is one of these
        inner = getattr(error, "certificate_error", error)
        verdict = getattr(inner, "verify_message", "") or type(inner).__name__
        raise UntrustedError(f"the server's certificate is not trusted: {verdict}") from None
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise (UnansweredError if _is_silence(error) else UnreachableError)(_reason(error)) from None
    except Exception:
        if access.closed:  # aiohttp says so by an assertion, among others
            raise UnreachableError(CLOSED) from None
        raise
    finally:
        if response is not None:
            response.close()  # the connection of an answer that was read to its end is back in the pool by now


async def read_answer(response: aiohttp.ClientResponse) -> Answer:
    """The whole answer. Raises UnreachableError if it is not the JSON object that it says it is."""
    raw = await _read(response)
    body: Any = {}
    if response.content_type == "application/json":
        try:
            body = _decode(raw)
        except msgspec.MsgspecError:
            raise UnreachableError("the answer is not JSON") from None
    if not isinstance(body, dict):
        raise UnreachableError("the answer is not a JSON object")
    return Answer(response.status, body, _seconds(response.headers.get("Retry-After")))


def refusal(status: object, code: int, reason: str = "", retry_after: str | None = None) -> ApiError:
    """An ApiError from a decoded Status object; `code` and `reason` stand where it has none."""
    told: dict[str, Any] = status if isinstance(status, dict) else {}
    details = told.get("details")
    wait = retry_after or (details.get("retryAfterSeconds") if isinstance(details, dict) else None)
    said = told.get("reason")
    message = str(told.get("message") or "")[:MESSAGE_CHARS]
    return ApiError(code, said if isinstance(said, str) and said else reason, message, _seconds(wait))


class Lines:
    """Cuts what comes of a stream into lines."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytearray]:
        """The lines that are complete now, without their ends. Raises UnreachableError: one is too long."""
        self._rest += chunk
        lines: list[bytearray] = []
        if b"\n" in chunk:
            *lines, self._rest = self._rest.split(b"\n")
        if len(self._rest) > LINE_BYTES:
            raise UnreachableError(f"a line above {LINE_BYTES} bytes")
        return [line for line in lines if line]

    def end(self) -> None:
        """Raises UnreachableError if the stream has ended within a line."""
        if self._rest:
            raise UnreachableError("the answer ended within a line")


async def _send(access: Access, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
    headers = {"Accept": "application/json"}
    if request.content_type is not None:
        headers["Content-Type"] = request.content_type
    method, url, headers, body, _ = await access.api.param_serialize(
        request.method,
        request.path,
        query_params=list(request.query.items()),
        header_params=headers,
        body=request.body,
        auth_settings=["BearerToken"],
    )
    if access.closed:  # the package would open another session, which nobody closes
        raise UnreachableError(CLOSED)
    answer = await access.api.call_api(method, url, headers, body, None, _request_timeout=limits)
    response: aiohttp.ClientResponse = answer.response
    return response


def _keep_alive(response: aiohttp.ClientResponse) -> None:
    """A server that lost its power does not say so; asked by the kernel every few seconds, its successor does."""
    transport = None if response.connection is None else response.connection.transport
    sock = None if transport is None else transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def _read(response: aiohttp.ClientResponse) -> bytearray:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > BODY_BYTES:
            raise UnreachableError(f"an answer above {BODY_BYTES} bytes")
    return body


def _refusal(response: aiohttp.ClientResponse, raw: bytearray) -> ApiError:
    status = None
    with contextlib.suppress(msgspec.MsgspecError):  # a proxy in between answers in its own way
        status = _decode(raw)
    return refusal(status, response.status, response.reason or "", response.headers.get("Retry-After"))


def _seconds(value: object) -> float | None:
    try:
        seconds = float(str(value))
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


def _is_silence(error: Exception) -> bool:
    """Nobody is there. A name that is not found says nothing about connections that stand."""
    connector = isinstance(error, aiohttp.ClientConnectorError)
    return isinstance(error, TimeoutError) or (connector and not isinstance(error, aiohttp.ClientConnectorDNSError))


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {error.os_error.strerror or type(error.os_error).__name__}"
    if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
        return "nothing came in time"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer was cut short"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before an answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
