"""What users install works: the source distribution is complete, and the wheel made from it runs in an empty venv.

The wheel is built from the unpacked source distribution, outside the project's folder, so nothing that only lies in the
checkout can help. Most extensions are taken along as they are; two are compiled, which is enough to see that it works.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from pathlib import Path

import pytest

from tests.project import tree

pytestmark = pytest.mark.timeout(900)  # a busy machine may have to compile

COMPILED = ("_keeper", "_auth")  # one with a header of its own, one that cimports from its neighbours

BUILD = [sys.executable, "-m", "build", "--no-isolation"]


def run(command, cwd) -> str:
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=400, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result.stdout


def clean_copy(folder: Path) -> Path:
    """The files git knows, as a release would be made from."""
    for path in tree.files():
        target = folder / path.relative_to(tree.ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return folder


def take_along(unpacked: Path) -> None:
    """Extensions that are up to date need not be compiled again; a part of them is, from what the archive holds.

    They are dated later than all that they depend on: what an isolated build installs of Cython is as new as the build.
    """
    later = time.time() + 24 * 3600
    library = unpacked / f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    generated = unpacked / "build/cython-release"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for source in tree.sources("fe", ".pyx"):
        if source.stem in COMPILED:
            continue
        for made, target in (
            (tree.ROOT / "build/cython-release" / source.relative_to(tree.ROOT).with_suffix(".c"), generated),
            (source.with_name(source.stem + suffix), library),
        ):
            later += 1
            place = target / source.relative_to(tree.ROOT).with_name(made.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(made, place)
            os.utime(place, (later, later))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    source = clean_copy(tmp_path_factory.mktemp("checkout"))
    take_along(source)
    out = tmp_path_factory.mktemp("sdist")
    run([*BUILD, "--sdist", "--outdir", out], source)
    (archive,) = out.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def unpacked(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    run(["tar", "-xzf", sdist], folder)
    (source,) = folder.iterdir()
    return source


@pytest.fixture(scope="module")
def wheel(unpacked, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    take_along(unpacked)
    run([*BUILD, "--wheel", "--outdir", out], unpacked)
    (archive,) = out.glob("*.whl")
    return archive


def test_sdist_is_complete(unpacked):
    packed = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    wanted = {tree.label(path) for path in tree.files() if not path.name.startswith(".git")}
    assert wanted <= packed, wanted - packed
    assert not [name for name in packed if name.endswith((".so", ".pyc"))]


def test_wheel_holds_what_others_build_and_check_against(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = tree.sources("fe", ".py", ".pyi", ".pxd", ".h")
    assert {tree.label(path) for path in shipped} | {"fe/py.typed"} <= names
    for source in tree.sources("fe", ".pyx"):
        assert any(name.startswith(f"{tree.label(source)[:-4]}.") and name.endswith(".so") for name in names), source
    assert not [name for name in names if name.endswith((".c", ".pyx")) or name.split("/")[0] in ("tests", "tools")]


def test_wheel_works_in_an_empty_environment(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    run([python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-compile", wheel], tmp_path)
    modules = {tree.module_name(path) for path in tree.sources("fe", ".py", ".pyx") if path.stem != "__main__"}
    modules.remove("fe.simulation.chart")  # needs the extra `plot`
    run([python, "-c", f"import {', '.join(sorted(modules))}"], tmp_path)
    command = tmp_path / "venv/bin/fe-serve"
    assert "0.1.0" in run([command, "--version"], tmp_path)
    run([command, "--check", "--config", tree.ROOT / "examples/static.yaml"], tmp_path)
    assert "286" in run([tmp_path / "venv/bin/fe", "size", "--rps", "20", "--seconds", "10"], tmp_path)
