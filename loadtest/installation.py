"""fe-serve for a load test: started from a configuration file, watched until it is ready, ended whatever happens.

Owns: that process, its log, what the configuration says about addresses. Never: load. Every wait has a limit, and
should this process be killed, the kernel tells fe-serve to end, which takes the replicas with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from fe.config.load import load
from fe.errors import ConfigError
from loadtest.figures import AdminError, get_status

READY_LIMIT: Final = 60.0
STOP_LIMIT: Final = 60.0  # drain_timeout is 30 s by default, stop_grace 10 s
PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


class StartError(Exception):
    """fe-serve cannot be started; the message says why."""


def addresses(config: Path) -> tuple[str, str]:
    """URLs of the first listener over TCP and of the admin server. StartError where there is none, or on mistakes."""
    try:
        loaded = load(str(config)).config
    except ConfigError as error:
        raise StartError(str(error)) from None
    found = []
    for key, listeners in (("listen", loaded.listen), ("admin", loaded.admin)):
        over_tcp = [one for one in listeners if not one.startswith("unix:")]
        if not over_tcp:
            raise StartError(f"{config}: {key} has no address over TCP, which a load test needs")
        host, _, port = over_tcp[0].rpartition(":")
        found.append(f"http://{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}")  # noqa: S104
    return found[0], found[1]


@contextmanager
def running(config: Path, admin: str, log: Path) -> Iterator[None]:
    """fe-serve with all its replicas ready; its output goes to `log`. Ended at the end of the block."""
    command = [str(Path(sys.executable).with_name("fe-serve")), "--config", str(config)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        _wait_ready(process, admin, log)
        yield
    finally:
        stop(process, signal.SIGTERM, STOP_LIMIT)


def die_with_parent() -> None:
    """For `preexec_fn`: SIGTERM for this process when its parent is gone. Its own session keeps Ctrl-C from it."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop(process: subprocess.Popen[bytes], number: int, limit: float) -> None:
    """The signal, up to `limit` seconds, then SIGKILL for all of its session; a second Ctrl-C has SIGKILL at once."""
    try:
        if process.poll() is None:
            process.send_signal(number)
            process.wait(limit)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], admin: str, log: Path) -> None:
    end = time.monotonic() + READY_LIMIT
    reason = "its admin server does not answer"
    while time.monotonic() < end:
        if process.poll() is not None:
            raise StartError(f"fe-serve ended with exit code {process.returncode}:\n{_end_of(log)}")
        try:
            reason = _missing(get_status(admin), process.pid)
        except AdminError as error:
            reason = str(error)
        if not reason:
            return
        time.sleep(0.05)
    raise StartError(f"fe-serve is not ready after {READY_LIMIT:.0f} s: {reason}\n{_end_of(log)}")


def _missing(status: Mapping[str, Any], supervisor: int) -> str:
    """What has to be waited for; empty: everything is there."""
    if str(status["controller_pid"]) not in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        return "another fe answers on its admin port"
    if not status["ready"]:
        return ", ".join(status["not_ready"])
    for endpoint in status["endpoints"]:
        for one in endpoint["deployments"]:
            if one["ready"] < one["wanted"]:
                return f"{endpoint['name']}/{one['name']} has {one['ready']} of {one['wanted']} replicas"
    return ""


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-12:]
    return os.linesep.join(f"  {line}" for line in lines)
