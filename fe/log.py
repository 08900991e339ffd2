"""Fe's own log: one line per event on stderr or in a file, for people or as JSON, through the standard logging module.

Owns: the form of a line, the way it gets out (`Output`: never blocks for long, never raises), the name of the process
in each line. Never: access lines of requests (the workers batch those, into the same `Output` if they like), secrets.
Use: `configure` once in the first process, `set_process` in each child after the fork, `logger(name)` anywhere.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import stat
import time
from collections.abc import Mapping
from typing import Any, Final

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
PATIENCE_MS: Final = 10  # that a full pipe is waited for; a reader that is slower than this loses lines

_root: Final = logging.getLogger("fe")
_process = "fe"


class Logger:
    """Logs events with fields: `log.info("worker ended", pid=7, status=0)`."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, message: str, /, **fields: object) -> None:
        self._log(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: object) -> None:
        self._log(logging.INFO, message, fields)

    def warning(self, message: str, /, **fields: object) -> None:
        self._log(logging.WARNING, message, fields)

    def error(self, message: str, /, **fields: object) -> None:
        self._log(logging.ERROR, message, fields)

    def exception(self, message: str, /, **fields: object) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._log(logging.ERROR, message, fields, exc_info=True)

    def _log(self, level: int, message: str, fields: Mapping[str, object], *, exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", message, exc_info=exc_info, extra={"fields": fields})


def logger(name: str) -> Logger:
    """The logger of a part of fe, such as "supervisor" or "control.probes"."""
    return Logger(f"fe.{name}")


def configure(process: str, *, level: str = "info", form: str = "human", fd: int = 2) -> None:
    """Sets up logging here and in what is forked from here. `form`: "human" or "json"; the fd stays the caller's."""
    set_process(process)
    handler = _Handler(Output(fd))
    handler.setFormatter(_JsonFormatter() if form == "json" else _HumanFormatter())
    _root.handlers[:] = [handler]
    _root.setLevel(LEVELS[level])
    _root.propagate = False
    logging.raiseExceptions = False  # a log line that fails must not become output of another kind
    for library in ("asyncio", "aiohttp"):  # what they have to say is worth the same form
        logging.getLogger(library).handlers[:] = [handler]
        logging.getLogger(library).propagate = False


def set_process(name: str) -> None:
    """Names this process in its lines: "supervisor", "worker-0", "controller"."""
    global _process
    _process = name


def open_file(path: str | None) -> int:
    """The descriptor that lines go to: of the file, opened for appending, or stderr. Raises OSError."""
    if path is None:
        return 2
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o640)


def reopen_file(path: str, fd: int) -> None:
    """Lets `fd` go on in a new file of this name, after the old one was moved. The old one stays if there is none."""
    try:
        new = open_file(path)
    except OSError as error:
        logger("log").warning("the log file could not be opened again", file=path, reason=error.strerror)
        return
    os.dup2(new, fd, inheritable=False)
    os.close(new)


def ensure_standard_fds() -> None:
    """Opens /dev/null in place of a closed stdin, stdout or stderr: else the next socket would take its number."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest free number, and that is `fd`
            os.set_inheritable(null, True)


# --- how a line gets out ---------------------------------------------------------------------------------------------


class Output:
    """Writes to a descriptor without ever blocking for long and without raising; counts what it had to drop.

    A pipe's or terminal's descriptor is shared with other programs, so that its own mode must not be changed: pipes are
    opened anew for writing without waiting, sockets are sent to with MSG_DONTWAIT, files are simply written.
    """

    def __init__(self, fd: int) -> None:
        self.lost = 0  # lines dropped since the last that got out
        self._fd = fd
        self._own: int | None = None
        self._socket: socket.socket | None = None
        self._torn = False  # the last line was cut: end it before the next
        with contextlib.suppress(OSError):
            mode = os.fstat(fd).st_mode
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=os.dup(fd))
            elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
                self._own = os.open(f"/proc/self/fd/{fd}", flags)

    def write(self, lines: bytes, count: int = 1) -> bool:
        """Writes whole lines, `count` of them; False if they were dropped."""
        if self.lost:
            lines = b"%d log lines were lost: nobody took them\n" % self.lost + lines
        if self._torn:
            lines = b"\n" + lines
        if self._write_all(lines):
            self.lost = 0
            return True
        self.lost += count
        return False

    def close(self) -> None:
        """Gives back what was opened here; the descriptor it was made with stays open."""
        if self._socket is not None:
            self._socket.close()
        if self._own is not None:
            os.close(self._own)
        self._socket = self._own = None

    def _write_all(self, data: bytes) -> bool:
        patience = 0 if self.lost else PATIENCE_MS
        view = memoryview(data)
        try:
            while view:
                try:
                    written = self._write_some(view)
                except BlockingIOError:
                    if not patience or not self._writable(patience):
                        break
                    patience = 0
                    continue
                view = view[written:]
        except OSError:  # closed, full or gone: nothing that a caller could mend
            pass
        if len(view) < len(data):
            self._torn = bool(view)
        return not view

    def _write_some(self, view: memoryview) -> int:
        if self._socket is not None:
            return self._socket.send(view, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(self._fd if self._own is None else self._own, view)

    def _writable(self, milliseconds: int) -> bool:
        poll = select.poll()
        poll.register(self._fd if self._own is None else self._own, select.POLLOUT)
        return bool(poll.poll(milliseconds))


class _Handler(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # a field whose text cannot be made must not end the process that logs it
            line = f"a log line could not be made: {type(error).__name__}"
        self._output.write(line.encode("utf-8", "backslashreplace") + b"\n")


# --- the form of a line ----------------------------------------------------------------------------------------------


def _stamp(created: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created))
    return f"{whole}.{int(created % 1 * 1000):03d}Z"


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _stamp(record.created),
            "level": record.levelname.lower(),
            "process": _process,
            "pid": os.getpid(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in _fields(record).items():
            line.setdefault(name, value)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _HumanFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        words = [
            _stamp(record.created),
            f"{record.levelname.lower():7}",
            f"{_process}[{os.getpid()}]",
            _one_line(record.getMessage()),
            *(f"{name}={_word(value)}" for name, value in _fields(record).items()),
        ]
        line = " ".join(words)
        if record.exc_info:
            line += "".join(f"\n    {_one_line(part)}" for part in self.formatException(record.exc_info).splitlines())
        return line


def _one_line(text: str) -> str:
    """Text without line ends or control characters: what comes from outside must not look like a line of its own."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _word(value: object) -> str:
    """A field's value: as it is if it is one word, else in quotes."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    plain = bool(text) and text.isprintable() and not any(c in text for c in " \"'=")
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())
