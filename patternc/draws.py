"""Random run-time tensors of the kind that patterns are given: document ids, flags, scores."""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING

from patternc import ir
from patternc.specialise import specialise

if TYPE_CHECKING:
    import numpy as np

SIZE_LIMIT = 2**28
"""Numbers in one drawn tensor, at most."""
_DOCUMENTS, _FLAGS = 8, 4
"""How many there are along an axis, in the mean."""


def draw(tensors: Iterable[ir.Tensor], n: int, *, heads: int, batch: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    """One array for each tensor, shape `(batch, *dims)` or `dims`; the same for the same arguments.

    Integers of rank 1 or more are ids that rise along the last axis from 0 (packed documents); a single integer is a
    length of 0 to n. Flags are sparse, with at least one in a row. Floats are normal, in float32. A tensor draws the
    same values whatever other tensors there are. Raises ValueError for a tensor of more than 2²⁸ numbers or of a
    negative extent.
    """
    import numpy as np  # not needed by the commands that draw nothing

    return {
        tensor.name: _draw_one(tensor, _shape(tensor, n, heads, batch), n, _generator(np, seed, tensor.name))
        for tensor in tensors
    }


def _generator(np: ModuleType, seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])


def _shape(tensor: ir.Tensor, n: int, heads: int, batch: int) -> tuple[int, ...]:
    dims = tuple(extent(dim, n, heads) for dim in tensor.dims)
    shape = (batch, *dims) if tensor.batched else dims
    if min(shape, default=0) < 0:
        raise ValueError(f"{tensor.name} has shape {shape} at n = {n}, with a negative extent")
    if math.prod(shape) > SIZE_LIMIT:
        raise ValueError(f"{tensor.name} has shape {shape} at n = {n}: too large to be drawn")
    return shape


def extent(dim: ir.Scalar, n: int, heads: int) -> int:
    """The value of a tensor's dimension at a length."""
    value = specialise(dim, {"n": n, "heads": heads})
    assert isinstance(value, ir.Const), "a dimension hangs on n and heads alone"
    return int(value.value)


def _draw_one(tensor: ir.Tensor, shape: tuple[int, ...], n: int, random: np.random.Generator) -> np.ndarray:
    match tensor.element:
        case "float":
            return random.standard_normal(shape, dtype="float32")
        case "int" if tensor.dims:
            return _steps(shape, _DOCUMENTS, random).cumsum(axis=-1)
        case "int":
            return random.integers(0, n + 1, shape)
    flags = _steps(shape, _FLAGS, random).astype(bool)
    if flags.ndim and flags.size:
        flags[..., random.integers(shape[-1])] = True
    return flags


def _steps(shape: tuple[int, ...], number: int, random: np.random.Generator) -> np.ndarray:
    """0 or 1 in int64, about so many ones along the last axis, at most a half."""
    length = shape[-1] if shape else 1
    return (random.random(shape) < number / max(length, 2 * number)).astype("int64")
