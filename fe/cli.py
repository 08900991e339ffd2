"""The command `fe-serve`: arguments, the check of a configuration, the start of the supervisor, the exit code.

Owns: what is said on the command line, and how errors are shown there. Never: the work of a process (`fe.supervisor`,
`fe.worker`, `fe.controller`), nor an import at the top that the workers, forked from here, have no use for.
Read next: fe/supervisor/arbiter.py.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from fe import __version__, log
from fe.errors import EXIT_INTERNAL, EXIT_OK, ConfigError, FeError, ResourceError

if TYPE_CHECKING:
    from fe.config.schema import RouterConfig
    from fe.model import ControllerRuntime, WorkerRuntime
    from fe.supervisor import Settings

_DESCRIPTION: Final = """\
fe-serve routes inference requests to the replicas of models: every replica gets at most as many requests at once
as it can serve, and the others wait in one fair queue."""

_EPILOG: Final = """\
examples:
  fe-serve --config fe.yaml               serve until told to end
  fe-serve --check --config fe.yaml       say what is wrong with it, or what it would run
  fe-serve --config /etc/fe               a folder: one file each for the router, endpoints and deployments

a first configuration:
  listen: 127.0.0.1:8080
  endpoints:
    - name: demo
      auth_mode: none
      routes: [{path_prefix: /}]
      deployments:
        - name: main
          replicas: {static: ["127.0.0.1:5001"]}

signals:
  SIGTERM, SIGINT   accept nothing new, finish what is there within drain_timeout, end; a second one: end at once
  SIGHUP            read the configuration again; a bad one changes nothing, and the log says why
  SIGUSR1           open the log file again (after it was moved)

exit codes:
  0  ended as asked, every request answered
  1  a fault of fe itself
  2  wrong usage or configuration
  3  something is missing that the machine has to give: a port, memory, a permission
  4  a worker or the controller could not start
  5  drain_timeout cut off requests that were still being served

docs/configuration.md describes every key, docs/operations.md running it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs fe-serve with these arguments (default: the command line's) and returns its exit code."""
    log.ensure_standard_fds()
    options = _parser().parse_args(arguments)
    try:
        return _check(options.config) if options.check else _serve(options.config)
    except ConfigError as error:
        _complain([*error.problems, f"fe-serve: {_count(len(error.problems), 'problem')}; nothing was started"])
        return error.exit_code
    except FeError as error:
        _complain([f"fe-serve: {line}" for line in str(error).splitlines()])
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_OK
    except Exception as error:
        log.logger("cli").exception("fe-serve failed")
        _complain([f"fe-serve: a fault of fe itself: {type(error).__name__}"])
        return EXIT_INTERNAL


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fe-serve",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="PATH", required=True, help="the configuration: a YAML file, or a folder")
    parser.add_argument("--check", action="store_true", help="check the configuration, print what would run, and end")
    parser.add_argument("--version", action="version", version=f"fe-serve {__version__}")
    return parser


def _complain(lines: Sequence[str]) -> None:
    """Plain lines on stderr, whatever state it is in."""
    output = log.Output(2)
    output.write("".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"), len(lines))
    output.close()


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


# --- --check ---------------------------------------------------------------------------------------------------------


def _check(path: str) -> int:
    """Prints what would run. Raises ConfigError with the problems."""
    from fe._core import Table
    from fe.config.describe import describe
    from fe.config.load import load
    from fe.config.snapshot import table_limits

    config, notes = load(path)
    workers, why = _workers(config)
    size = Table.size_of(table_limits(config, workers))
    lines = [f"{path} can be used by fe-serve {__version__}", "", *describe(config, f"{workers} ({why})", size)]
    if notes:
        lines += ["", "notes", *(f"  {note}" for note in notes)]
    try:
        print("\n".join(lines).encode("utf-8", "backslashreplace").decode(), flush=True)
    except OSError:  # `fe-serve --check ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return EXIT_OK


def _workers(config: RouterConfig) -> tuple[int, str]:
    """How many workers there will be, and why."""
    from fe.supervisor import limits

    if isinstance(config.workers, int):
        return config.workers, "as configured"
    usable, why = limits.explain_cpus()
    if usable > config.limits.holders:
        return config.limits.holders, f"auto: {why}, but limits.holders is {config.limits.holders}"
    return usable, f"auto: {why}"


# --- serving ---------------------------------------------------------------------------------------------------------


def _serve(path: str) -> int:
    from fe.config.apart import load_apart
    from fe.config.snapshot import key_variables
    from fe.supervisor.limits import require_descriptors

    require_descriptors()  # else reading the configuration could fail for want of one
    config, notes = load_apart(path)
    log_fd = _configure_log(config)
    logger = log.logger("cli")
    for note in notes:
        logger.info(note)
    # Before the fork, so that all workers share these pages and a new one is quick to start.
    import fe.worker  # noqa: F401
    from fe.supervisor import Supervisor

    worker_main = partial(_worker_main, key_variables(config))
    return Supervisor(_settings(config, path, log_fd), worker_main, _controller_main).run()


def _settings(config: RouterConfig, path: str, log_fd: int) -> Settings:
    from fe.config.snapshot import table_limits
    from fe.supervisor import Settings

    workers, _why = _workers(config)
    file = config.log.file
    return Settings(
        config_path=path,
        listen=config.listen,
        admin=config.admin,
        workers=workers,
        limits=table_limits(config, workers),
        drain_timeout=config.drain_timeout,
        worker_timeout=config.worker_timeout,
        log_fd=log_fd,
        log_json=config.log.format == "json",
        reopen_logs=None if file is None else lambda: log.reopen_file(file, log_fd),
    )


def _configure_log(config: RouterConfig) -> int:
    try:
        log_fd = log.open_file(config.log.file)
    except OSError as error:
        raise ResourceError(f"the log file {config.log.file!r} cannot be opened: {error.strerror}") from None
    log.configure("supervisor", level=config.log.level, form=config.log.format, fd=log_fd)
    return log_fd


def _worker_main(secret: set[str], runtime: WorkerRuntime) -> int:
    from fe import _keeper
    from fe.worker import main as worker_main

    _keeper.forget_variables(secret)  # a worker knows digests only
    log.set_process(f"worker-{runtime.index}")
    return worker_main(runtime)


def _controller_main(runtime: ControllerRuntime) -> int:
    log.set_process("controller")
    from fe.controller import main as controller_main

    return controller_main(runtime)
