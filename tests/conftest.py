"""What holds for every test.

Owns: that a run of the tests does not depend on chance, nor on how it was started.
"""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# The same examples in every run; FE_EXAMPLES=random looks for new ones. No time limit: it would be one on the machine.
PATIENT = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", PATIENT, derandomize=True)
settings.register_profile("random", PATIENT)
settings.load_profile("random" if os.environ.get("FE_EXAMPLES") == "random" else "same")

# A shell starts what it runs in the background with SIGINT ignored, and processes pass that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
