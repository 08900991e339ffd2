"""What the simulated model server is told on its command line, checked before anything starts.

Owns: the arguments, their texts, the frozen `Settings` they become. docs/loadtest.md has the same options in a table,
which a test compares with these. Never: sockets.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.server.distribution import (
    EXAMPLES,
    Distribution,
    SpecError,
    parse_distribution,
    parse_duration,
)
from loadtest.server.faults import MODES, Fault, check_together, parse_fault

FEWEST_BYTES = 10  # {"pad":""}
MOST_BYTES = 1 << 30
MOST_PORTS = 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations are seconds, sizes bytes. `concurrency` 0: no limit. `stream` 0: one answer in JSON."""

    host: str
    ports: tuple[int, ...]
    service_time: Distribution
    concurrency: int
    refuse: bool
    response_bytes: int
    stream: int
    stream_interval: Distribution
    faults: tuple[Fault, ...]
    listen_after: float
    ready_after: float
    close: bool
    seed: str


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """The settings, or the exit of argparse: 2 with what is wrong on stderr, 0 for --help."""
    parser = build_parser()
    given = parser.parse_args(arguments)
    try:
        check_together(given.fail)
        ports = given.ports or ((given.port if given.port is not None else _port_of_environment()),)
    except SpecError as error:
        parser.error(str(error))
    return Settings(
        host=given.host,
        ports=ports,
        service_time=given.service_time,
        concurrency=given.concurrency,
        refuse=given.over_capacity == "refuse",
        response_bytes=given.response_bytes,
        stream=given.stream,
        stream_interval=given.stream_interval,
        faults=tuple(given.fail),
        listen_after=given.listen_after,
        ready_after=given.ready_after,
        close=given.close,
        seed=given.seed if given.seed is not None else os.urandom(8).hex(),
    )


def build_parser() -> argparse.ArgumentParser:
    """The options, in the order of --help."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.server",
        description="A model server that computes nothing. It answers POST with JSON and X-Service-Us, GET / and "
        "/health for probes, GET /stats with what it has counted. SIGTERM ends it.",
        epilog="Times are as 250us, 20ms, 1.5s, 2m; distributions as " + ", ".join(EXAMPLES.values()) + ".",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="IP", help="address to listen on (default 127.0.0.1)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=_whole(0, 65535), metavar="N", help="default $PORT, else 5001; 0: any free one")
    where.add_argument("--ports", type=_typed(_parse_ports), metavar="A-B", help="several in one process, each a "
                       "replica that counts for itself: 5001-5016, or 5001,5003")  # fmt: skip
    add("--service-time", type=_typed(parse_distribution), default="constant:20ms", metavar="SPEC",
        help="from a request to its answer (default constant:20ms), unless it brings an X-Service-Time")  # fmt: skip
    add("--concurrency", type=_whole(0, 1_000_000), default=0, metavar="N",
        help="requests at once; one more is counted as a violation (default 0: no limit)")  # fmt: skip
    add("--over-capacity", choices=("serve", "refuse"), default="serve",
        help="what such a request gets: its answer (default), or 500")  # fmt: skip
    add("--response-bytes", type=_typed(_parse_size), default="256", metavar="SIZE",
        help="of a body, and least of each event: 256, 64KiB, 10MB (default 256)")  # fmt: skip
    add("--stream", type=_whole(0, 1_000_000), default=0, metavar="N",
        help="answer with N server-sent events, the first after the service time (default 0: one body)")  # fmt: skip
    add("--stream-interval", type=_typed(parse_distribution), default="50ms", metavar="SPEC",
        help="between two events (default 50ms)")  # fmt: skip
    add("--fail", type=_typed(parse_fault), action="append", default=[], metavar="MODE=P",
        help="a way to fail and its probability, as often as needed: "
        + "; ".join(f"{mode}: {meaning}" for mode, meaning in MODES.items()))  # fmt: skip
    add("--listen-after", type=_typed(parse_duration), default="0s", metavar="TIME",
        help="start-up during which nobody listens (default 0s)")  # fmt: skip
    add("--ready-after", type=_typed(parse_duration), default="0s", metavar="TIME",
        help="start-up, from then on, during which everything is answered with 503 (default 0s)")  # fmt: skip
    add("--close", action="store_true", help="end the connection after each answer (Connection: close)")
    add("--seed", metavar="TEXT", help="same seed, same times and faults in the order of requests, for each port")
    return parser


def _typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`parse` as argparse wants it, so that the message of a SpecError is shown."""

    def convert(text: str) -> Any:
        try:
            return parse(text)
        except SpecError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _whole(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return convert


def _port_of_environment() -> int:
    text = os.environ.get("PORT", "5001")
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise SpecError(f"the variable PORT is {text!r}, which is no port")
    return int(text)


def _parse_ports(text: str) -> tuple[int, ...]:
    ports: list[int] = []
    for part in text.split(","):
        found = re.fullmatch("([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 0 < first <= last <= 65535:
            raise SpecError(f"{part!r} is no port from 1 to 65535 and no range of them, as 5001-5016")
        ports.extend(range(first, last + 1))
    if len(set(ports)) != len(ports) or len(ports) > MOST_PORTS:
        raise SpecError(f"{text!r} names a port twice, or more than {MOST_PORTS}")
    return tuple(ports)


def _parse_size(text: str) -> int:
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "KiB": 1 << 10, "MiB": 1 << 20}
    found = re.fullmatch("([0-9]{1,10})([A-Za-z]*)", text)
    size = int(found[1]) * units.get(found[2], 0) if found else 0
    if not FEWEST_BYTES <= size <= MOST_BYTES:
        raise SpecError(f"{text!r} is no size from {FEWEST_BYTES} bytes to 1024MiB, as 256, 64KiB or 10MB")
    return size
