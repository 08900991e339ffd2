"""`make model`: checks the lease table's protocol with spin, and that each known mistake in it is found.

Owns: which model is run in which sizes, which mutants must fail and which variants must hold. Never: the protocol
itself (the .pml files beside this one). One line per run; the exit status is 1 when any run ends other than expected.
Needs spin and a C compiler, nothing of fe. `run.py NAME...` runs only what has one of these words in its line.
README.md says what is modelled and what is not.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import sched_getaffinity
from pathlib import Path

HERE = Path(__file__).parent
LIMIT_S = 600  # of one search; each takes seconds on an idle core
MEMORY_MB = 4000
MEND = "spin is missing: `apt-get install spin` (Debian, Ubuntu), `brew install spin`, or https://spinroot.com"


@dataclass(frozen=True)
class Case:
    """One verification: a model, a size, and whether spin has to find an error."""

    model: str
    name: str
    defines: str  # of the preprocessor, without -D
    fails: bool = False


def _case(model: str, name: str, defines: str) -> Case:
    return Case(model, name, defines)


def _mutants(model: str, defines: str, *names: str) -> list[Case]:
    return [Case(model, f"mutant {name.lower()}", f"{defines} MUTANT_{name}", fails=True) for name in names]


TWO = "HOLDERS=2 SLOTS=1 ROUNDS=2 CRASHES=1"
SLOTS = "HOLDERS=2 SLOTS=2 ROUNDS=2 CRASHES=1"
CONTROL = "HOLDERS=2 SLOTS=1 ROUNDS=1 CRASHES=1 PHASES=2"

CASES = [
    # The longest first, so that the last to end is a short one.
    _case("lease.pml", "two slots each, retry", f"{SLOTS} RETRIES=1"),
    _case("lease.pml", "cancel, expiry and retry", f"{TWO} CANCELS=1 EXPIRIES=1 RETRIES=1"),
    _case("lease.pml", "two slots each, cancel", f"{SLOTS} CANCELS=1"),
    _case("lease.pml", "two replicas, retry", "HOLDERS=2 SLOTS=2 ROUNDS=2 CRASHES=0 REPLICAS=2 RETRIES=2"),
    _case("lease.pml", "three requests each, two deaths", "HOLDERS=2 SLOTS=1 ROUNDS=3 CRASHES=2"),
    _case("lease.pml", "three holders", "HOLDERS=3 SLOTS=1 ROUNDS=1 CRASHES=1"),
    _case("lease.pml", "two deployments, one mailbox", f"{SLOTS} DEPLOYMENTS=2"),
    _case("lease.pml", "recovery dies too", "HOLDERS=2 SLOTS=1 ROUNDS=2 CRASHES=2 RECOVERY_DIES=1"),
    _case("lease.pml", "collecting later, cancel", f"{TWO} CANCELS=1 DEFER"),
    _case("lease.pml", "capacity up and down", CONTROL),
    _case("lease.pml", "capacity down and up", f"{CONTROL} CAP=2 FIRST_CAP=1 SECOND_CAP=2"),
    _case("lease.pml", "drain and back", f"{CONTROL} DRAIN"),
    _case("lease.pml", "drain and back, retry", f"{CONTROL} DRAIN RETRIES=1"),
    _case("mailbox.pml", "two words, two locks, in parts", "ROUNDS=2 CRASHES=1"),
    _case("mailbox.pml", "two deaths", "ROUNDS=1 CRASHES=2"),
    _case("mailbox.pml", "variant edge_of_each_word", "ROUNDS=1 VARIANT_EDGE_OF_EACH_WORD"),
    _case("lifetime.pml", "two deaths", "ROUNDS=1 CRASHES=2"),
    _case("lifetime.pml", "three workers", "WORKERS=3 ROUNDS=1 CRASHES=0"),
    _case("publish.pml", "four versions, two deaths, two readers", ""),
    *(
        _case("lease.pml", f"variant {name.lower()}", f"{TWO} VARIANT_{name}")
        for name in ("CACHE_BEFORE_TRUTH", "QUEUE_NOT_LOOKED_AT", "REMARK_RINGS_ON_EDGE", "RECOVER_WITHOUT_REMARK")
    ),
    *_mutants(
        "lease.pml",
        SLOTS,
        "GRANT_BEFORE_FREE",
        "SEQ_AFTER_STATE",
        "RING_BEFORE_MARK",
        "SUMMARY_BEFORE_BIT",
        "BELL_READ_LAST",
        "OWN_MARKS_LEFT",
        "COLLECT_TRUSTS_THE_MARK",
        "RELEASE_WITHOUT_HANDOVER",
        "NO_RECOUNT",
        "RECOUNT_GRANTS_NOTHING",
        "RECOUNT_REMARKS_NOBODY",
        "REMARK_RINGS_ONLY",
        "RECOVER_FREES_UNLOCKED",
        "CLAIM_KEEPS_SUMMARY",
    ),
    *_mutants("lease.pml", f"{TWO} CANCELS=1 DEFER", "NO_SECOND_LOOK"),
    *_mutants("lease.pml", "HOLDERS=2 SLOTS=2 ROUNDS=2 CRASHES=0 CAP=2", "BITS_BEFORE_SUMMARY"),
    *_mutants("lease.pml", f"{TWO} EXPIRIES=1", "REMARK_ONLY_GRANTED"),
    *_mutants("lease.pml", f"{TWO} CANCELS=1", "CANCEL_BLIND", "RECOVER_RINGS_ONLY_GRANTED"),
    *_mutants("lease.pml", f"{SLOTS} RETRIES=1", "RETRY_AT_THE_TAIL"),
    *_mutants("lease.pml", CONTROL, "CONTROLLER_GRANTS_NOTHING", "CONTROLLER_NOT_RECOVERED"),
    *_mutants(
        "mailbox.pml",
        "ROUNDS=2",
        "SUMMARY_BEFORE_MARK",
        "MARKS_BEFORE_SUMMARY",
        "NO_SECOND_LOOK",
        "REST_FORGOTTEN",
        "RECOVERY_RINGS_NOBODY",
    ),
    *_mutants(
        "lifetime.pml",
        "ROUNDS=1",
        "FREE_BEFORE_UNLINK",
        "FREED_WHILE_LEASED",
        "GENERATION_NOT_COMPARED",
        "RECOUNT_LEAVES_REPLICAS",
        "RECOUNT_FINISHES_NOTHING",
    ),
    *_mutants("publish.pml", "", "VERSION_FIRST", "ONE_BEHIND_WILL_DO", "NO_SECOND_LOOK", "ONE_REGION"),
]


@dataclass(frozen=True)
class Outcome:
    """What spin said."""

    verdict: str  # "holds", "fails" or why there is no verdict
    detail: str
    states: int
    seconds: float


def _verify(case: Case, folder: Path) -> Outcome:
    begun = time.monotonic()
    defines = [f"-D{word}" for word in case.defines.split()]
    subprocess.run(["spin", "-a", *defines, str(HERE / case.model)], cwd=folder, check=True, capture_output=True)
    effort = "-O0" if case.fails else "-O1"  # a mistake is found soon; compiling takes longer than that
    compiler = ["cc", effort, "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"]
    subprocess.run(compiler, cwd=folder, check=True, capture_output=True)
    try:
        done = subprocess.run(["./pan", "-m100000"], cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return Outcome(f"no verdict in {LIMIT_S} s", "", 0, LIMIT_S)
    return _read(done.stdout, time.monotonic() - begun)


def _read(output: str, seconds: float) -> Outcome:
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"(\d+) states, stored", output)
    count = int(states.group(1)) if states else 0
    if errors is None or "out of memory" in output or "max search depth too small" in output:
        return Outcome("no verdict: out of memory or depth", "", count, seconds)
    if errors.group(1) == "0":
        return Outcome("holds", "", count, seconds)
    reason = re.search(r"pan:\d+: (.*?) \(at depth", output)
    return Outcome("fails", reason.group(1) if reason else "", count, seconds)


def _check(case: Case) -> bool:
    with tempfile.TemporaryDirectory(prefix="fe-model-") as folder:
        outcome = _verify(case, Path(folder))
    expected = "fails" if case.fails else "holds"
    good = outcome.verdict == expected
    line = f"{case.model:14} {case.name:44} {outcome.verdict:6} {outcome.states:>10,} states {outcome.seconds:6.1f} s"
    print(("ok   " if good else "WRONG") + f" {line}  {outcome.detail}".rstrip(), flush=True)
    return good


def main(words: list[str]) -> int:
    """Runs the cases that have one of `words` in their line (all without any); 0 when each ends as expected."""
    if shutil.which("spin") is None:
        print(MEND, file=sys.stderr)
        return 1
    chosen = [c for c in CASES if not words or any(word in f"{c.model} {c.name}" for word in words)]
    with ThreadPoolExecutor(len(sched_getaffinity(0))) as pool:
        results = list(pool.map(_check, chosen))
    print(f"{sum(results)} of {len(results)} as expected")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
