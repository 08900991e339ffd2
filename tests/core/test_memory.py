"""Too little memory is an error with figures before anything is touched.

The accounts are files as the kernel writes them, in a folder; the last test asks this machine.
"""

from __future__ import annotations

import pytest

from fe import _memory
from fe._core import Limits, Table

MB = _memory.MB


def kernel(root, files: dict[str, str]):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def machine(root, available_mb: int):
    return kernel(root, {"proc/meminfo": f"MemTotal: 999999 kB\nMemAvailable:   {available_mb * 1024} kB\n"})


def version_2(root, limit: str, current: int, inactive: int = 0, group: str = "/fe"):
    folder = f"sys/fs/cgroup{group}"
    return kernel(
        root,
        {
            "proc/self/cgroup": f"0::{group}\n",
            f"{folder}/memory.max": f"{limit}\n",
            f"{folder}/memory.current": f"{current}\n",
            f"{folder}/memory.stat": f"anon 1\ninactive_file {inactive}\n",
        },
    )


def test_the_machine(tmp_path):
    machine(tmp_path, 30)
    _memory.require(30 * MB, tmp_path)
    with pytest.raises(MemoryError, match=r"needs 40\.0 MB, but the machine has 30\.0 MB left; lower limits\.slots"):
        _memory.require(40 * MB, tmp_path)


def test_a_control_group_of_version_2(tmp_path):
    version_2(machine(tmp_path, 1000), str(64 * MB), 50 * MB)
    _memory.require(14 * MB, tmp_path)
    with pytest.raises(MemoryError, match=r"fe/memory\.max \(64 MB\) has 14\.0 MB left"):
        _memory.require(15 * MB, tmp_path)


def test_cached_file_pages_can_be_dropped(tmp_path):
    version_2(machine(tmp_path, 1000), str(64 * MB), 50 * MB, inactive=20 * MB)
    _memory.require(34 * MB, tmp_path)
    with pytest.raises(MemoryError):
        _memory.require(35 * MB, tmp_path)


def test_no_limit(tmp_path):
    version_2(machine(tmp_path, 1000), "max", 50 * MB)
    assert [room.authority for room in _memory.rooms(tmp_path)] == ["the machine"]


def test_a_limit_further_up(tmp_path):
    version_2(machine(tmp_path, 1000), "max", 10 * MB, group="/pod/fe")
    version_2(tmp_path, str(100 * MB), 90 * MB, group="/pod")
    kernel(tmp_path, {"proc/self/cgroup": "0::/pod/fe\n"})
    tightest = _memory.rooms(tmp_path)[0]
    assert "pod/memory.max" in tightest.authority
    assert tightest.left == 10 * MB


def test_over_its_limit_already(tmp_path):
    version_2(machine(tmp_path, 1000), str(10 * MB), 11 * MB)
    with pytest.raises(MemoryError, match=r"has 0\.0 MB left"):
        _memory.require(1, tmp_path)


@pytest.mark.parametrize("group", ["/docker/abc", "/"], ids=["named as on the host", "as in the container"])
def test_a_control_group_of_version_1(tmp_path, group):
    """In a container the path may be the host's; what is mounted is then the group itself."""
    kernel(
        machine(tmp_path, 1000),
        {
            "proc/self/cgroup": f"12:cpu,cpuacct:/x\n5:memory:{group}\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{32 * MB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{20 * MB}\n",
            "sys/fs/cgroup/memory/memory.stat": f"cache 5\ntotal_inactive_file {4 * MB}\n",
        },
    )
    _memory.require(16 * MB, tmp_path)
    with pytest.raises(MemoryError, match="limit_in_bytes"):
        _memory.require(17 * MB, tmp_path)


def test_version_1_without_a_limit(tmp_path):
    kernel(
        machine(tmp_path, 1000),
        {
            "proc/self/cgroup": "5:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{20 * MB}\n",
        },
    )
    assert [room.authority for room in _memory.rooms(tmp_path)] == ["the machine"]


def test_nothing_to_be_read_is_no_reason_to_refuse(tmp_path):
    assert _memory.rooms(tmp_path) == []
    _memory.require(1 << 60, tmp_path)


def test_this_machine_refuses_more_than_it_has():
    most = Limits(deployments=1, replicas=1, holders=256, slots=1 << 20, workers=256, config_bytes=1 << 30)
    [tightest, *_] = _memory.rooms()
    if Table.size_of(most) > tightest.left:
        with pytest.raises(MemoryError, match="the lease table needs"):
            Table.create(most)
    else:
        _memory.require(Table.size_of(most))
