"""The kernels that this process has started, for the record."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


def kernels_started() -> dict[str, list[str]]:
    """By name, without the numbers of terms: the constants that were true in one of the forms that ran."""
    found: dict[str, set[str]] = {}
    for module in list(sys.modules.values()):
        if module.__name__.startswith(("patternc_", "patternc.backends.triton")):
            for kernel in _loaded(module):
                function = kernel.src.fn
                named = {function.arg_names[path[0]]: value for path, value in kernel.src.constants.items()}
                name = "".join(c for c in function.fn.__name__ if not c.isdigit())
                found.setdefault(name, set()).update(name for name, value in named.items() if value is True)
    return {name: sorted(constants) for name, constants in sorted(found.items())}


def _loaded(module: ModuleType) -> Iterator[Any]:
    """The module's kernels that are on a device: those that ran, for what is compiled beforehand is needed at once."""
    for function in list(vars(module).values()):
        for of_device in getattr(function, "device_caches", {}).values():
            yield from (kernel for kernel in of_device[0].values() if getattr(kernel, "module", None) is not None)
