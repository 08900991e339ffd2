"""`python -m bench`: runs the benchmarks one after the other and writes one report. See docs/benchmarks.md.

Owns: which there are and in which order, what becomes of one that fails. Never: a figure, nor how it is shown.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from bench.context import PACKAGES, Context, MissingToolError
from bench.report import Part, Run, machine, write_report
from bench.report.document import document
from bench.result import Measure

# In the order of the report. Each is a module with `measure(context) -> Iterator[Measure]`.
MODULES = (
    "macro.cpu", "macro.latency", "macro.queue", "macro.events", "macro.bodies", "macro.connections",
    "macro.scaling", "macro.memory", "macro.startup", "macro.controller", "macro.autoscale", "macro.syscalls",
    "micro.lease_table", "micro.hand_over", "micro.table_calls", "micro.request_path", "micro.looks",
)  # fmt: skip


def main() -> int:
    """0, or 1 when a benchmark failed. A bar that is not reached is no failure."""
    options = _options()
    if options.document:
        return _document(options.out)
    modules = options.only or MODULES
    started, load = time.time(), machine.load()
    with tempfile.TemporaryDirectory(prefix="fe-bench-") as name:
        context = Context(Path(name), options.quick, options.rounds, options.seconds)
        _say_what_is_missing(context)
        parts = [_part(context, module) for module in modules]
    run = Run(
        started, time.time(),
        {"quick": options.quick, "rounds": options.rounds, "seconds": options.seconds, "only": options.only},
        machine.machine(), machine.versions(), (load, machine.load()), parts,
    )  # fmt: skip
    print(write_report(options.out, run))
    return 1 if run.failures() else 0


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
        context.need(*(program for program in PACKAGES if shutil.which(program) is None))
    except MissingToolError as error:
        context.say(f"{error}; what needs them will fail")


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
    except MissingToolError as error:
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
    parser.add_argument("--rounds", type=int, help="turns of each party (default 3, quick 1)")
    parser.add_argument("--seconds", type=float, help="of a turn (default 3, quick 1)")
    parser.add_argument("--only", nargs="+", choices=MODULES, metavar="NAME", help=f"of {', '.join(MODULES)}")
    parser.add_argument(
        "--out", type=Path, default=Path("build/bench"), help="folder of the report (default build/bench)"
    )
    parser.add_argument(
        "--document", action="store_true", help="measure nothing: write the report that is there into docs/"
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (1.0 if options.quick else 3.0)
    return options


if __name__ == "__main__":
    sys.exit(main())
