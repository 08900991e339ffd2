"""Says what a machine lacks before fe can be built, and how to get it on Debian and Ubuntu.

Owns: the checks for the interpreter's version, its headers, `venv`, and a C compiler. Never: installs anything.
Runs under any Python, so nothing newer than Python 3.0 stands here. Called by the Makefile before it makes the
virtual environment; setup.py is what needs the things checked.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile

OLDEST = (3, 11)


def missing_python():
    if sys.version_info >= OLDEST:
        return None
    found = "%d.%d" % sys.version_info[:2]
    return "Python 3.11 or newer (%s is %s); name another one with make PYTHON=/path/to/python3" % (
        sys.executable,
        found,
    )


def missing_venv():
    try:
        import ensurepip  # noqa: F401 - Debian ships venv without it until python3-venv is there
        import venv  # noqa: F401
    except ImportError:
        return "the venv module of %s: apt-get install python3-venv" % sys.executable
    return None


def missing_headers():
    if os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        return None
    return "the headers of %s (Python.h): apt-get install python3-dev" % sys.executable


def missing_compiler():
    command = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    if shutil.which(command[0]) is None:
        return "a C compiler (%s): apt-get install gcc libc6-dev" % command[0]
    folder = tempfile.mkdtemp()
    try:
        source = os.path.join(folder, "probe.c")
        with open(source, "w") as file:
            file.write("#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n")
        ok = subprocess.call([*command, source, "-o", os.path.join(folder, "probe")], stderr=subprocess.DEVNULL) == 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return None if ok else "a C compiler that links a program (%s fails): apt-get install gcc libc6-dev" % command[0]


def main():
    checks = (missing_python, missing_venv, missing_headers, missing_compiler)
    problems = [problem for problem in (check() for check in checks) if problem]
    for problem in problems:
        sys.stderr.write("fe cannot be built here without " + problem + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
