"""The Containerfile's steps work, from exactly the files that it copies, and what they install serves in a container.

No engine is needed: the commands of its RUN lines are run in folders that stand for the image's, and the result is
started as a container engine would start it. Most extensions are taken along compiled; tests/project/test_build.py
compiles what is compiled here too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy import containerfile
from tests.project import tree
from tests.project.test_build import take_along
from tests.support.backends import Backend
from tests.support.fe_process import FeProcess, endpoint

pytestmark = pytest.mark.timeout(900)  # wheels are fetched, and a busy machine may have to compile

SANDBOX = ["unshare", "--user", "--mount", "--map-user=10001", "--map-group=10001", "--keep-caps", sys.executable,
           str(Path(__file__).with_name("read_only.py"))]  # fmt: skip


def last(word: str) -> containerfile.Instruction:
    """The one of the final stage that counts."""
    return [instruction for instruction in containerfile.stages()[-1] if instruction.word == word][-1]


def test_the_linter_has_nothing_to_say():
    result = subprocess.run(
        [Path(sys.executable).parent / "hadolint", "--no-color", containerfile.FILE],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, "")


def test_stages_are_named_and_images_are_pinned():
    named = [re.fullmatch(r"(\S+) AS (\w+)", stage[0].text) for stage in containerfile.stages()]
    assert all(named)
    assert len(named) == 2
    assert all(":" in found[1] and not found[1].endswith(":latest") for found in named if found)
    assert "-slim" in named[-1][1]
    assert f"from={named[0][2]}," in last("RUN").flags[0]


def test_runs_as_a_number_in_exec_form():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER").text)
    assert json.loads(last("ENTRYPOINT").text) == ["fe-serve"]
    assert json.loads(last("CMD").text)[0] == "--config"


def test_the_user_is_the_one_the_pod_asks_for():
    deployment = (tree.ROOT / "deploy/kubernetes/base/deployment.yaml").read_text()
    user, group = last("USER").text.split(":")
    assert f"runAsUser: {user}\n" in deployment
    assert f"runAsGroup: {group}\n" in deployment


def copy(sources: list[str], folder: Path) -> None:
    """COPY: what the ignore file lets through of these files and folders; each of them has to have some."""
    for source in sources:
        seen = [path for path in containerfile.context() if path.is_relative_to(tree.ROOT / source)]
        assert seen, f"COPY {source} finds nothing"
        for path in seen:
            target = folder / path.relative_to(tree.ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)


def run(command: str, root: Path, cwd: Path) -> None:
    """RUN: by a shell, with the image's folders below `root`."""
    command = re.sub(r"(?<![\w.])/(src|wheels|opt)\b", rf"{root}/\1", command)
    # What is never imported here need not be compiled to byte code either.
    env = {**os.environ, "PIP_NO_COMPILE": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["sh", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=400, env=env, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """What stands for the image's root after all steps of both stages."""
    root = tmp_path_factory.mktemp("image")
    for stage in containerfile.stages():
        cwd = root
        for instruction in stage:
            if instruction.word == "WORKDIR":
                cwd = root / instruction.text.lstrip("/")
                cwd.mkdir(parents=True)
            elif instruction.word == "COPY":
                copy(instruction.text.split()[:-1], cwd)
            elif instruction.word == "RUN":
                if (cwd / "setup.py").exists():
                    take_along(cwd)
                run(instruction.text, root, cwd)
    return root


class Contained(FeProcess):
    """fe-serve of the image, as a container engine starts it."""

    def __init__(self, image: Path, config) -> None:
        self.image = image
        super().__init__(config)

    def _launch(self):
        self.command = str(self.image / "opt/fe/bin/fe-serve")
        command = [*SANDBOX, self.command, "--config", str(self.file)]
        env = {name: self.env[name] for name in ("FE_E2E_MARK", "PATH")} | {"PYTHONDONTWRITEBYTECODE": "1"}
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, cwd="/")


def test_nothing_but_fe_and_what_it_needs_is_installed(image):
    site = next((image / "opt/fe/lib").glob("python*/site-packages"))
    installed = {path.name.partition("-")[0].lower() for path in site.glob("*.dist-info")}
    assert {"fe_router", "uvloop", "kubernetes"} <= installed  # the last one for the configuration of the manifests
    assert not installed & {"pip", "setuptools", "cython", "pytest"}
    assert not list((site / "fe").rglob("*.pyx"))


def test_says_its_version(image):
    command = [*SANDBOX, str(image / "opt/fe/bin/fe-serve"), "--version"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd="/")
    assert result.stdout.startswith("fe-serve "), result.stderr


def test_serves_with_a_read_only_root_and_a_user_without_a_name(image):
    with Backend() as backend, Contained(image, {"endpoints": [endpoint([backend.address])]}) as fe:
        with fe.client() as client:
            assert client.post("/score", b"{}").body == b"ok"
        fe.reload()
        fe.wait_metric("fe_config_reloads_total", 2, result="applied")  # the start counts, too


def test_a_missing_configuration_is_said(image):
    command = [*SANDBOX, str(image / "opt/fe/bin/fe-serve"), *json.loads(last("CMD").text)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd="/")
    assert result.returncode == 2
    assert "/etc/fe/fe.yaml" in result.stderr
