"""Reads the configuration in a child process that ends at once, and hands over the result.

Owns: that child. Never: the reading itself (`fe.config.load`). Why: what it imports and what a file leaves behind would
stay in every worker forked after it: measured, 1.5 MB for a short file, and 9 MB for one with 1,000 endpoints.
"""

from __future__ import annotations

import os
import select
import signal
import time
import traceback
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from fe.config.snapshot import decode_config, encode_config
from fe.errors import EXIT_INTERNAL, EXIT_OK, ConfigError, FeError

if TYPE_CHECKING:
    from fe.config.schema import RouterConfig

LIMIT: Final = 60.0  # seconds; a file on a dead network mount never comes


class _Result(msgspec.Struct, frozen=True):
    config: bytes = b""
    notes: list[str] = []
    problems: list[str] = []


def load_apart(path: str) -> tuple[RouterConfig, list[str]]:
    """What `fe.config.load.load` returns for `path`. Raises ConfigError, and FeError when the child fails."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _load_and_exit(path, writing)
    os.close(writing)
    try:
        raw = _read_all(reading, time.monotonic() + LIMIT)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(reading)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != EXIT_OK:
        raise FeError(f"the process that reads the configuration {path!r} failed (status {status})")
    result = msgspec.msgpack.decode(raw, type=_Result)
    if result.problems:
        raise ConfigError(result.problems)
    return decode_config(result.config), result.notes


def _read_all(fd: int, deadline: float) -> bytes:
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise ConfigError([f"the configuration could not be read within {LIMIT:g} s"])
        part = os.read(fd, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _load_and_exit(path: str, writing: int) -> NoReturn:
    code = EXIT_INTERNAL
    try:
        with open(writing, "wb") as file:
            file.write(msgspec.msgpack.encode(_load(path)))
        code = EXIT_OK
    except KeyboardInterrupt:  # the terminal sent it to both of us; the parent says what is to be said
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _load(path: str) -> _Result:
    from fe.config.load import load

    try:
        config, notes = load(path)
    except ConfigError as error:
        return _Result(problems=error.problems)
    return _Result(encode_config(config), notes)
