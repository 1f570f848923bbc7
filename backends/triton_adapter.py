"""What hangs on the installed version of Triton, or on there being one. Nothing here imports it when it is loaded."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

OLDEST = (3, 4)
"""The first version that has all the words of the generated kernels."""


def interpreting() -> bool:
    """Whether kernels run on the CPU, in Triton's interpreter: slow, for tests. Triton decides when it is imported."""
    return os.environ.get("TRITON_INTERPRET", "0") in ("1", "true", "on")


@cache
def missing() -> str | None:
    """Why there is no Triton to use, if there is none."""
    if find_spec("triton") is None:
        return "triton is not installed"
    found = _version()
    if found < OLDEST:
        return f"triton {'.'.join(map(str, OLDEST))} or later is needed; found {'.'.join(map(str, found))}"
    return None


def _version() -> tuple[int, int]:
    for name in ("triton", "pytorch-triton", "triton-nightly"):
        try:
            major, minor, *_ = version(name).split(".")
        except PackageNotFoundError:
            continue
        return int(major), int(minor)
    major, minor, *_ = import_module("triton").__version__.split(".")
    return int(major), int(minor)
