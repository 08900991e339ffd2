"""The hand-written .pyi files say what the extension modules really have: mypy's stubtest compares the two."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.project import tree

EXTENSIONS = tree.sources("fe", ".pyx")

# What Cython adds to every module and class, and constructors, whose parameters an extension class does not show; then
# what only looks public: loggers, imported numbers, the buffer behind Table.statistics, functions of the debug build.
NOT_COMPARED = r"""
.*\.__init__
.*\.__new__
.*\.__reduce_cython__
.*\.__setstate_cython__
.*\.__pyx_\w+
.*\.__test__
.*\.log
fe\._core\.Region
fe\._core\.crash_\w+
fe\.proxy\._exchange\.LONGEST_\w+
"""


def test_every_extension_has_a_stub():
    missing = [tree.label(path) for path in EXTENSIONS if not path.with_suffix(".pyi").exists()]
    assert not missing


@pytest.mark.timeout(400)
def test_stubs_agree_with_the_modules(tmp_path):
    allowed = tmp_path / "allowed"
    allowed.write_text(NOT_COMPARED)
    command = [sys.executable, "-m", "mypy.stubtest", *map(tree.module_name, EXTENSIONS)]
    options = ["--concise", "--ignore-disjoint-bases", "--ignore-unused-allowlist", "--allowlist", str(allowed)]
    result = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300, cwd=tree.ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
