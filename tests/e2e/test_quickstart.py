"""The quick start as a newcomer runs it: `make serve`, the README's curl line, Ctrl-C.

Everything is real: the Makefile's own path, the model server in its own environment, its model. Only the ports are
others, in a copy of the example, so that an 8080 in use elsewhere on the machine does not matter; and requests may take
longer, as all does on a busy machine.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import proc
from tests.support.client import Client, EndedError, request
from tests.support.fe_process import free_port, wait_for

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT, STOP_LIMIT = 120.0, 90.0


class Quickstart:
    """`make serve` with a copy of the example on ports of its own, as the foreground job of a terminal would run it."""

    def __init__(self, folder: Path) -> None:
        self.port, self.admin = free_port(), free_port()
        self.mark = f"FE_TEST_MARK={uuid.uuid4().hex}"
        self.log = folder / "make.log"
        self.command = ["make", "--no-print-directory", "-C", str(ROOT), "serve", f"CONFIG={self._copy(folder)}"]

    def _copy(self, folder: Path) -> Path:
        text = (ROOT / "examples/quickstart.yaml").read_text()
        changes = {
            "127.0.0.1:8080": f"127.0.0.1:{self.port}",
            "127.0.0.1:9901": f"127.0.0.1:{self.admin}",
            "max_queue_wait_ms: 2000": "max_queue_wait_ms: 60000",
            "request_timeout_ms: 10000": "request_timeout_ms: 60000",
            "cwd: quickstart": f"cwd: {ROOT}/examples/quickstart",
            "output: quickstart/": f"output: {folder}/",
        }
        for old, new in changes.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        copy = folder / "quickstart.yaml"
        copy.write_text(text)
        return copy

    def start(self) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        name, _, value = self.mark.partition("=")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**inherited, name: value},
                start_new_session=True,
            )

    def predicts(self) -> bool:
        """Whether the README's request is answered by a model by now."""
        assert self.process.poll() is None, f"make serve ended early:\n{self.said()}"
        try:
            return self.post(*curl_line())[0] == 200
        except (OSError, EndedError):
            return False

    def post(self, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, object]:
        with Client(("127.0.0.1", self.port)) as client:
            answer = client.exchange(request(target, "POST", body, headers))
        return answer.status, answer.json()

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def processes(self) -> list[int]:
        return proc.with_environment(self.mark)

    def kill(self) -> None:
        for pid in self.processes():
            proc.kill(pid)
        self.process.wait(STOP_LIMIT)


@pytest.fixture
def quickstart(tmp_path):
    started = Quickstart(tmp_path)
    started.start()
    try:
        wait_for(started.predicts, "a prediction", START_LIMIT)
        yield started
    finally:
        started.kill()


def curl_line() -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of the curl command that the README shows."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    text = next(block for block in blocks if "curl" in block).replace("\\\n", " ")
    words = shlex.split(next(line for line in text.splitlines() if line.startswith("curl")))
    url = urlsplit(next(word for word in words if word.startswith("http://127.0.0.1:8080/")))
    headers = [words[at + 1].partition(": ") for at, word in enumerate(words) if word == "-H"]
    return url.path, words[words.index("-d") + 1].encode(), {name: value for name, _, value in headers}


def shown_answer() -> dict[str, list[float]]:
    """What the README says is answered."""
    found = re.search(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return json.loads(found.group(1))


def listening_addresses(pids: list[int]) -> set[str]:
    """Local addresses, in hexadecimal as the kernel prints them, on which these processes listen over TCP."""
    inodes = {inode for pid in pids for inode in proc.sockets(pid)}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == proc.LISTEN and row[9] in inodes}


@pytest.mark.timeout(500)
def test_quick_start(quickstart):
    path, body, headers = curl_line()
    status, answer = quickstart.post(path, body, headers)
    assert (status, list(answer)) == (200, ["rents"])
    size, rooms = json.loads(body)["data"][0]
    assert answer["rents"][0] == pytest.approx(200 + 11 * size + 35 * rooms, rel=0.05), "train.py's own formula"
    assert answer["rents"] == pytest.approx(shown_answer()["rents"], rel=1e-3), "the README shows this answer"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: quickstart.post(path, body, headers), range(24)))
    assert answers == [(200, answer)] * 24, "more clients than replicas wait their turn"

    assert listening_addresses(quickstart.processes()) == {"0100007F"}, "loopback only, the model servers included"

    os.killpg(quickstart.process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C: make and fe-serve alike get it
    quickstart.process.wait(STOP_LIMIT)
    wait_for(lambda: not quickstart.processes(), "no process is left")


@pytest.mark.timeout(500)
def test_make_is_quick_when_all_is_made():
    """Nothing is made twice: a second set-up finds every step done and starts no installer."""
    command = ["make", "-C", str(ROOT), "--no-print-directory", "build", "example", f"SHELL={shutil.which('sh')} -x"]
    options = {"capture_output": True, "text": True, "check": True, "stdin": subprocess.DEVNULL}
    subprocess.run(command, timeout=300, **options)
    second = subprocess.run(command, timeout=120, **options)
    assert not re.search(r"pip|setup\.py|train\.py", second.stdout + second.stderr)
