"""`fe size`: how many replicas a load needs, and what waiting is like then.

Owns: the command's options and words. Never: the formulas (`fe.sizing`).
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any, Final

from fe.commands.options import reads
from fe.errors import ConfigError
from fe.simulation.values import duration, positive, rate, share
from fe.sizing import Waiting, replicas_for, waiting

MOST_SERVERS: Final = 10**9

_EPILOG: Final = """\
replicas = requests/s x seconds / target / concurrency, rounded up: the formula the autoscaler uses as well.

The waiting is that of a queue M/M/c with c = replicas x concurrency (Erlang C). It assumes that requests arrive at
random (Poisson), that durations scatter like an exponential distribution, that there is one first-in-first-out queue,
as fe has it, and that nobody gives up. Arrivals in bursts wait longer, even durations wait less. `fe simulate` drops
these assumptions.

examples:
  fe size --rps 20 --seconds 10                       286
  fe size --rps 900 --seconds 200ms --concurrency 4 --target 80 --json"""


def add_size(parser: argparse.ArgumentParser) -> None:
    """Says how many replicas a load needs, and how long requests wait for a place then."""
    parser.epilog = _EPILOG
    parser.set_defaults(run=_run)
    option = parser.add_argument
    option("--rps", type=reads(rate), required=True, metavar="RATE", help="requests per second: 20, 20rps or 30/m")
    option("--seconds", type=reads(duration), required=True, metavar="TIME", help="how long one takes: 10, 200ms or 2m")
    option("--target", type=reads(share), default=0.7, metavar="PERCENT", help="utilization aimed at (default: 70)")
    option("--concurrency", type=reads(positive), default=1, metavar="COUNT",
           help="requests at once per replica: max_concurrent_requests_per_instance (default: 1)")  # fmt: skip
    option("--json", action="store_true", help="print JSON")


def _run(options: argparse.Namespace) -> int:
    replicas = max(1, replicas_for(options.rps * options.seconds, options.concurrency, options.target))
    if replicas * options.concurrency > MOST_SERVERS:
        raise ConfigError(
            [f"{replicas:,} replicas of {options.concurrency:,} are beyond {MOST_SERVERS:,} requests at once"]
        )
    queue = waiting(options.rps, options.seconds, replicas * options.concurrency)
    if options.json:
        print(json.dumps(_as_dict(options, replicas, queue), indent=2))
    else:
        print("\n".join(_lines(options, replicas, queue)))
    return 0


def _as_dict(options: argparse.Namespace, replicas: int, queue: Waiting) -> dict[str, Any]:
    """Times in seconds; what grows without bound is null."""
    return {
        "replicas": replicas,
        "in_flight": options.rps * options.seconds,
        "utilization": queue.utilization,
        "target": options.target,
        "concurrency": options.concurrency,
        "wait": {
            "probability": queue.probability,
            "mean": queue.mean if math.isfinite(queue.mean) else None,
            "p99": queue.p99 if math.isfinite(queue.p99) else None,
        },
    }


def _lines(options: argparse.Namespace, replicas: int, queue: Waiting) -> list[str]:
    load = options.rps * options.seconds
    exact = load / options.target / options.concurrency
    return [
        f"{replicas:,} replicas" if replicas != 1 else "1 replica",
        "",
        f"  {options.rps:g} requests/s x {options.seconds:g} s = {load:.10g} in flight on average",
        f"  {load:.10g} / {100 * options.target:g} % / {options.concurrency:,} at once each = {exact:,.2f}, rounded up",
        "",
        f"  utilization       {100 * queue.utilization:.1f} %",
        f"  have to wait      {_percent(queue.probability)}",
        f"  mean wait         {_time(queue.mean)}",
        f"  99 % wait at most {_time(queue.p99)}",
        "",
        "The waits assume random arrivals, durations scattered like an exponential distribution, one queue in order of",
        "arrival, and that nobody gives up (M/M/c, Erlang C); fe simulate drops these assumptions.",
    ]


def _percent(share: float) -> str:
    if share < 1e-5:
        return "0.00 %"
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.1f} %"


def _time(seconds: float) -> str:
    """In the unit that fits; below a microsecond is no wait."""
    if math.isinf(seconds):
        return "grows without bound"
    if seconds < 1e-6:
        return "0"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"
