"""How much memory this process may still take, by the machine's and the control group's account.

Owns: reading /proc and /sys/fs/cgroup (versions 1 and 2), and the refusal with figures. Never: allocates anything.
The lease table asks before it touches its pages, so that too little is an error at start-up and not a kill later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

MB: Final = 1 << 20
UNLIMITED: Final = 1 << 60  # version 1 says "no limit" with a number close to 2^63


class Room(NamedTuple):
    """What one authority leaves."""

    authority: str  # for the message
    left: int  # bytes


def _number(path: Path) -> int | None:
    """The number a kernel file holds; None when there is no such file or it says `max`."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def _field(path: Path, name: str) -> int:
    """The number beside `name` in a file of `name number` or `name: number kB` lines; 0 when it is missing."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[0] == name:
            return int(words[1])
    return 0


def _group_room(group: Path, limit: str, usage: str) -> Room | None:
    """What one control group leaves. Its cached file pages can be dropped, so they do not count as used."""
    most, used = _number(group / limit), _number(group / usage)
    if most is None or used is None:
        return None
    droppable = max(
        _field(group / "memory.stat", "inactive_file"), _field(group / "memory.stat", "total_inactive_file")
    )
    return Room(f"{group / limit} ({most / MB:.0f} MB)", most - max(used - droppable, 0))


def _groups(root: Path, hierarchy: Path) -> list[tuple[Path, str, str]]:
    """Every control group above this process that may limit memory: (folder, limit file, usage file)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            top, files = hierarchy, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top, files = hierarchy / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        # In a container the name may be that of the host, which is not to be seen here: its own top is then the limit.
        inner = Path(name.lstrip("/"))
        found += [(top / part, *files) for part in (inner, *inner.parents)]
    return found


def rooms(root: Path = Path("/")) -> list[Room]:
    """What each authority over this process's memory leaves, the tightest first."""
    found = [_group_room(*group) for group in _groups(root, root / "sys/fs/cgroup")]
    available = _field(root / "proc/meminfo", "MemAvailable")
    if available:
        found.append(Room("the machine", available * 1024))
    return sorted((room for room in found if room is not None), key=lambda room: room.left)


def require(size: int, root: Path = Path("/")) -> None:
    """Raises MemoryError, with figures and the mend, when `size` bytes are more than is left."""
    for room in rooms(root):
        if size > room.left:
            raise MemoryError(
                f"the lease table needs {size / MB:.1f} MB, but {room.authority} has {max(room.left, 0) / MB:.1f} MB"
                " left; lower limits.slots, limits.holders or limits.config_bytes, or give it more memory"
            )
