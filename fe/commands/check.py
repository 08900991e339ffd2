"""`fe check`: whether fe-serve could do its work here, with this configuration, and what to mend where it could not.

Owns: the arguments, and how results get out: a line each as they come, in colour on a terminal, or one JSON document.
Never: a check (`fe.checks`). Exit codes: those of docs/check.md.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from fe.checks.plan import CHECKS, run
from fe.checks.result import Result, Status, count, exit_code
from fe.commands.options import seconds
from fe.commands.text import printable, printable_json, say

ITEMS_MOST: Final = 20  # lines about one result; --json has them all
WORDS: Final = {"ok": "ok", "warn": "WARN", "fail": "FAIL", "skipped": "-"}
OUTCOMES: Final[dict[Status, str]] = {
    "ok": "ok", "warn": "with a warning", "fail": "failed", "skipped": "skipped",
}  # fmt: skip
STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}
WIDTH: Final = max(len(check.name) for check in CHECKS)
INDENT: Final = " " * (4 + 2 + WIDTH + 2)

_EPILOG: Final = """\
examples:
  fe check --config /etc/fe/fe.yaml
  fe check --config /etc/fe/fe.yaml --json

Run it where fe-serve runs, as the same user; in a pod:
  kubectl -n fe exec deploy/fe -- fe check --config /etc/fe/router/fe.yaml

exit codes:
  0  nothing has failed; there may be warnings
  1  a right is missing, an object has problems, or a fault of fe itself
  2  wrong usage, or the configuration cannot be used
  3  something is not there or cannot be reached: a file, a program, an address, a name, the API server, a pod
What failed first decides. docs/check.md has every check."""


def add_check(parser: argparse.ArgumentParser) -> None:
    """Checks, in order, all that fe-serve needs: configuration, replicas, the cluster. Changes nothing anywhere."""
    parser.set_defaults(run=_run)
    parser.epilog = _EPILOG
    parser.add_argument("--config", metavar="PATH", required=True, help="the configuration: a YAML file, or a folder")
    parser.add_argument("--json", action="store_true", help="print one document with all results")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=seconds(1), default=30.0, help="for all of it together (default: 30)"
    )


def _run(options: argparse.Namespace) -> int:
    logging.getLogger("fe.control").setLevel(logging.CRITICAL + 1)  # the results say it
    results: list[Result] = []
    show = _quiet if options.json else _colour() if sys.stdout.isatty() else _plain

    def tell(result: Result) -> None:
        results.append(result)
        show(result)

    asyncio.run(run(options.config, options.timeout, tell))
    code = exit_code(results)
    if options.json:
        say(printable_json(_document(options.config, results, code)))
    else:
        say("")
        say(_summary(results))
    return code


def _document(path: str, results: list[Result], code: int) -> dict[str, Any]:
    checks = [
        {"name": one.name, "status": one.status, "detail": one.detail, "mend": one.mend, "items": one.items}
        for one in results
    ]
    return {"ok": code == 0, "exit_code": code, "config": path, "checks": checks}


def _summary(results: list[Result]) -> str:
    numbers = Counter(one.status for one in results)
    parts = [f"{numbers[status]} {text}" for status, text in OUTCOMES.items() if numbers[status]]
    return f"{count(len(results), 'result')}: {', '.join(parts)}"


# --- lines -----------------------------------------------------------------------------------------------------------


def _quiet(_result: Result) -> None:
    """The document is for the end."""


def _plain(result: Result) -> None:
    for line in lines(result):
        say(line)


def _colour() -> Callable[[Result], None]:
    from rich.console import Console
    from rich.text import Text

    console = Console()

    def show(result: Result) -> None:
        head, *others = lines(result)
        word, rest = head[:4], head[4:]
        console.print(Text.assemble((word, STYLES[result.status]), rest), soft_wrap=True)
        for line in others:
            console.print(Text(line, style="dim"), soft_wrap=True)

    return show


def lines(result: Result) -> Iterator[str]:
    """A result as lines that are fit for a terminal."""
    yield printable(f"{WORDS[result.status]:4}  {result.name:{WIDTH}}  {result.detail}")
    for item in result.items[:ITEMS_MOST]:
        yield INDENT + printable(f"- {item}")
    if len(result.items) > ITEMS_MOST:
        yield f"{INDENT}  and {len(result.items) - ITEMS_MOST:,} more"
    if result.mend:
        yield INDENT + printable(f"mend: {result.mend}")
