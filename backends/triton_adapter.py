"""What hangs on the installed version of Triton, or on there being one. Nothing here imports it when it is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import Context
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from threading import Lock, Thread
from typing import Any

OLDEST = (3, 4)
"""The first version that has all the words of the generated kernels."""
_THREADS = 8
"""Kernels that are compiled at a time: Triton's passes and the assembler run beside Python."""
_PREPARING = Lock()
"""Launchers are made again by one thread at a time; see `_launch_again`."""


def interpreting() -> bool:
    """Whether kernels run on the CPU, in Triton's interpreter: slow, for tests. Triton decides when it is imported."""
    return os.environ.get("TRITON_INTERPRET", "0") in ("1", "true", "on")


@cache
def missing() -> str | None:
    """Why there is no Triton to use, if there is none."""
    if find_spec("triton") is None:
        return "triton is not installed"
    found = version()
    if found < OLDEST:
        return f"triton {'.'.join(map(str, OLDEST))} or later is needed; found {'.'.join(map(str, found))}"
    return None


@cache
def version() -> tuple[int, int]:
    """Of Triton, which is installed."""
    for name in ("triton", "pytorch-triton", "triton-nightly"):
        try:
            major, minor, *_ = metadata.version(name).split(".")
        except metadata.PackageNotFoundError:
            continue
        return int(major), int(minor)
    major, minor, *_ = import_module("triton").__version__.split(".")
    return int(major), int(minor)


# ------------------------------------------------------------------ starting kernels


def current_stream(device: int) -> int:
    """The stream on which kernels of a device start."""
    return int(_stream_of()(device))


@cache
def _stream_of() -> Callable[[int], int]:
    found: Callable[[int], int] = import_module("triton.runtime").driver.active.get_current_stream
    return found


@cache
def look_ahead() -> Thread:
    """What Triton does once in a process, before it compiles its first kernel or finds that it has been compiled: it
    reads all of its own files. This begins with it."""
    thread = Thread(target=_read_triton, daemon=True)
    thread.start()
    return thread


def _read_triton() -> None:
    read = getattr(import_module("triton.runtime.cache"), "triton_key", None)
    if read is not None:
        read()


def prepare(warmups: Sequence[tuple[Any, Callable[[], Any]]], enter: Callable[[], None]) -> None:
    """Compiles and loads kernels beside one another, by calls of their `warmup`; threads begin with `enter`. Kernels
    that cannot be compiled say so when they are started."""
    with _PREPARING:
        for kernel, _ in warmups:  # what they are known by can be found while Triton's files are read
            getattr(kernel, "cache_key", None)
        look_ahead().join()
        with ThreadPoolExecutor(_THREADS, initializer=enter) as pool:
            # In a context of its own, for a caller may compile in such a way too, and must not be left doing it.
            loaded = list(pool.map(_load, Context().run(_warmed, [warmup for _, warmup in warmups], pool)))
        for kernel in loaded:
            _launch_again(kernel)


def _warmed(warmups: Sequence[Callable[[], Any]], pool: ThreadPoolExecutor) -> list[Any]:
    mode = getattr(import_module("triton"), "AsyncCompileMode", None)
    with nullcontext() if mode is None else mode(pool, ignore_errors=True):
        return [warmup() for warmup in warmups]


def _load(warmed: Any) -> Any:
    """Loads the kernel to the device, and compiles what starts it, which some versions of Triton do in C."""
    kernel = warmed.result(ignore_errors=True) if hasattr(warmed, "result") else warmed
    if isinstance(kernel, import_module("triton.compiler").CompiledKernel):
        _ = kernel.run
    return kernel


def _launch_again(kernel: Any) -> None:
    """Makes what starts the kernel once more, in this thread alone. Python knows all launchers in C under one name, so
    that a thread that loads one for the second time may change the one that another thread is just given."""
    launcher: Any = getattr(kernel, "_run", None)
    if type(launcher).__name__ == "CudaLauncher":
        kernel._run = type(launcher)(kernel.src, kernel.metadata)
