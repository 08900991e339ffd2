"""Who may import whom. Each module stands on a floor and imports only what lies below it, or beside it on its own.

The floors make the two promises on which the rest is built: the data plane and the control plane never meet except in
the shared table, and a worker process stays small because the heavy packages cannot reach it. Cython files are read
too. docs/architecture.md describes the floors; a new module has to be given one here.
"""

from __future__ import annotations

import json
import sys

import pytest

from tests.project import tree

# module or package -> floor; the longest name that fits decides
FLOOR_OF = {
    "fe": "entry",
    "fe.__main__": "entry",
    "fe.checks": "entry",
    "fe.cli": "entry",
    "fe.commands": "entry",
    "fe.simulation": "entry",
    "fe.worker": "worker",
    "fe.controller": "controller",
    "fe.supervisor": "supervisor",
    "fe.proxy": "data plane",
    "fe.control": "control plane",
    "fe.control.kubernetes.access": "cluster",
    "fe.control.kubernetes.client": "cluster",
    "fe.control.kubernetes.election": "cluster",
    "fe.control.kubernetes.exchange": "cluster",
    "fe.control.kubernetes.siblings": "cluster",
    "fe.control.kubernetes.watch": "cluster",
    "fe.config": "vocabulary",
    "fe.model": "vocabulary",
    "fe._core": "table",
    "fe._layout": "table",
    "fe._memory": "table",
    "fe._keeper": "table",
    "fe.sizing": "ground",
    "fe._simulator": "ground",
    "fe.errors": "ground",
    "fe.log": "ground",
}

LOWER = ("vocabulary", "table", "ground")
MAY_IMPORT = {
    "entry": ("supervisor", "worker", "controller", "data plane", "control plane", "cluster", *LOWER),
    "supervisor": LOWER,
    "worker": ("data plane", *LOWER),
    "controller": ("control plane", "cluster", *LOWER),
    "data plane": LOWER,
    "control plane": ("cluster", *LOWER),
    "cluster": LOWER,
    "vocabulary": ("table", "ground"),
    "table": ("ground",),
    "ground": (),
}

# Packages from outside, by floor. The standard library, libc and cpython are everyone's.
OUTSIDE = {
    "entry": {"matplotlib", "msgspec", "rich"},
    "supervisor": {"msgspec"},
    "worker": {"uvloop"},
    "controller": {"aiohttp", "uvloop", "msgspec"},
    "data plane": {"httptools", "msgspec", "uvloop"},
    "control plane": {"aiohttp", "httptools", "msgspec", "numpy", "prometheus_client", "uvloop"},
    "cluster": {"aiohttp", "kubernetes", "msgspec"},
    "vocabulary": {"msgspec", "yaml"},
    "table": set(),
    "ground": set(),
}
EVERYONES = {*sys.stdlib_module_names, "libc", "posix", "cpython", "cython"}

SOURCES = tree.sources("fe", ".py", ".pyi", ".pyx", ".pxd")


def floor_of(module: str) -> str:
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 1, -1)]
    found = [FLOOR_OF[name] for name in names if name in FLOOR_OF]
    if module == "fe":
        return FLOOR_OF["fe"]
    assert found, f"{module} stands on no floor yet: add it to FLOOR_OF"
    return found[0]


@pytest.mark.parametrize("path", SOURCES, ids=tree.label)
def test_imports_only_what_lies_below(path):
    floor = floor_of(tree.module_name(path))
    own = [name for name in tree.imports(path) if name.partition(".")[0] == "fe" and name != "fe"]
    wrong = [name for name in own if floor_of(name) not in (floor, *MAY_IMPORT[floor])]
    assert not wrong, f"{tree.label(path)} ({floor}) must not import {', '.join(wrong)}"


@pytest.mark.parametrize("path", SOURCES, ids=tree.label)
def test_packages_from_outside_belong_to_the_floor(path):
    floor = floor_of(tree.module_name(path))
    outside = {name.partition(".")[0] for name in tree.imports(path)} - EVERYONES - {"fe"}
    assert outside <= OUTSIDE[floor], f"{tree.label(path)} ({floor}) must not import {outside - OUTSIDE[floor]}"


def test_both_planes_are_looked_at():
    """The rules above hold for nothing if the files are not found."""
    floors = {floor_of(tree.module_name(path)) for path in SOURCES}
    assert floors == set(MAY_IMPORT)
    assert {path.suffix for path in SOURCES} == {".py", ".pyi", ".pyx", ".pxd"}


@pytest.mark.parametrize("module", ["fe.worker", "fe.supervisor"])
def test_a_small_process_loads_no_heavy_package(module):
    heavy = ["kubernetes", "aiohttp", "numpy", "prometheus_client", "yaml"]
    printed = tree.run_python(
        f"import json, sys, {module}; print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    )
    assert json.loads(printed) == []


def test_the_controller_loads_no_data_plane():
    printed = tree.run_python("import json, sys, fe.controller; print(json.dumps(sorted(sys.modules)))")
    assert not [name for name in json.loads(printed) if name.startswith("fe.proxy")]


def test_the_controller_loads_the_kubernetes_package_for_a_cluster_only():
    """It takes a third of a second and 21 MB, and most of those who run fe have no cluster."""
    cluster = [name for name, floor in FLOOR_OF.items() if floor == "cluster"]
    printed = tree.run_python(f"import sys, fe.controller, {', '.join(cluster)}; print('kubernetes' in sys.modules)")
    assert printed.strip() == "False"
