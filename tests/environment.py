"""The environment of a test run, which what it starts inherits. To be imported before NumPy, torch and Triton, which
read it once."""

from __future__ import annotations

import atexit
import os
import tempfile
from pathlib import Path

HAS_GPU = Path("/dev/nvidiactl").exists()


def own_cache() -> Path:
    """An empty cache, which ends with the process: what the user's holds has no say here, and stays as it is."""
    folder = tempfile.TemporaryDirectory(prefix="patternc-tests-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side
if not HAS_GPU:
    os.environ.setdefault("TRITON_INTERPRET", "1")

if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker shares the cache of the process that started it
    _cache = own_cache()
    os.environ["XDG_CACHE_HOME"] = str(_cache)
    os.environ["MPLCONFIGDIR"] = str(_cache / "matplotlib")
    if not HAS_GPU:  # for one that is there Triton compiles for minutes; it keeps that in its own cache
        os.environ["TRITON_CACHE_DIR"] = str(_cache / "triton")
