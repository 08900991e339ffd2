"""`fe drain`, `fe undrain` and `fe scale`: changes by hand through the admin API.

Owns: their arguments and what they say. Never: whether a change is allowed, which the server decides and explains.
Exit codes: 0 done, 1 refused, 2 wrong usage, 3 no fe-serve answers. Read next: docs/admin-api.md, `fe.commands.client`.
"""

from __future__ import annotations

import argparse
import re
from typing import Any, Final
from urllib.parse import quote

from fe.commands import address
from fe.commands.client import Client
from fe.commands.text import printable, say
from fe.control.admin_types import ReplicaAnswer, ReplicaRequest, ScaleAnswer, ScaleRequest

_NAME: Final = re.compile(r"[^/\s]+/[^/\s]+")


def add_drain(parser: argparse.ArgumentParser) -> None:
    """Takes a replica out: it finishes what it has and gets nothing new."""
    _add(parser, _drain)
    parser.add_argument("replica", metavar="ADDRESS", help="the replica, as `fe status` shows it: 127.0.0.1:5001")


def add_undrain(parser: argparse.ArgumentParser) -> None:
    """Puts a replica back that was taken out."""
    _add(parser, _undrain)
    parser.add_argument("replica", metavar="ADDRESS", help="the replica, as `fe status` shows it: 127.0.0.1:5001")


def add_scale(parser: argparse.ArgumentParser) -> None:
    """Sets the number of replicas, until the load asks for another."""
    _add(parser, _scale)
    parser.add_argument("count", metavar="COUNT", type=_count, help="how many there should be")


def _add(parser: argparse.ArgumentParser, run: Any) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("deployment", metavar="ENDPOINT/DEPLOYMENT", type=_deployment)
    address.add_options(parser)


def _drain(options: argparse.Namespace) -> int:
    request = ReplicaRequest(options.replica)
    answer = Client(address.find(options)).post(_path(options, "drain"), request, ReplicaAnswer)
    return _said(f"{options.deployment}: {answer.replica} is {answer.state}; `fe undrain` puts it back")


def _undrain(options: argparse.Namespace) -> int:
    request = ReplicaRequest(options.replica)
    answer = Client(address.find(options)).post(_path(options, "undrain"), request, ReplicaAnswer)
    return _said(f"{options.deployment}: {answer.replica} is back, now {answer.state}")


def _scale(options: argparse.Namespace) -> int:
    request = ScaleRequest(options.count)
    answer = Client(address.find(options)).post(_path(options, "scale"), request, ScaleAnswer)
    return _said(f"{options.deployment}: replicas wanted: {answer.desired}, before: {answer.former}")


def _path(options: argparse.Namespace, action: str) -> str:
    endpoint, _, deployment = options.deployment.partition("/")
    return f"/api/deployments/{quote(endpoint, safe='')}/{quote(deployment, safe='')}/{action}"


def _said(line: str) -> int:
    say(printable(line))
    return 0


def _deployment(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{printable(text)!r} is not ENDPOINT/DEPLOYMENT")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise argparse.ArgumentTypeError(f"{printable(text)!r} is not a number of replicas")
    return int(text)
