"""Debian's own Prometheus as a process: it scrapes one fe-serve every second, and answers queries about it.

Owns: the process with its configuration and data in a temporary folder, on a loopback port. Every wait has a limit; it
is ended on every path.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.fe_process import free_port, wait_for

LIMIT = 60.0
MISSING = "prometheus is missing: `apt-get install prometheus` (Debian, Ubuntu)"


class QueryError(Exception):
    """Prometheus does not take the query."""


class Prometheus:
    """Use it in a `with` block."""

    def __init__(self, target_port: int) -> None:
        if shutil.which("prometheus") is None:
            pytest.fail(MISSING)
        self.folder = tempfile.TemporaryDirectory(prefix="fe-prometheus-")
        self.port = free_port()
        file = Path(self.folder.name) / "prometheus.yml"
        scrape = {"job_name": "fe", "static_configs": [{"targets": [f"127.0.0.1:{target_port}"]}]}
        file.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}))
        self.log = Path(self.folder.name) / "log"
        command = [
            "prometheus", f"--config.file={file}", f"--storage.tsdb.path={self.folder.name}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn",
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def __enter__(self) -> Prometheus:
        try:
            wait_for(self._scrapes, f"Prometheus scrapes:\n{self.log.read_text()}", LIMIT)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of a PromQL query at this moment. Raises QueryError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request("GET", f"/api/v1/query?{urlencode({'query': expression})}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if answer["status"] != "success":
            raise QueryError(f"{expression}: {answer.get('error')}")
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, expression: str) -> float | None:
        """Of a query with at most one sample; None: there is none."""
        result = self.query(expression)
        assert len(result) <= 1, result
        return float(result[0]["value"][1]) if result else None

    def wait_value(self, expression: str, value: float) -> None:
        """Until a scrape has brought it."""
        wait_for(lambda: self.value(expression) == value, f"{expression} == {value}", LIMIT)

    def _scrapes(self) -> bool:
        assert self.process.poll() is None, f"Prometheus has ended:\n{self.log.read_text()}"
        try:
            return self.value('up{job="fe"}') == 1
        except (OSError, ValueError, http.client.HTTPException):
            return False
