"""As the first process of a container: it must reap strangers, obey signals and end with its own exit code."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.supervisor.serving import comm, serving
from tests.support import proc
from tests.support.fe_process import wait_for

NAMESPACES = (
    ["unshare", "--pid", "--fork", "--mount-proc"],
    ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"],
)


def namespace() -> list[str]:
    """How to start a command as process 1. Where the machine allows none, as subreaper: it adopts orphans as well."""
    for command in NAMESPACES:
        if subprocess.run([*command, "true"], capture_output=True, timeout=60).returncode == 0:
            return command
    return []


def named(parent: int, name: str) -> list[int]:
    return [pid for pid in proc.children(parent) if comm(pid) == name]


def stranger_of(keeper: int) -> list[int]:
    """The sleep that leads a session of its own, below the replica's shell."""
    return [pid for shell in proc.children(keeper) for pid in named(shell, "sleep") if os.getsid(pid) == pid]


def test_it_reaps_orphans_obeys_signals_and_passes_its_exit_code_on(tmp_path):
    with serving(tmp_path, before=namespace()) as served:
        if namespace():
            [served.pid] = proc.children(served.process.pid)
            assert Path(f"/proc/{served.pid}/status").read_text().split("NSpid:")[1].split("\n")[0].split()[-1] == "1"
        bridge = served.bridge()
        bridge.spawn("a", "sh", "-c", "setsid sleep 1000 & echo up; sleep 1000")
        served.wait_log("(^|\n)up\n")
        [keeper] = named(served.pid, "fe-keeper")
        [stranger] = wait_for(lambda: stranger_of(keeper), "the one who leaves its session has done so")
        os.kill(keeper, signal.SIGKILL)  # so that the one who left its session becomes a child of fe-serve
        assert bridge.heard("exited")["id"] == "a"
        # The shell between them may die later than the keeper, and a list of children lacks some while others end.
        wait_for(lambda: stranger in proc.children(served.pid) or not proc.alive(stranger), "it is fe-serve's child")
        proc.kill(stranger)
        wait_for(lambda: not proc.state(stranger), "no stranger stays, not even as a zombie")
        os.kill(served.worker(0), signal.SIGKILL)
        served.wait_log("worker 0 serves", 2)
        assert served.client().ask("pid")
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
