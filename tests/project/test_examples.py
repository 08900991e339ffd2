"""Every example runs as it stands: `fe-serve --check` accepts it without a change."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.project import tree

EXAMPLES = sorted((tree.ROOT / "examples").glob("*.yaml"))


def check(path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fe", "--check", "--config", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tree.ROOT, check=False)


@pytest.mark.parametrize("path", EXAMPLES, ids=tree.label)
def test_example_is_valid(path):
    result = check(path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_there_are_examples():
    assert {"quickstart.yaml", "static.yaml", "full.yaml", "kubernetes.yaml"} <= {path.name for path in EXAMPLES}


def test_check_would_notice(tmp_path):
    """The same command refuses an example with a spoiled key, so its silence above means something."""
    spoiled = tmp_path / "spoiled.yaml"
    spoiled.write_text((tree.ROOT / "examples/static.yaml").read_text().replace("listen:", "listne:"))
    result = check(spoiled)
    assert result.returncode == 2
    assert "listne" in result.stdout + result.stderr
