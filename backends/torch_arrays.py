"""The array namespace of the planner for tensors; see analysis/arrays.py, whose methods mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

Array = Any


class TorchArrays:
    """The namespace over tensors of one device."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.chunk = 1 << (18 if self.device.type == "cpu" else 22)

    # -------------------------------------------------------------- making and converting

    def asarray(self, values: Any) -> Array:
        """A tensor of this device; the element type is kept, and reals of Python are float64."""
        if isinstance(values, torch.Tensor):
            return values.to(self.device)
        real = isinstance(values, Sequence) and any(isinstance(v, float) for v in values)
        return torch.as_tensor(values, dtype=torch.float64 if real else None, device=self.device)

    def integer(self, a: Array) -> Array:
        return a.to(torch.int64)

    def small(self, a: Array) -> Array:
        return a.to(torch.int32)

    def real(self, a: Array) -> Array:
        return a.to(torch.float64)

    def is_real(self, a: Array) -> bool:
        return a.dtype.is_floating_point

    def is_truth(self, a: Array) -> bool:
        return a.dtype == torch.bool

    def arange(self, start: int, stop: int) -> Array:
        return torch.arange(start, max(start, stop), device=self.device)

    def full(self, shape: tuple[int, ...], value: float | bool) -> Array:
        return torch.full(shape, value, dtype=_dtype_of(value), device=self.device)

    # -------------------------------------------------------------- element by element

    def quiet(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def where(self, condition: Array, a: Array | float, b: Array | float) -> Array:
        return torch.where(condition, self._as_array(a), self._as_array(b))

    def minimum(self, a: Array, b: Array | float) -> Array:
        return torch.minimum(a, self._as_array(b))

    def maximum(self, a: Array, b: Array | float) -> Array:
        return torch.maximum(a, self._as_array(b))

    def _as_array(self, a: Array | float) -> Array:
        """A plain number as a tensor without axes: int64, float64 or bool. Filled on the device, for a copy waits."""
        return a if isinstance(a, torch.Tensor) else torch.full((), a, dtype=_dtype_of(a), device=self.device)

    def exp(self, a: Array) -> Array:
        return torch.exp(a)

    # -------------------------------------------------------------- reductions

    def any(self, a: Array) -> bool:
        return bool(a.any())

    def min(self, a: Array, axes: tuple[int, ...]) -> Array:
        return a.amin(dim=axes)

    def max(self, a: Array, axes: tuple[int, ...]) -> Array:
        return a.amax(dim=axes)

    def sum(self, a: Array, axes: tuple[int, ...]) -> Array:
        return a.sum(dim=axes)

    def broadcast_to(self, a: Array, shape: tuple[int, ...]) -> Array:
        return a.broadcast_to(shape)

    # -------------------------------------------------------------- plain numbers

    def plain(self, a: Array) -> Any:
        return a.item()

    def bounds(self, low: Array, high: Array) -> tuple[Any, Any]:
        return low.item(), high.item()

    def largest(self, a: Array | int, bound: int) -> int:
        return a if isinstance(a, int) else int(a.max())

    # -------------------------------------------------------------- lists

    def concatenate(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        return torch.cat(list(arrays), dim=axis)

    def repeat(self, a: Array, counts: Array) -> Array:
        return torch.repeat_interleave(a, counts)

    def cumsum(self, a: Array) -> Array:
        return a.cumsum(dim=-1)

    def searchsorted(self, ascending: Array, values: Array, *, right: bool = False) -> Array:
        return torch.searchsorted(ascending, values.contiguous(), right=right)

    def argsort(self, a: Array) -> Array:
        return torch.argsort(a, stable=True)

    def flatnonzero(self, mask: Array) -> Array:
        return mask.reshape(-1).nonzero().reshape(-1)


def _dtype_of(value: float | bool) -> torch.dtype:
    if isinstance(value, bool):
        return torch.bool
    return torch.int64 if isinstance(value, int) else torch.float64
