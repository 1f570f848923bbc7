"""Run-time tensors as the planner takes them on the CPU: arrays of NumPy, of the shapes that the program declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from patternc import ir
from patternc.draws import extent
from patternc.suggest import guess

_KINDS = {"int": "iu", "bool": "b", "float": "f"}


def as_arrays(tensors: Mapping[str, Any], declared: tuple[ir.Tensor, ...], n: int, heads: int) -> dict[str, np.ndarray]:
    """The arrays by name, all of them. TypeError for a missing or unknown name or a wrong element type, ValueError for
    a wrong shape or different batch sizes."""
    names = [tensor.name for tensor in declared]
    for name in tensors:
        if name not in names:
            told = f"{name!r}{guess(name, names)} (there are: {', '.join(names) or 'none'})"
            raise TypeError(f"there is no run-time tensor {told}")
    missing = [name for name in names if name not in tensors]
    if missing:
        raise TypeError(f"run-time tensors are missing: {', '.join(missing)}")
    arrays = {tensor.name: _array(tensor, tensors[tensor.name], n, heads) for tensor in declared}
    batches = {t.name: arrays[t.name].shape[0] for t in declared if t.batched}
    if len(set(batches.values())) > 1:
        raise ValueError(f"run-time tensors differ in their batch size: {batches}")
    return arrays


def _array(tensor: ir.Tensor, value: Any, n: int, heads: int) -> np.ndarray:
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype.kind not in _KINDS[tensor.element]:
        raise TypeError(f"tensor {tensor.name!r} must hold {tensor.element} values; found {array.dtype}")
    dims = tuple(extent(dim, n, heads) for dim in tensor.dims)
    wanted = (*(["batch"] if tensor.batched else []), *map(str, dims))
    if array.ndim != len(wanted) or array.shape[tensor.batched :] != dims:
        shape = f"({', '.join(wanted)})"
        raise ValueError(f"tensor {tensor.name!r} must have shape {shape}; found {array.shape}")
    return array
