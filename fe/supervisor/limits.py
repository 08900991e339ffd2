"""What the machine gives: usable processors and descriptors.

Owns: reading affinity and cgroup quotas, raising RLIMIT_NOFILE. Never: memory (the table checks that for itself, see
`Table.create`). `usable_cpus` is what `workers: auto` means, `fe-serve --check` shows it.
"""

from __future__ import annotations

import functools
import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from fe.errors import ResourceError

LEAST_DESCRIPTORS = 64  # of a process that serves next to nobody
EACH_WORKER = 8  # more that the supervisor has for each
MOST_DESCRIPTORS = 1 << 20  # some containers allow a thousand times more; nobody needs it, and loops over all hurt


def usable_cpus(root: Path = Path("/")) -> int:
    """Processors this process may use: its affinity, and the cgroup's CPU quota (v1 or v2) rounded up; at least 1."""
    return explain_cpus(root)[0]


def explain_cpus(root: Path = Path("/")) -> tuple[int, str]:
    """What `usable_cpus` returns, and in words where it comes from."""
    affinity = len(os.sched_getaffinity(0))
    quota = min(_quotas(root), default=math.inf)
    usable = max(1, min(affinity, math.ceil(quota) if math.isfinite(quota) else affinity))
    limit = f"CPU quota of the cgroup {quota:g}" if math.isfinite(quota) else "no CPU quota of a cgroup"
    return usable, f"CPUs by affinity {affinity}, {limit}"


@functools.cache
def raise_descriptor_limit() -> tuple[int, int]:
    """Lifts the soft limit of open descriptors to the hard one; returns the soft limit before and now.

    Once in a process: a further call returns the same.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return soft, soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return soft, most


def require_descriptors(workers: int = 1) -> None:
    """Raises ResourceError where there are too few for fe-serve to start at all."""
    _, most = raise_descriptor_limit()
    least = LEAST_DESCRIPTORS + EACH_WORKER * workers
    if 0 <= most < least:
        raise ResourceError(
            f"a process may have {most} descriptors open here, and with workers: {workers} fe-serve needs {least} at "
            "the least, and one more for each connection: raise the hard limit (ulimit -Hn, systemd's LimitNOFILE=)"
        )


def _quotas(root: Path) -> Iterator[float]:
    """The CPU quota, in processors, of each cgroup from ours up to the root of what we can see."""
    for kind, mounted, within in _cpu_groups(root):
        directory = mounted / within
        while True:
            quota = _quota_v2(directory) if kind == "cgroup2" else _quota_v1(directory)
            if quota is not None:
                yield quota
            if directory == mounted or mounted not in directory.parents:
                break
            directory = directory.parent


def _cpu_groups(root: Path) -> Iterator[tuple[str, Path, str]]:
    """Our cgroup below each mount that may limit the processor: file system type, mount point, path below it."""
    ours = _own_groups(root)
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        if kind[0] == "cgroup" and "cpu" not in kind[2].split(","):
            continue
        path = ours.get("cpu" if kind[0] == "cgroup" else "")
        if path is None:
            continue
        # In a container the mount shows the group `fields[3]` as its root; a path outside it is that root itself.
        shown = fields[3].rstrip("/")
        inside = path[len(shown) :] if path == shown or path.startswith(shown + "/") else ""
        mounted = root / fields[4].lstrip("/")
        yield kind[0], mounted, inside.strip("/") if (mounted / inside.strip("/")).is_dir() else ""


def _own_groups(root: Path) -> dict[str, str]:
    """Controller -> path of our cgroup; the unified hierarchy (v2) has the empty name."""
    groups: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _quota_v2(directory: Path) -> float | None:
    words = " ".join(_lines(directory / "cpu.max")).split()
    return _ratio(*words) if len(words) == 2 else None


def _quota_v1(directory: Path) -> float | None:
    quota = "".join(_lines(directory / "cpu.cfs_quota_us"))
    return _ratio(quota, "".join(_lines(directory / "cpu.cfs_period_us")))


def _ratio(quota: str, period: str) -> float | None:
    """None for no limit, which v2 writes as "max" and v1 as -1."""
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
