"""Extension modules only; everything else about the package stands in pyproject.toml.

FE_BUILD selects the variant: `release` (default), `debug` (assertions and crash points) or `coverage` (line tracing).
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

VARIANTS = {
    "release": {"args": ["-O3", "-fno-plt"], "macros": [("NDEBUG", "1")], "linetrace": False},
    "debug": {"args": ["-O1", "-g", "-UNDEBUG"], "macros": [("FE_DEBUG", "1")], "linetrace": False},
    "coverage": {"args": ["-O1", "-g"], "macros": [("CYTHON_TRACE_NOGIL", "1")], "linetrace": True},
}

BUILD = os.environ.get("FE_BUILD", "release")
if BUILD not in VARIANTS:
    raise SystemExit(f"FE_BUILD={BUILD} is unknown; use one of {', '.join(VARIANTS)}")
variant = VARIANTS[BUILD]

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
    "linetrace": variant["linetrace"],
}

extensions = [
    Extension(
        ".".join(path.with_suffix("").parts),
        [str(path)],
        include_dirs=["fe"],
        libraries=["pthread"],
        extra_compile_args=[*variant["args"], "-Wall", "-Wextra", "-Wno-unused-parameter"],
        define_macros=variant["macros"],
    )
    for path in sorted(Path("fe").rglob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        build_dir=f"build/cython-{BUILD}",
        compiler_directives=DIRECTIVES,
        nthreads=0,
    )
)
