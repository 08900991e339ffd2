"""What the figures were taken on: machine and versions, as the system itself names them. Never: a figure.

No name of a host or of a user, so that a report can be shown to anybody.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from fe import __version__

BUSY = 1.0  # a load from which somebody else has had a core
NOT_INSTALLED, UNKNOWN = "not installed", "unknown"
LIMIT = 10.0  # seconds for a program to say its version
ROOT = Path(__file__).resolve().parents[2]

# Program -> how it is asked, and where its version stands in what it says. wrk says so only beside its usage.
ASKED = {
    "nginx": (["nginx", "-v"], r"nginx/(\S+)"),
    "haproxy": (["haproxy", "-v"], r"version (\S+)"),
    "wrk": (["wrk", "-v"], r"wrk (\S+)"),
    "h2load": (["h2load", "--version"], r"h2load (\S+)"),
    "strace": (["strace", "-V"], r"version (\S+)"),
    "C compiler": (["cc", "--version"], r"(.+)"),
}


def machine() -> dict[str, str]:
    """CPU, cores that may be used, memory, kernel."""
    cpu = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "CPU": cpu[1] if cpu else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory[1]) / 2**20:.1f} GiB" if memory else "unknown",
        "kernel": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Of fe, of what it runs on, and of what it is measured beside and with; "not installed" where that is so."""
    return {
        "fe": " ".join((__version__, *_commit())),
        "Python": platform.python_version(),
        **{name: version(name) for name in ("uvloop", "httptools", "Cython", "pyperf")},
        **{name: _said(command, pattern) for name, (command, pattern) in ASKED.items()},
    }


def load() -> float:
    """How many processes wanted a core, averaged over the last minute."""
    return os.getloadavg()[0]


def _commit() -> list[str]:
    """The commit that is checked out, if it is a checkout, and whether there are changes."""
    where = (f"--git-dir={ROOT / '.git'}", f"--work-tree={ROOT}", "--no-optional-locks")
    said = _said(["git", *where, "describe", "--always", "--dirty", "--exclude=*"], r"^([0-9a-f]+(?:-dirty)?)$")
    return [f"({said})"] if said not in (NOT_INSTALLED, UNKNOWN) else []


def _said(command: list[str], pattern: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return NOT_INSTALLED
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else UNKNOWN
