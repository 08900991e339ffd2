"""Programs in C that benchmarks run: compiled when they are first needed, into build/bench.

Owns: when and how. Never: what they do; each says so at its top (bench/openloop/*.c).
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.context import Context

FOLDER = Path(__file__).parents[1] / "build" / "bench"


def build(context: Context, source: Path) -> Path:
    """The program made from this one source, which is compiled if it is newer. RuntimeError with what cc says."""
    context.need("cc")
    program = FOLDER / source.stem
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source)], capture_output=True, text=True
    )
    if made.returncode:
        raise RuntimeError(f"{source.name} does not compile:\n{made.stderr}")
    return program
