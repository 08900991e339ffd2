"""Who may ask the admin server what: the checks before a request is looked at, and the form of a refusal.

Owns: the names under which the server may be asked for, what counts as another site, the headers of every answer.
Never: what is answered (`fe.control.admin`, `fe.control.admin_api`). There are no credentials; what has to be kept out
is a web page in the browser of somebody who can reach the server: one that sends changes from its own site (cross-site
requests), and one whose name has been made to lead here (DNS rebinding), which the browser takes for the same site.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from typing import Final

import msgspec
from aiohttp import web

from fe.control.admin_types import ErrorAnswer, ErrorDetail

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "fe",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
# Asked by scrapers and probes under whatever name they were told; there is nothing to change and little to learn.
OPEN: Final = frozenset(("/healthz", "/readyz", "/metrics"))


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """A request that is not carried out: the status, a code for programs and a message for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def check_name(request: web.Request) -> None:
    """Raises Refusal (421) for a request that asks for a name which may be a stranger's."""
    if request.path not in OPEN and not _over_unix(request) and not is_own_name(request.host):
        raise Refusal(421, "unknown_host", "ask for it by IP address, as localhost or by the name of its machine")


def check_change(request: web.Request) -> None:
    """Raises Refusal for a change that another site's page has sent (403) or may have sent as a form (415).

    Browsers say where a request comes from; other clients say nothing, and no page can make a browser say nothing.
    """
    origin = request.headers.get("Origin")
    elsewhere = origin is not None and origin.partition("://")[2].lower() != request.host.lower()
    if elsewhere or request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise Refusal(403, "cross_site", "changes are taken from fe's own page and from programs, not from other sites")
    if request.content_type != "application/json":
        raise Refusal(415, "media_type", "the Content-Type of a change has to be application/json")


def is_own_name(authority: str) -> bool:
    """Whether `authority`, host with or without port, cannot be a name that a stranger has made to lead here."""
    host = re.sub(r":[0-9]*$", "", authority) if not authority.endswith("]") else authority
    machine = socket.gethostname().lower()
    if host.lower() in ("localhost", machine, machine.partition(".")[0]):
        return True
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        return True
    return False


def refusal(request: web.Request, status: int, code: str, message: str) -> web.Response:
    """JSON below /api, a line of text elsewhere."""
    if request.path.startswith("/api/"):
        return encoded(msgspec.json.encode(ErrorAnswer(ErrorDetail(code, message))), status)
    return plain(f"{message}\n", status)


def code_of(answer: web.HTTPException) -> str:
    """The code for programs of an answer that aiohttp has made: `not_found`, `method_not_allowed`."""
    return answer.reason.lower().replace(" ", "_")


def plain(text: str, status: int = 200) -> web.Response:
    """A text for people."""
    return web.Response(text=text, status=status, headers=HEADERS)


def encoded(body: bytes, status: int = 200) -> web.Response:
    """JSON, laid out for people: `curl` is a client of this server too."""
    body = msgspec.json.format(body, indent=2) + b"\n"
    return web.Response(body=body, status=status, headers=HEADERS, content_type="application/json", charset="utf-8")


def _over_unix(request: web.Request) -> bool:
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    return sock is not None and sock.family == socket.AF_UNIX
