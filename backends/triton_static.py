"""The array namespace of what is found once for a length, whatever its run-time tensors hold: tensors on the CPU."""

from __future__ import annotations

from typing import Any

from patternc.analysis.fixed import UnknownTable
from patternc.backends.torch_arrays import TorchArrays


class StaticArrays(TorchArrays):
    """The namespace over tensors on the CPU, which lets unknown tensors pass."""

    def asarray(self, values: Any) -> Any:
        return values if isinstance(values, UnknownTable) else super().asarray(values)


STATIC = StaticArrays("cpu")
