"""Checks of this machine: the configuration, files it refers to, programs of local replicas, addresses to listen on.

Owns: what fe-serve takes from the machine at its start. Never: opens a listening socket or makes a file: a fe-serve
that runs meanwhile must not notice. A digest of a key is all there is of it here.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
from collections.abc import Iterator
from typing import Final

from fe.checks.context import Context
from fe.checks.reach import apart
from fe.checks.result import Result, count, fail, ok, warn
from fe.commands.address import REACHED
from fe.commands.client import Client
from fe.config import schema
from fe.config.addresses import Address, parse_address
from fe.config.load import load
from fe.config.snapshot import process_start
from fe.control.admin_types import Status
from fe.errors import ConfigError, FeError
from fe.supervisor.sockets import MENDS

ANSWER_WITHIN: Final = 2.0  # seconds, for a running fe-serve
IN_USE: Final = "in use"


async def check_configuration(context: Context) -> list[Result]:
    """The file, or the folder, is read and valid, as fe-serve would take it."""
    try:
        config, context.notes = await apart(lambda: load(context.path))
    except ConfigError as error:
        problems = count(len(error.problems), "problem")
        return [
            fail(
                f"{context.path}: {problems}", "mend each of these; docs/configuration.md has every key", error.problems
            )
        ]
    context.loaded = config
    endpoints, deployments = len(config.endpoints), sum(1 for _ in context.deployments())
    what = f"{count(endpoints, 'endpoint')}, {count(deployments, 'deployment')}"
    return [ok(f"{context.path}: {what}, {'with' if config.kubernetes else 'without'} kubernetes", context.notes)]


# --- files -----------------------------------------------------------------------------------------------------------


async def check_sources(context: Context) -> list[Result]:
    """Keys could be read, or the configuration would be refused; what is written to can be."""
    secrets = [key for one in context.config.endpoints for key in (one.keys.primary, one.keys.secondary) if key]
    origins = [key.origin.partition(":")[0] for key in secrets]
    words = {"file": "from files", "env": "from the environment", "plain": "in plain text"}
    read = ", ".join(f"{origins.count(origin)} {where}" for origin, where in words.items() if origin in origins)
    outputs = list(dict.fromkeys(_outputs(context)))
    bad = [f"{path}: {why}" for path in outputs if (why := _unwritable(path))]
    if bad:
        return [
            fail(
                f"{count(len(bad), 'file')} cannot be written to",
                "make the folder, or give this user the right "
                "to write there; or change log.file, replicas.process.output",
                bad,
            )
        ]
    written = f", {count(len(outputs), 'file')} can be written to" if outputs else ""
    return [ok(f"keys: {read or 'none'}{written}")]


def _outputs(context: Context) -> Iterator[str]:
    if context.config.log.file is not None:
        yield context.config.log.file
    for _, deployment in context.deployments():
        replicas = deployment.replicas
        if isinstance(replicas, schema.ProcessReplicas) and replicas.output is not None:
            yield os.path.join(replicas.cwd, replicas.output.replace("{port}", "PORT"))


def _unwritable(path: str) -> str:
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        return "is a folder"
    if os.path.lexists(path):
        return "" if os.access(path, os.W_OK) else "this user may not write to it"
    if not os.path.isdir(folder):
        return "its folder does not exist"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "this user may not make it"


# --- local replicas --------------------------------------------------------------------------------------------------


async def check_commands(context: Context) -> list[Result]:
    """Programs of local replicas are there, as is the folder that each starts in."""
    bad, good = [], 0
    for name, deployment in context.deployments():
        if isinstance(deployment.replicas, schema.ProcessReplicas):
            why = _unusable(context, deployment.replicas)
            good += not why
            bad += [f"{name}: {why}"] if why else []
    if bad:
        return [
            fail(
                f"{count(len(bad), 'local command')} cannot be started",
                "install the program, write its whole path, or mend replicas.process.command and cwd",
                bad,
            )
        ]
    return [ok(f"{count(good, 'local command')} can be started")]


def _unusable(context: Context, replicas: schema.ProcessReplicas) -> str:
    """Why the command cannot be started. Only its first word is told: others may be anything."""
    command, environ, _ = process_start(replicas, 1, context.environ, context.config)
    if not os.path.isdir(replicas.cwd):
        return f"there is no folder {replicas.cwd}"
    found = shutil.which(command[0], path=environ.get("PATH"))
    return "" if found else f"there is no program {command[0]} that this user may run"


# --- addresses to listen on ------------------------------------------------------------------------------------------


async def check_listen(context: Context) -> list[Result]:
    """Each address is free, or in use by the fe-serve that runs."""
    config = context.config
    states = {text: _state(parse_address(text)) for text in dict.fromkeys((*config.listen, *config.admin))}
    items = [f"{text}: {state or 'free'}" for text, state in states.items()]
    bad = [f"{text}: {state}" for text, state in states.items() if state not in ("", IN_USE)]
    used = [text for text, state in states.items() if state == IN_USE]
    if bad:
        return [fail(f"{count(len(bad), 'address', 'addresses')} cannot be listened on", "mend listen and admin", bad)]
    if not used:
        return [ok(f"{count(len(states), 'address', 'addresses')} free", items)]
    running = await _running(config.admin)
    if running is not None:
        pid = f"its controller is process {running.controller_pid}"
        return [ok(f"in use by the fe-serve {running.version} that runs, {pid}: {', '.join(used)}", items)]
    return [
        warn(
            f"{count(len(used), 'address', 'addresses')} in use, and no fe-serve answers on admin",
            "something else listens there (`ss -ltnp` says what), or a fe-serve that is just starting or has "
            "another admin; a second one could not start",
            items,
        )
    ]


def _state(address: Address) -> str:
    """Why it could not be listened on; IN_USE: somebody does, "": it is free. Bound for a moment, never listened on."""
    try:
        if address.family == "unix":
            return _socket_file(address.host)
        family = socket.AF_INET6 if address.family == "ipv6" else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address.host, address.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return IN_USE
        return MENDS.get(error.errno or 0, error.strerror or str(error))
    return ""


def _socket_file(path: str) -> str:
    if os.path.lexists(path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            refused = probe.connect_ex(path)
        if refused in (0, errno.EAGAIN):
            return IN_USE
        return "" if refused == errno.ECONNREFUSED else MENDS.get(refused, os.strerror(refused))  # fe-serve removes it
    return _unwritable(path)


async def _running(admin: tuple[str, ...]) -> Status | None:
    """What the fe-serve says that answers on the first of these addresses."""
    for text in admin:
        address = parse_address(text)
        client = Client(address._replace(host=REACHED.get(address.host, address.host)))
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return await apart(lambda client=client: client.get("/api/status", Status))  # type: ignore[misc]
        except (FeError, TimeoutError):
            continue
    return None
