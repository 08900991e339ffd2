"""Extension modules only; everything else about the package stands in pyproject.toml.

FE_BUILD selects the variant: `release` (default), `debug` (assertions and the named crash points that the tests
kill processes at) or `coverage` (line tracing); `none` leaves the extensions out, for an installation in place beside
those that are compiled already. Every fe/**/*.pyx is an extension; nothing has to be listed here.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# `cflags` come after those of the interpreter's own build, so the last -O here is the one that counts.
VARIANTS = {
    "release": {"cflags": ["-O3", "-g0", "-DNDEBUG"], "macros": []},
    "debug": {"cflags": ["-O1", "-g", "-UNDEBUG"], "macros": [("FE_DEBUG", "1")]},
    "coverage": {"cflags": ["-O1", "-g", "-UNDEBUG"], "macros": [("CYTHON_TRACE_NOGIL", "1")]},
    "none": {"cflags": [], "macros": []},
}

BUILD = os.environ.get("FE_BUILD", "release")
if BUILD not in VARIANTS:
    raise SystemExit(f"FE_BUILD={BUILD} is unknown; use one of {', '.join(VARIANTS)}")
variant = VARIANTS[BUILD]

# Indexes are checked by the code itself where they come from outside; see docs/decisions/0006-cython-directives.md.
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
    "linetrace": BUILD == "coverage",
}

SOURCES = sorted(Path("fe").rglob("*.pyx")) if BUILD != "none" else []
HEADERS = sorted(str(path) for path in Path("fe").rglob("*.h"))
JOBS = min(len(SOURCES), len(os.sched_getaffinity(0))) or 1

extensions = [
    Extension(
        ".".join(path.with_suffix("").parts),
        [str(path)],
        include_dirs=["fe"],
        depends=HEADERS,
        libraries=["pthread"],
        extra_compile_args=[*variant["cflags"], "-Wall", "-Wextra", "-Wno-unused-parameter"],
        define_macros=variant["macros"],
    )
    for path in SOURCES
]

setup(
    ext_modules=cythonize(
        extensions,
        build_dir=f"build/cython-{BUILD}",
        compiler_directives=DIRECTIVES,
        nthreads=JOBS if JOBS > 1 else 0,
        quiet=True,
    ),
    options={"build_ext": {"parallel": JOBS}},
)
