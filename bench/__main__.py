"""`python -m bench`: runs the benchmarks one after the other and writes one report. See docs/benchmarks.md.

Owns: which there are and in which order, what becomes of one that fails. Never: a figure, nor how it is shown.
"""

from __future__ import annotations

import argparse
import importlib
import re
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from bench.context import PACKAGES, Context, UnmetNeedError, raise_descriptors
from bench.report import Part, Run, machine, prepare_folder, text, write_report
from bench.report.document import document
from bench.result import Measure

# In the order of the report. Each is a module with `measure(context) -> Iterator[Measure]`.
MODULES = (
    "macro.cpu", "macro.latency", "macro.queue", "macro.events", "macro.bodies", "macro.connections",
    "macro.scaling", "macro.memory", "macro.startup", "macro.controller", "macro.autoscale", "macro.syscalls",
    "micro.lease_table", "micro.hand_over", "micro.table_calls", "micro.request_path", "micro.looks",
)  # fmt: skip
DESCRIPTORS = 11_000  # that the most demanding one has in a process: macro.memory's clients
INTERRUPTED = 130


def main() -> int:
    """0, 1 when a benchmark failed or the report, 130 when interrupted. A bar that is not reached is no failure."""
    options = _options()
    if options.document:
        return _document(options.out)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as it is under nohup
            signal.signal(number, _interrupt)
    raise_descriptors()
    try:
        prepare_folder(options.out)
        run = _measure(options)
        print(text.printed(run), flush=True)
        print(write_report(options.out, run))
    except OSError as error:
        print(f"bench: {error.filename or options.out}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; everything that was started has ended", file=sys.stderr)
        return INTERRUPTED
    return 1 if run.failures() else 0


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _measure(options: argparse.Namespace) -> Run:
    modules = options.only or MODULES
    started, load = time.time(), machine.load()
    with tempfile.TemporaryDirectory(prefix="fe-bench-") as name:
        context = Context(Path(name), options.quick, options.rounds, options.seconds)
        _say_what_is_missing(context)
        if load > machine.BUSY:
            context.say(text.busy(load))
        parts = [_part(context, module) for module in modules]
    return Run(
        started, time.time(),
        {"quick": options.quick, "rounds": options.rounds, "seconds": options.seconds, "only": options.only},
        machine.machine(), machine.versions(), (load, machine.load()), parts,
    )  # fmt: skip


def _document(out: Path) -> int:
    try:
        print(document(out))
    except (OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _say_what_is_missing(context: Context) -> None:
    """Before minutes have gone by; what needs none of it is measured all the same."""
    try:
        context.need(*PACKAGES, descriptors=DESCRIPTORS)
    except UnmetNeedError as error:
        context.say(f"{error}; what needs it will fail, or measure less")


def _part(context: Context, module: str) -> Part:
    """Whatever goes wrong in one module, the others have their turn."""
    context.say(module)
    measures: list[Measure] = []
    failure = None
    began = time.monotonic()
    try:
        for measure in importlib.import_module(f"bench.{module}").measure(context):
            measures.append(measure)
            medians = (f"{party} {measure.median(party):.4g}" for party in measure.samples)
            context.say(f"  {measure.title}: {', '.join(medians)} {measure.unit}")
    except UnmetNeedError as error:
        failure = str(error)
    except Exception as error:
        traceback.print_exc()
        failure = f"{type(error).__name__}: {error}"
    if failure is not None:
        context.say(f"  failed: {failure}")
    return Part(module, measures, time.monotonic() - began, failure)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a minute for all: shows that it works, its figures are rough"
    )
    parser.add_argument("--rounds", type=_rounds, help="turns of each party (default 3, quick 1)")
    parser.add_argument("--seconds", type=_seconds, help="of a turn (default 3, quick 0.75)")
    parser.add_argument("--only", nargs="+", choices=MODULES, metavar="NAME", help=f"of {', '.join(MODULES)}")
    parser.add_argument(
        "--out", type=Path, default=Path("build/bench"), help="folder of the report (default build/bench)"
    )
    parser.add_argument(
        "--document", action="store_true", help="measure nothing: write the report that is there into docs/"
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.75 if options.quick else 3.0)
    return options


def _rounds(word: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,3}", word):
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number above 0")
    return int(word)


def _seconds(word: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", word) or not float(word):
        raise argparse.ArgumentTypeError(f"{word!r} is no number above 0")
    return float(word)


if __name__ == "__main__":
    sys.exit(main())
