"""The supervisor: the process that users start, parent of workers, controller and local replicas.

Owns: shared memory, listening sockets, forks, restarts, signals, the end. Never: requests, configuration, Kubernetes;
it imports neither plane. Read arbiter.py first: its loop is the whole story, the other files are its nouns.
"""

from fe.supervisor.arbiter import Settings, Supervisor
from fe.supervisor.limits import usable_cpus

__all__ = ["Settings", "Supervisor", "usable_cpus"]
