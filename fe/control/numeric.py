"""numpy, loaded so that it costs no threads.

Owns: that import. Never: a calculation. numpy's linear algebra starts a thread for each CPU when it is loaded, and the
controller only adds rows up. The setting is undone at once: local replicas inherit the environment, and use it.
"""

from __future__ import annotations

import os
from typing import Final

_SETTING: Final = "OPENBLAS_NUM_THREADS"
_former = os.environ.get(_SETTING)
os.environ[_SETTING] = "1"
try:
    import numpy as np
    from numpy.typing import NDArray
finally:
    if _former is None:
        del os.environ[_SETTING]
    else:
        os.environ[_SETTING] = _former

__all__ = ["NDArray", "np"]
