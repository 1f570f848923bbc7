"""What generated pattern functions are built from. Saved modules carry this file.

A generated function `pattern(n, first, h, tables, xp)` computes what a length needs (covers, selections, the sizes of
blocks) and returns M as a function of numbers for query and key (analysis/numbers.py); `first` is the first query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch

from patternc.analysis.numbers import Cells, as_int, maximum, quantified_range
from patternc.analysis.relation import Relation
from patternc.analysis.tables import Table, as_table
from patternc.analysis.tiles import Counter, tile_cells
from patternc.backends.inputs import Declared
from patternc.backends.torch_arrays import TorchArrays
from patternc.plan import Layout

CellFunction = Callable[[Any, Any], Any]
PatternFunction = Callable[[int, int, int, Mapping[str, Table], TorchArrays], CellFunction]


@dataclass(frozen=True)
class SavedTerm:
    """A term: its multiplicity and its layouts, and the sets of queries and of keys that listed layouts hold."""

    pattern: PatternFunction
    queries: Layout
    keys: Layout
    listed_queries: PatternFunction | None = None
    listed_keys: PatternFunction | None = None


@dataclass(frozen=True)
class HeadClass:
    """Heads of equal multiplicities; `tensors` are the run-time tensors that these depend on."""

    heads: tuple[int, ...]
    pattern: PatternFunction
    """Of which the terms are parts."""
    terms: tuple[SavedTerm, ...]
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class SavedPattern:
    """A generated pattern as what a `Runner` runs."""

    heads: int
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
        return SavedMeanings(self, n, n_q, tensors, batched, xp)

    def whole(self) -> SavedPattern:
        classes = tuple(replace(c, terms=(SavedTerm(c.pattern, Layout(), Layout()),)) for c in self.head_classes)
        return self if classes == self.head_classes else replace(self, head_classes=classes)


class SavedMeanings:
    """The multiplicities of a generated pattern at one length; what tiles are made from."""

    exact = True
    """All run-time tensors are there."""

    def __init__(
        self,
        pattern: SavedPattern,
        n: int,
        n_q: int,
        tensors: Mapping[str, torch.Tensor],
        batched: set[str],
        xp: TorchArrays,
    ) -> None:
        self.heads, self.n, self.n_q, self.xp, self.counter = pattern.heads, n, n_q, xp, Counter()
        self.classes = [c.heads for c in pattern.head_classes]
        self._class = {h: c for c in pattern.head_classes for h in c.heads}
        self._tensors, self._batched = tensors, batched
        self._made: dict[tuple[int, int | None, PatternFunction], CellFunction] = {}
        self._positions: dict[tuple[int, int | None, PatternFunction], torch.Tensor] = {}

    def rows_of(self, h: int) -> int | None:
        """The number of batch rows, if the head's multiplicities depend on them."""
        names = [name for name in self._class[h].tensors if name in self._batched]
        return self._tensors[names[0]].shape[0] if names else None

    def terms(self, h: int) -> tuple[tuple[Layout, Layout], ...]:
        """The layouts of queries and of keys of the head's terms."""
        return tuple((term.queries, term.keys) for term in self._class[h].terms)

    def of(self, h: int, b: int | None = None) -> CellFunction:
        """M of a head in a batch row."""
        return self._cells(h, b, self._class[h].pattern)

    def term(self, h: int, b: int | None, i: int) -> CellFunction:
        """M of a term of a head in a batch row."""
        return self._cells(h, b, self._class[h].terms[i].pattern)

    def listed(self, h: int, b: int | None, i: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The ascending positions of the queries and keys of term i that listed layouts hold."""
        term = self._class[h].terms[i]
        return self._listed(h, b, term.listed_queries, "q"), self._listed(h, b, term.listed_keys, "k")

    def _listed(self, h: int, b: int | None, wanted: PatternFunction | None, side: str) -> torch.Tensor | None:
        if wanted is None:
            return None
        key = self._key(h, b, wanted)
        if key not in self._positions:
            start = self.n - self.n_q if side == "q" else 0
            here = self.xp.arange(start, self.n)
            other = self.xp.full(here.shape, 0 if side == "q" else self.n - 1)
            q, k = (here, other) if side == "q" else (other, here)
            held = tile_cells(self._cells(h, b, wanted), q, k, self.xp, self.counter)
            self._positions[key] = self.xp.flatnonzero(self.xp.broadcast_to(held, here.shape) > 0) + start
        return self._positions[key]

    def _key(self, h: int, b: int | None, function: PatternFunction) -> tuple[int, int | None, PatternFunction]:
        return self._class[h].heads[0], b if self.rows_of(h) is not None else None, function

    def _cells(self, h: int, b: int | None, function: PatternFunction) -> CellFunction:
        key = self._key(h, b, function)
        if key not in self._made:
            tables = {name: as_table(self.xp, self._array(name, key[1])) for name in self._class[h].tensors}
            self._made[key] = function(self.n, self.n - self.n_q, key[0], tables, self.xp)
        return self._made[key]

    def _array(self, name: str, b: int | None) -> torch.Tensor:
        array = self.xp.asarray(self._tensors[name])
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


def leaving(cells: CellFunction, *relations: Relation) -> CellFunction:
    """The function, with the covers and selections that it asks for cells as `relations`."""
    cells.relations = relations  # type: ignore[attr-defined] # functions take attributes
    return cells


def united(lo: Any, hi: Any, arm: Callable[[int], CellFunction]) -> CellFunction:
    """The union of the sets `arm(i)` for lo <= i < hi."""
    arms = [arm(i) for i in quantified_range(lo, hi)]
    return lambda q, k: reduce(maximum, (cells(q, k) for cells in arms), 0)


def summed(lo: Any, hi: Any, arm: Callable[[int], CellFunction]) -> CellFunction:
    """The sum of the bags `arm(i)` for lo <= i < hi."""
    arms = [arm(i) for i in quantified_range(lo, hi)]
    return lambda q, k: reduce(lambda a, b: a + b, (cells(q, k) for cells in arms), 0)
