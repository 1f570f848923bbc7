"""The array namespace `xp` of the planner, for NumPy; `backends/torch_arrays.py` has the same methods for tensors.

Arrays are int64, float64 or bool unless a method says otherwise. Beside these methods the planner uses what arrays of
both libraries have: `+ - * // % ** ^ & | ~ >> <<`, comparisons, indexing (also by arrays and by None), `.shape`,
`.reshape`, `.tolist()` and `.item()`. A Python number may stand for one of the operands of a binary method.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

Array = Any


class NumpyArrays:
    """The namespace over NumPy arrays."""

    chunk = 1 << 16
    """How many cells are evaluated at once: a bound on memory, and a fit to the cache of a CPU core."""

    # -------------------------------------------------------------- making and converting

    def asarray(self, values: Any) -> Array:
        """An array or sequence of numbers as an array of this namespace; the element type is kept."""
        return np.asarray(values)

    def integer(self, a: Array) -> Array:
        """As int64."""
        return a.astype(np.int64, copy=False)

    def small(self, a: Array) -> Array:
        """As int32, in which the values fit."""
        return a.astype(np.int32, copy=False)

    def real(self, a: Array) -> Array:
        """As float64."""
        return a.astype(np.float64, copy=False)

    def is_real(self, a: Array) -> bool:
        """Whether the element type is a floating-point type."""
        return a.dtype.kind == "f"

    def is_truth(self, a: Array) -> bool:
        """Whether the element type is bool."""
        return a.dtype.kind == "b"

    def arange(self, start: int, stop: int) -> Array:
        return np.arange(start, stop, dtype=np.int64)

    def full(self, shape: tuple[int, ...], value: float | bool) -> Array:
        """`value` everywhere; its type is the element type."""
        return np.full(shape, value)

    # -------------------------------------------------------------- element by element

    def quiet(self) -> AbstractContextManager[Any]:
        """A context in which arithmetic on NaN and infinity gives no warnings."""
        return np.errstate(all="ignore")

    def where(self, condition: Array, a: Array | float, b: Array | float) -> Array:
        """`a` or `b`; a plain integer is int64, a plain real float64."""
        return np.where(condition, a, b)

    def minimum(self, a: Array, b: Array | float) -> Array:
        """The smaller one; NaN if either is."""
        return np.minimum(a, b)

    def maximum(self, a: Array, b: Array | float) -> Array:
        """The larger one; NaN if either is."""
        return np.maximum(a, b)

    def exp(self, a: Array) -> Array:
        return np.exp(a)

    # -------------------------------------------------------------- reductions

    def any(self, a: Array) -> bool:
        return bool(a.any())

    def min(self, a: Array, axes: tuple[int, ...]) -> Array:
        return a.min(axis=axes)

    def max(self, a: Array, axes: tuple[int, ...]) -> Array:
        return a.max(axis=axes)

    def sum(self, a: Array, axes: tuple[int, ...]) -> Array:
        """The sums as int64 (or float64) of integers, truth values (or reals)."""
        return a.sum(axis=axes)

    def broadcast_to(self, a: Array, shape: tuple[int, ...]) -> Array:
        return np.broadcast_to(a, shape)

    # -------------------------------------------------------------- plain numbers

    def plain(self, a: Array) -> Any:
        """The element of an array without axes as a plain number; or an array (1,), where nothing may wait for it."""
        return a.item()

    def bounds(self, low: Array, high: Array) -> tuple[Any, Any]:
        """Two arrays of one element as plain numbers; or what their type can hold, where nothing may wait for them."""
        return low.item(), high.item()

    def largest(self, a: Array | int, bound: int) -> int:
        """The largest element as a plain integer; or `bound`, which is no less, where nothing may wait for it."""
        return a if isinstance(a, int) else int(a.max())

    # -------------------------------------------------------------- lists

    def concatenate(self, arrays: Sequence[Array], axis: int = 0) -> Array:
        """One after the other along an axis."""
        return np.concatenate(arrays, axis=axis)

    def repeat(self, a: Array, counts: Array) -> Array:
        """Element i of `a` repeated counts[i] times."""
        return np.repeat(a, counts)

    def cumsum(self, a: Array) -> Array:
        """Running sums along the last axis, added one after the other."""
        return np.cumsum(a, axis=-1)

    def searchsorted(self, ascending: Array, values: Array, *, right: bool = False) -> Array:
        """How many elements of `ascending` are less than (or, `right`, at most) each value."""
        return np.searchsorted(ascending, values, side="right" if right else "left")

    def argsort(self, a: Array) -> Array:
        """The indices that sort, ascending and stable."""
        return np.argsort(a, kind="stable")

    def flatnonzero(self, mask: Array) -> Array:
        """The positions of True in the flattened mask."""
        return np.flatnonzero(mask)


NUMPY = NumpyArrays()
