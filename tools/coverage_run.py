"""Runs the tests over the coverage build and reports the lines reached, of Python and Cython sources alike.

Owns: how coverage, Cython's plugin for it and the build in build/coverage are put together. Never: builds (that is
the Makefile). The report lands in build/coverage-report; arguments go to pytest. Child processes are measured too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build/coverage"
REPORT = ROOT / "build/coverage-report"

SETTINGS = f"""
[run]
plugins = Cython.Coverage
source = fe
branch = false
parallel = true
data_file = {BUILD}/.coverage
patch = subprocess, _exit
disable_warnings = no-data-collected, module-not-measured, no-sysmon
core = ctrace

[report]
omit = */__main__.py
exclude_also =
    if TYPE_CHECKING:
"""


def place_sources() -> None:
    """The plugin finds a module's lines through its .pyx and .c, which it expects beside the module."""
    for source in ROOT.glob("fe/**/*.pyx"):
        shutil.copy2(source, BUILD / source.relative_to(ROOT))
    for generated in (ROOT / "build/cython-coverage").glob("fe/**/*.c"):
        shutil.copy2(generated, BUILD / generated.relative_to(ROOT / "build/cython-coverage"))


def main(arguments: list[str]) -> int:
    settings = BUILD / "coverage.ini"
    settings.write_text(SETTINGS)
    place_sources()
    for old in BUILD.glob(".coverage*"):
        old.unlink()
    path = os.pathsep.join([str(BUILD), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "COVERAGE_PROCESS_START": str(settings), "FE_COVERAGE": "1"}
    coverage = [sys.executable, "-m", "coverage"]
    tests = ["-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), str(ROOT / "tests")]
    tests.append(f"--ignore={ROOT / 'tests/project'}")  # they look at files and build packages; they run little of fe
    ended = subprocess.run([*coverage, "run", f"--rcfile={settings}", *tests, *arguments], cwd=BUILD, env=environment)
    for command in (["combine", "-q"], ["report", "--skip-covered"], ["html", "-q", f"--directory={REPORT}"]):
        subprocess.run([*coverage, *command, f"--rcfile={settings}"], cwd=BUILD, env=environment, check=True)
    print(f"coverage: {REPORT}/index.html")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
