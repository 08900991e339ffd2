"""`workers: auto` under the quotas of cgroup v1 and v2, seen from a host and from inside a container."""

from __future__ import annotations

import os

import pytest

from fe.supervisor.limits import explain_cpus, usable_cpus

V2 = "0::{path}\n"
V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = "4:cpu,cpuacct:{path}\n2:memory:/elsewhere\n"
V1_MOUNT = "31 23 0:27 {root} /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch):
    """The machine that tests run on may have fewer processors than quotas under test."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


def machine(folder, cgroup, mounts, files):
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(cgroup)
    (folder / "proc/self/mountinfo").write_text(mounts)
    for name, text in files.items():
        file = folder / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def v2(folder, files, path="/", root="/"):
    return machine(folder, V2.format(path=path), V2_MOUNT.format(root=root), files)


def v1(folder, path, root, quotas):
    files = {}
    for where, quota in quotas.items():
        files[f"cpu/{where}cpu.cfs_quota_us"] = f"{quota}\n"
        files[f"cpu/{where}cpu.cfs_period_us"] = "100000\n"
    return machine(folder, V1.format(path=path), V1_MOUNT.format(root=root), files)


@pytest.mark.parametrize(
    ("quota", "usable"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("9900000 100000", 8),
        ("", 8),
    ],
)
def test_a_quota_of_v2_is_rounded_up(tmp_path, quota, usable):
    assert usable_cpus(v2(tmp_path, {"cpu.max": f"{quota}\n"})) == usable


def test_the_smallest_quota_on_the_way_up_counts(tmp_path):
    files = {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n", "a/b/c/cpu.max": "500000 100000\n"}
    assert usable_cpus(v2(tmp_path, files, path="/a/b/c")) == 3


def test_a_container_that_sees_its_group_as_root(tmp_path):
    assert usable_cpus(v2(tmp_path, {"cpu.max": "200000 100000\n"}, path="/pods/x", root="/pods/x")) == 2


def test_a_group_outside_of_what_is_mounted_is_its_root(tmp_path):
    assert usable_cpus(v2(tmp_path, {"cpu.max": "200000 100000\n"}, path="/../other")) == 2


@pytest.mark.parametrize(
    ("path", "root", "quotas", "usable"),
    [
        ("/a", "/", {"a/": 250_000}, 3),
        ("/a", "/", {"a/": -1}, 8),
        ("/docker/x", "/docker/x", {"": 100_000}, 1),
        ("/a/b", "/", {"a/": 400_000, "a/b/": -1}, 4),
    ],
)
def test_quotas_of_v1(tmp_path, path, root, quotas, usable):
    assert usable_cpus(v1(tmp_path, path, root, quotas)) == usable


def test_without_cgroups_affinity_alone_counts(tmp_path):
    assert usable_cpus(tmp_path) == 8


def test_the_reason_is_given(tmp_path):
    usable, why = explain_cpus(v2(tmp_path, {"cpu.max": "150000 100000\n"}))
    assert usable == 2
    assert "1.5" in why
    assert "8" in why
