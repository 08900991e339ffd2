"""What `kubectl kustomize` makes of the folders in deploy/kubernetes.

Owns: running kubectl and loading what it prints. Never: a cluster; nothing here is sent anywhere.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.project import tree

FOLDER = tree.ROOT / "deploy/kubernetes"
MINE = "../../my"

Manifest = dict[str, Any]
Build = Callable[[str], list[Manifest]]


def kubectl(*arguments: object) -> str:
    """What kubectl prints; it may not complain, deprecated fields included."""
    command = ["kubectl", *(str(argument) for argument in arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result.stdout


def put_into_old_words(folder: Path) -> None:
    """For kubectl before 1.21 (Debian 12's): folders are `bases` there, and patches a list of file names."""
    for file in folder.rglob("kustomization.yaml"):
        text = re.sub(r"^resources:(?=\n  - \.\.)", "bases:", file.read_text(), flags=re.MULTILINE)
        file.write_text(text.replace("\npatches:", "\npatchesStrategicMerge:").replace("- path: ", "- "))


def documented() -> dict[str, str]:
    """The two files of a user's own that docs/install.md shows, the kustomization with all that it says to add."""
    blocks = re.findall(r"```yaml\n(.*?)```", (tree.ROOT / "docs/install.md").read_text(), re.DOTALL)
    kustomization, router, generator = blocks
    first = "  - ../deploy/kubernetes/overlays/"
    more = kustomization.replace(first, f"  - ../deploy/kubernetes/options/more-namespaces\n{first}")
    return {"kustomization.yaml": more + generator, "fe.yaml": router}


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds a folder, named below deploy/kubernetes, or MINE, the documented one; the objects it makes."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(FOLDER, project / "deploy/kubernetes")
    (project / "my").mkdir()
    for name, text in documented().items():
        (project / "my" / name).write_text(text)
    minor = json.loads(kubectl("version", "--client", "-o", "json"))["clientVersion"]["minor"]
    if int(re.sub(r"\D", "", minor)) < 21:
        put_into_old_words(project)

    @cache
    def built(folder: str) -> list[Manifest]:
        return list(yaml.safe_load_all(kubectl("kustomize", project / "deploy/kubernetes" / folder)))

    return built
