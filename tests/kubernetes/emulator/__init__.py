"""An emulated Kubernetes API server over real HTTP; server.py has what tests use."""

from tests.kubernetes.emulator.errors import Refused
from tests.kubernetes.emulator.faults import Fault
from tests.kubernetes.emulator.server import Emulator

__all__ = ["Emulator", "Fault", "Refused"]
