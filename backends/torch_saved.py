"""What generated pattern functions are built from. Saved modules carry this file.

A generated function `pattern(n, first, h, tables, xp)` computes what a length needs (covers, selections, the sizes of
blocks) and returns M as a function of numbers for query and key (analysis/numbers.py); `first` is the first query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch

from patternc.analysis.numbers import Cells, Table, as_int, maximum, quantified_range
from patternc.backends.inputs import Declared
from patternc.backends.torch_arrays import TorchArrays

CellFunction = Callable[[Any, Any], Any]
PatternFunction = Callable[[int, int, int, Mapping[str, Table], TorchArrays], CellFunction]


@dataclass(frozen=True)
class HeadClass:
    """Heads of equal multiplicities; `tensors` are the run-time tensors that these depend on."""

    heads: tuple[int, ...]
    pattern: PatternFunction
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class SavedPattern:
    """A generated pattern as what a `Runner` runs."""

    heads: int
    bag: bool
    head_classes: tuple[HeadClass, ...]
    tensors: Callable[[int], list[Declared]]
    """The run-time tensors at a length."""
    grids: Callable[[int], list[tuple[int, ...]]]
    """The extents of the grids of which n must be the number of cells."""

    @property
    def reads_tensors(self) -> bool:
        return bool(self.tensors(1))

    def declared(self, n: int) -> list[Declared]:
        for extents in self.grids(n):
            cells = reduce(lambda a, b: a * b, extents, 1)
            if cells != n:
                shape = " * ".join(map(str, extents))
                raise ValueError(f"n = {n} tokens do not fill the grid of {shape} = {cells}")
        return self.tensors(n)

    def meanings(self, n: int, n_q: int, tensors: Mapping[str, torch.Tensor], xp: TorchArrays) -> SavedMeanings:
        batched = {d.name for d in self.tensors(n) if d.batched}
        return SavedMeanings(self.head_classes, n, n - n_q, tensors, batched, xp)


class SavedMeanings:
    """The multiplicities of a generated pattern at one length."""

    def __init__(
        self,
        head_classes: tuple[HeadClass, ...],
        n: int,
        first: int,
        tensors: Mapping[str, torch.Tensor],
        batched: set[str],
        xp: TorchArrays,
    ) -> None:
        self.classes = [c.heads for c in head_classes]
        self._class = {h: c for c in head_classes for h in c.heads}
        self._n, self._first, self._tensors, self._batched, self._xp = n, first, tensors, batched, xp
        self._made: dict[tuple[int, int | None], CellFunction] = {}

    def rows_of(self, h: int) -> int | None:
        """The number of batch rows, if the head's multiplicities depend on them."""
        names = [name for name in self._class[h].tensors if name in self._batched]
        return self._tensors[names[0]].shape[0] if names else None

    def of(self, h: int, b: int | None = None) -> CellFunction:
        """M of a head and batch row."""
        own = self._class[h]
        key = (own.heads[0], b if self.rows_of(h) is not None else None)
        if key not in self._made:
            tables = {name: Table(self._xp, self._array(name, key[1])) for name in own.tensors}
            self._made[key] = own.pattern(self._n, self._first, own.heads[0], tables, self._xp)
        return self._made[key]

    def _array(self, name: str, b: int | None) -> torch.Tensor:
        array = self._xp.asarray(self._tensors[name])
        return array[b] if name in self._batched else array


# ------------------------------------------------------------------ words of generated functions


def block_size(size: Any) -> int:
    """The size of a block; ValueError below 1."""
    value = as_int(size)
    if value < 1:
        raise ValueError(f"a block must be at least 1 long, found {value}")
    return value


def selection_count(count: Any) -> int | float:
    """How many keys to select, or which share in (0, 1]; ValueError for anything else."""
    value = count.value if isinstance(count, Cells) and count.ok is True else count
    if isinstance(value, float) and 0 < value <= 1:
        return value
    if as_int(value) < 0:
        raise ValueError(f"a count must be 0 or more, found {value}")
    return as_int(value)


def holds(condition: Any) -> bool:
    """The value of a condition that is the same in every cell; ValueError if it has none."""
    value = condition.value if isinstance(condition, Cells) and condition.ok is True else condition
    if not isinstance(value, bool):
        raise ValueError(f"expected a condition that is the same in every cell, found {value!r}")
    return value


def united(lo: Any, hi: Any, arm: Callable[[int], CellFunction]) -> CellFunction:
    """The union of the sets `arm(i)` for lo <= i < hi."""
    arms = [arm(i) for i in quantified_range(lo, hi)]
    return lambda q, k: reduce(maximum, (cells(q, k) for cells in arms), 0)


def summed(lo: Any, hi: Any, arm: Callable[[int], CellFunction]) -> CellFunction:
    """The sum of the bags `arm(i)` for lo <= i < hi."""
    arms = [arm(i) for i in quantified_range(lo, hi)]
    return lambda q, k: reduce(lambda a, b: a + b, (cells(q, k) for cells in arms), 0)
