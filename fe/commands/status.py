"""`fe status`: what a running fe-serve is doing, as a table that follows it, once, or as JSON.

Owns: the arguments, when fe is asked again, and the two ways a table gets out: with rich on a terminal, as aligned
plain text elsewhere. Never: what is in the table (`fe.commands.table`), the connection (`fe.commands.client`).
Exit codes: 0 ended as asked, 2 wrong usage, 3 no fe-serve answers (at the start: later it is waited for).
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, Final

from fe.commands import address
from fe.commands.client import Client
from fe.commands.options import seconds
from fe.commands.table import COLUMNS, Line, Row, cluster_lines, headline, rows
from fe.commands.text import printable, printable_json, say
from fe.control.admin_types import Status
from fe.errors import FeError

PATH: Final = "/api/status"
GAP: Final = "  "


def add_status(parser: argparse.ArgumentParser) -> None:
    """Shows what fe-serve is doing: endpoints, deployments, their load and replicas."""
    parser.set_defaults(run=_run)
    address.add_options(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="show it once and end; so does an output that is no terminal")
    how.add_argument("--json", action="store_true", help="print the admin API's /api/status and end")
    parser.add_argument(
        "--interval", metavar="SECONDS", type=seconds(0.1), default=2.0, help="between two looks (default: 2)"
    )


def _run(options: argparse.Namespace) -> int:
    client = Client(address.find(options))
    if options.json:
        say(printable_json(client.get(PATH, dict[str, Any])))
        return 0
    status = client.get(PATH, Status)
    if sys.stdout.isatty():
        _show(client, status, None if options.once else options.interval)
    else:
        for line in plain(status):
            say(line)
    return 0


def plain(status: Status) -> list[str]:
    """The lines of the table for pipes and files."""
    lines = [[column.title for column in COLUMNS], *([*row.cells] for row in rows(status))]
    widths = [max(len(line[at]) for line in lines) for at in range(len(COLUMNS))]
    aligned = [
        GAP.join(
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, COLUMNS, strict=True)
        ).rstrip()
        for line in lines
    ]
    return [headline(status), *(line.text for line in cluster_lines(status)), "", *aligned]


# --- on a terminal ---------------------------------------------------------------------------------------------------


def _show(client: Client, status: Status, interval: float | None) -> None:
    """The table in colour; with an interval over and over, until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if interval is None:
        console.print(_view(status, ""))
        return
    try:
        with Live(_view(status, ""), console=console, auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(interval)
                status, trouble = _again(client, status)
                live.update(_view(status, trouble), refresh=True)
    except KeyboardInterrupt:
        console.print(_view(status, ""))  # the last one stays to be read


def _again(client: Client, former: Status) -> tuple[Status, str]:
    """A fresh status; or the former one, and why there is no other."""
    try:
        return client.get(PATH, Status), ""
    except FeError as error:
        return former, printable(f"{error}; this is of {time.strftime('%H:%M:%S', time.localtime(former.time))}")


def _view(status: Status, trouble: str) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for column in COLUMNS:
        table.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=True, ratio=1 if column.wide else None,
            overflow="ellipsis" if column.wide else "fold",
        )  # fmt: skip
    for row in rows(status):
        table.add_row(*(Text(cell, style=_style(row)) for cell in row.cells))
    head = Text(headline(status), style="bold" if status.ready else "bold yellow")
    lines = [Text(line.text, style=_style(line)) for line in cluster_lines(status)]
    return Group(head, *lines, Text(trouble, style="bold red") if trouble else Text(""), table)


def _style(one: Row | Line) -> str:
    return {"bad": "red", "busy": "yellow", "detail": "dim"}.get(one.mood, "")
