"""Kernels that Triton has started once, started again.

Under the versions of Triton named here that is done by the C function in which its launcher ends: what the launcher
does before takes longer on the host than a short kernel on the device. Under other versions the launcher does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import getclosurevars
from types import MappingProxyType
from typing import Any

from patternc.backends.triton_adapter import version

_MAPS = 64
"""Tensor maps that are kept for an argument."""


@dataclass(frozen=True, eq=False)
class Starter:
    """What starts a kernel. It takes all arguments in order, constants included, pointers as addresses, some of them
    expanded. It looks at nothing that Triton's JIT looks at to tell one kernel from another."""

    start: Callable[[list[Any], int], Any]
    """Of arguments and a stream."""
    arguments: list[Any]
    """Those that it was made for."""
    places: Sequence[int]
    """Where each of the kernel's arguments stands among them."""
    boxes: MappingProxyType[int, Callable[[int], Any]]
    """What stands for a tensor descriptor of a tensor at an address, by the number of the argument."""


@dataclass(frozen=True, slots=True)
class Address:
    """A place in memory, for what asks a tensor where it lies."""

    value: int

    def data_ptr(self) -> int:
        return self.value


def starter(started: Any, programs: int, arguments: Sequence[Any]) -> Starter | None:
    """From what Triton returns for a kernel that it has started on these arguments. None where it returns no kernel, as
    in the interpreter."""
    if not isinstance(started, import_module("triton.compiler").CompiledKernel):
        return None
    given = [a.data_ptr() if hasattr(a, "data_ptr") else a for a in arguments]
    boxes = {i: _moved(a) for i, a in enumerate(given) if _is_box(a)}
    return _direct(started, programs, given) or _public(started, programs, given, boxes)


def _is_box(argument: Any) -> bool:
    return hasattr(argument, "block_shape")


def _moved(box: Any) -> Callable[[int], Any]:
    """The descriptor of a tensor elsewhere. It does not hold the tensor that it was made for."""
    kept = copy(box)
    kept.base = None

    def at(address: int) -> Any:
        made = copy(kept)  # two threads may start a kernel at once
        made.base = Address(address)
        return made

    return at


def _public(started: Any, programs: int, given: list[Any], boxes: dict[int, Callable[[int], Any]]) -> Starter:
    run = started[(programs, 1, 1)]
    return Starter(lambda all_, stream: run(*all_, stream=stream), given, range(len(given)), MappingProxyType(boxes))


# ------------------------------------------------------------------ below the launcher


def _direct(started: Any, programs: int, given: list[Any]) -> Starter | None:
    launcher, call = started.run, _CALLS.get(version())
    if call is None or type(launcher).__name__ != "CudaLauncher":
        return None
    if launcher.global_scratch_size or launcher.profile_scratch_size:
        return None
    raw, metas = launcher.launch, []
    if any(map(_is_box, given)):
        inside = getclosurevars(raw).nonlocals
        raw, metas = inside["launcher"], list(inside["tensordesc_meta"])
    if None in metas:  # the kernel takes them apart
        return None
    expanded, places, boxes = _expanded(given, metas)
    return Starter(call(raw, launcher, started, programs), expanded, places, MappingProxyType(boxes))


def _expanded(given: list[Any], metas: list[Any]) -> tuple[list[Any], list[int], dict[int, Callable[[int], Any]]]:
    """Arguments with a tensor map, shape and strides for each descriptor; the place of each; the makers of maps."""
    expanded: list[Any] = []
    places: list[int] = []
    boxes: dict[int, Callable[[int], Any]] = {}
    for i, argument in enumerate(given):
        places.append(len(expanded))
        if _is_box(argument):
            meta = metas[len(boxes)]
            expanded += _encoded(argument, meta)
            boxes[i] = _maps(_moved(argument), meta)
        else:
            expanded.append(argument)
    return expanded, places, boxes


def _encoded(box: Any, meta: Any) -> list[Any]:
    made: list[Any] = import_module("triton.backends.nvidia.driver").make_tensordesc_arg(box, meta)
    return made


def _maps(moved: Callable[[int], Any], meta: Any) -> Callable[[int], Any]:
    """The tensor map for an address. It says nothing else of the tensor, and is copied when a kernel is started."""
    kept: dict[int, Any] = {}

    def at(address: int) -> Any:
        found = kept.get(address)
        if found is None:
            if len(kept) >= _MAPS:
                kept.clear()
            found = kept[address] = _encoded(moved(address), meta)[0]
        return found

    return at


@cache
def _runtime() -> Any:
    return import_module("triton").knobs.runtime


def _hooks(kernel: Any, grid: tuple[int, int, int], stream: int) -> tuple[Any, Any, Any]:
    """What profilers are told before and after a kernel, and who tells them."""
    runtime = _runtime()
    enter, leave = runtime.launch_enter_hook, runtime.launch_exit_hook
    if not getattr(enter, "calls", enter) and not getattr(leave, "calls", leave):
        return None, None, None
    return kernel.launch_metadata(grid, stream), enter, leave


def _call_3_6(raw: Any, launcher: Any, kernel: Any, programs: int) -> Callable[[list[Any], int], Any]:
    grid, packed = (programs, 1, 1), kernel.packed_metadata
    fixed = kernel.function, launcher.launch_cooperative_grid, launcher.launch_pdl, None, None, packed

    def start(arguments: list[Any], stream: int) -> Any:
        return raw(*grid, stream, *fixed, *_hooks(kernel, grid, stream), *arguments)

    return start


def _call_3_7(raw: Any, launcher: Any, kernel: Any, programs: int) -> Callable[[list[Any], int], Any]:
    grid, packed = (programs, 1, 1), kernel.packed_metadata
    fixed = kernel.function, launcher.launch_cooperative_grid, launcher.launch_pdl, packed
    last = None, None, launcher.arg_annotations, launcher.kernel_signature

    def start(arguments: list[Any], stream: int) -> Any:
        return raw(*grid, stream, *fixed, *_hooks(kernel, grid, stream), *last, arguments)

    return start


_CALLS = {(3, 6): _call_3_6, (3, 7): _call_3_7}
