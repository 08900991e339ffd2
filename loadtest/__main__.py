"""`python -m loadtest`: runs one scenario with locust, against an fe that is started for it or one that runs already.

Owns: the command's options, the order of a run, its exit code: 0, 1 when the run was not good, 2 for wrong usage, 3
when something could not be started, 130 after Ctrl-C. Leaves no process behind. `locustfile.py` is what locust does,
`installation.py` starts fe-serve, `figures.py` asks it afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from loadtest import figures, installation
from loadtest.load import OPTIONS, Load, OptionError, add_options, build_load
from loadtest.scenarios import SCENARIOS

ROOT: Final = Path(__file__).resolve().parent.parent
EXAMPLE: Final = ROOT / "examples/loadtest.yaml"
FOLDER: Final = ROOT / "build/loadtest"
STOP_TIMEOUT: Final = 15  # seconds that requests under way get at the end of a run
LOCUST_LIMIT: Final = 60.0  # for its start and its reports, beyond the time of the run
REPORT_ROOM: Final = 1 << 20  # bytes, about what it takes
UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}
OK, FAILED, NOT_STARTED, INTERRUPTED = 0, 1, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    options, load = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return _run(options, load)
    except (installation.StartError, figures.AdminError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return NOT_STARTED
    except KeyboardInterrupt:
        print("loadtest: interrupted; everything that was started has ended", file=sys.stderr)
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """The runner's own options, then those that locust gets as well."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        description="Runs a scenario with locust: against the fe that --url names, or, without it, against fe-serve "
        "with --config, which is started and ended.",
        epilog="Scenarios: " + "; ".join(f"{one.name}: {one.summary}" for one in SCENARIOS.values()) + ".",
        allow_abbrev=False,
    )  # fmt: skip
    add = parser.add_argument
    add("--url", metavar="URL", help="an fe that runs already, as http://127.0.0.1:8080; nothing is started then")
    add("--admin", metavar="URL", help="with --url: its admin server, for fe's own figures and the split")
    add("--config", type=Path, metavar="FILE", help="what to start fe-serve with (default examples/loadtest.yaml)")
    add("--users", type=_users, metavar="N", help="users at the peak (default: the scenario's)")
    add("--duration", type=_seconds, default="20s", metavar="TIME", help="as 20s, 5m, 1h (default 20s)")
    add("--processes", type=_users, default=1, metavar="N", help="locust processes that share the users (default 1)")
    add("--report", type=Path, default=FOLDER / "report.html", metavar="FILE",
        help="locust's report (default build/loadtest/report.html)")  # fmt: skip
    add_options(parser, variables=False)
    return parser


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Load]:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.url is not None and options.config is not None:
        parser.error("--url is for an fe that runs, --config for one that is started: give one of them")
    if options.url is None and options.admin is not None:
        parser.error("--admin goes with --url; without it the configuration says where the admin server is")
    for url in filter(None, (options.url, options.admin)):
        if not re.fullmatch(r"https?://[^\s/?#@]+/?", url):
            parser.error(f"{url!r} is no URL of a server; write it as http://127.0.0.1:8080, paths go into --path")
    if options.url is None and options.config is None and not (options.endpoint or options.stream_endpoint):
        options.endpoint, options.stream_endpoint = ["scores"], ["tokens"]  # the example's
    try:
        return options, build_load(options, options.users, options.duration)
    except OptionError as error:
        parser.error(str(error))


def _run(options: argparse.Namespace, load: Load) -> int:
    if importlib.util.find_spec("locust") is None:
        raise installation.StartError("locust is not installed: make loadtest, or pip install 'fe-router[loadtest]'")
    _check_report(options.report)
    began = time.time()
    url, admin = options.url, options.admin
    with ExitStack() as stack:
        if url is None:
            config = options.config or EXAMPLE
            url, admin = installation.addresses(config)
            log = options.report.resolve().with_name("fe.log")
            _say(f"starting fe-serve with {_shown(config)}; its output is in {_shown(log)}")
            stack.enter_context(installation.running(config, admin, log))
        if admin is not None and not (options.expect_split or options.deployment):
            options.expect_split = figures.get_splits(figures.get_status(admin))
        before = _counted(admin)
        _say(
            f"{load.scenario.name} for {load.seconds:.0f} s at {url}: up to {load.users} users, "
            f"{load.rate:g} requests a second together"
        )
        code = _run_locust(options, load, url)
        after = _counted(admin)
    replicas = figures.since(before[1], after[1])
    for line in (*figures.difference(before[0], after[0]), *figures.replica_lines(replicas)):
        _say(line)
    violations = list(figures.violations(replicas))
    for line in violations:
        _say(f"failed: {line}")
    written = options.report.exists() and options.report.stat().st_mtime > began
    _say(f"report: {_shown(options.report)}" if written else "no report: locust has not written it")
    return FAILED if code or violations else OK


def _check_report(report: Path) -> None:
    """StartError now, not a traceback after the run, when it cannot be written."""
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=report.parent) as probe:
            probe.write(bytes(REPORT_ROOM))
        if report.exists():
            report.open("ab").close()
    except OSError as error:
        raise installation.StartError(f"--report {report}: {error.strerror}") from None


def _run_locust(options: argparse.Namespace, load: Load, url: str) -> int:
    """locust's exit code. Interrupted, it still prints its tables and writes its report."""
    command = [
        sys.executable, "-m", "locust", "--locustfile", str(ROOT / "loadtest/locustfile.py"), "--headless",
        "--only-summary", "--loglevel", "WARNING", "--host", url.rstrip("/"), "--users", str(load.users),
        "--run-time", f"{load.seconds:.0f}s", "--stop-timeout", str(STOP_TIMEOUT), "--html", str(options.report),
        *(word for option in OPTIONS for word in option.given(options)),
    ]  # fmt: skip
    if options.processes > 1:
        port = str(_free_port())  # its own is a fixed one, on every interface
        command += ["--processes", str(options.processes), "--master-bind-host", "127.0.0.1"]
        command += ["--master-bind-port", port, "--master-port", port]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
        preexec_fn=installation.die_with_parent,
    )  # fmt: skip
    try:
        return process.wait(load.seconds + STOP_TIMEOUT + LOCUST_LIMIT)
    except subprocess.TimeoutExpired:
        raise installation.StartError("locust did not end in time and was killed") from None
    finally:
        installation.stop(process, signal.SIGINT, STOP_TIMEOUT + LOCUST_LIMIT)


def _free_port() -> int:
    """A loopback port outside the range of outgoing connections: locust takes a while before it binds it."""
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    while True:
        port = random.randrange(10240, 65536)  # noqa: S311
        if first <= port <= last:
            continue
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _counted(admin: str | None) -> tuple[figures.Figures, figures.Replicas]:
    """What fe and the simulated replicas have counted so far; nothing where nobody can be asked."""
    if admin is None:
        return {}, {}
    return figures.get_figures(admin), figures.get_replicas(figures.get_status(admin))


def _users(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    found = re.fullmatch("([1-9][0-9]{0,5})([smh]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write whole seconds, minutes or hours, as 20s, 5m, 1h")
    return float(found[1]) * UNITS[found[2]]


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(f"loadtest: {text}", flush=True)


def _shown(path: Path) -> str:
    """A path as short as it can be said."""
    return os.path.relpath(path) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
