"""The hand-written .pyi files say what the extension modules really have: mypy's stubtest compares the two."""

from __future__ import annotations

import subprocess
import sys

from tests.project import tree

EXTENSIONS = tree.sources("fe", ".pyx")

# What Cython adds to every module and class; and constructors, whose parameters an extension class does not show.
OF_CYTHON = r"""
.*\.__init__
.*\.__new__
.*\.__reduce_cython__
.*\.__setstate_cython__
.*\.__pyx_\w+
.*\.__test__
.*\.log
"""


def test_every_extension_has_a_stub():
    missing = [tree.label(path) for path in EXTENSIONS if not path.with_suffix(".pyi").exists()]
    assert not missing


def test_stubs_agree_with_the_modules(tmp_path):
    allowed = tmp_path / "allowed"
    allowed.write_text(OF_CYTHON)
    command = [sys.executable, "-m", "mypy.stubtest", *map(tree.module_name, EXTENSIONS)]
    options = ["--concise", "--ignore-disjoint-bases", "--ignore-unused-allowlist", "--allowlist", str(allowed)]
    result = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, cwd=tree.ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
