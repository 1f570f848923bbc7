"""The keys that a few queries attend to, without a plan: for decoding, where every call has a length of its own.

A pattern that does not speak of n, and selects and rounds nothing, means the same at every length. Its multiplicities
are made once for many lengths, and a call evaluates its rows, cell by cell. Where there are many keys the tiles that
some successive queries touch are found first, by enclosures, and kept for those queries. NumPy only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.meanings import Meanings, trivial
from patternc.analysis.tiles import Counter, Multiplicity, classify, consecutive_area, tile_cells
from patternc.errors import SpatError
from patternc.rewrite import walk

FEW_KEYS = 1 << 14
"""Up to so many keys, all of them are looked at; finding tiles would take as long."""
AT_ONCE = 64
"""Successive queries whose tiles are found together, and keys of such a tile."""
AHEAD, CELLS_AHEAD = 32, 1 << 18
"""Of a single query, up to so many rows and cells are evaluated together: those that come next in decoding."""
KEPT = 256
"""Lists of tiles, and blocks of rows, that are kept: some 64 MiB at most."""
SPARE = 1 << 12
"""Multiplicities are made for lengths up to the next multiple."""


@dataclass(frozen=True, eq=False)
class RowKeys:
    """What some heads want in the rows of a call."""

    heads: tuple[int, ...]
    keys: np.ndarray
    """(K,) int64, ascending: the positions that at least one of the queries attends to."""
    multiplicity: np.ndarray | None
    """(n_q, K) int64: M of the queries and these keys; None if all are 1."""


class Rows:
    """The rows of a program for so many heads, closed but for h and n."""

    def __init__(self, program: ir.Program, heads: int) -> None:
        self._arrangement = trivial(program, heads)
        self.steady = is_steady(program)
        """Whether M(q, k) is the same at every length, as far as can be seen."""
        self._made: Meanings | None = None
        self._known: dict[int, Multiplicity] = {}
        self._tiles = _Kept()
        self._ahead = _Kept()

    def wanted(self, n: int, n_q: int, tensors: Mapping[str, Any]) -> Iterator[tuple[int | None, list[RowKeys]]]:
        """(batch row, what each class of heads wants) for the last n_q of n positions; the batch row is None, and the
        only one, if they do not differ. `tensors` are the run-time tensors as arrays of NumPy, already checked.

        SpatError if the program does not admit the length.
        """
        meanings = self._meanings(n, n_q, tensors)
        batch = meanings.batch
        for b in [None] if batch is None else range(batch):
            yield b, [self._of(meanings, heads, b, n, n_q) for heads in meanings.classes]

    def _meanings(self, n: int, n_q: int, tensors: Mapping[str, Any]) -> Meanings:
        if not self.steady:
            return Meanings(self._arrangement, n=n, n_q=n_q, tensors=tensors, xp=NUMPY)
        if self._made is None or self._made.n < n:
            self._made, self._known = self._for_many(n), {}
        return self._made

    def _for_many(self, n: int) -> Meanings:
        """The multiplicities at n, and at further lengths unless the program's integers overflow there."""
        try:
            return Meanings(self._arrangement, n=-(-n // SPARE) * SPARE, tensors={}, xp=NUMPY)
        except SpatError:
            return Meanings(self._arrangement, n=n, tensors={}, xp=NUMPY)

    def _of(self, meanings: Meanings, heads: tuple[int, ...], b: int | None, n: int, n_q: int) -> RowKeys:
        meaning = self._meaning(meanings, heads[0], b)
        if self.steady and n_q == 1:
            keys, m = self._row(heads[0], meaning, n)
        else:
            keys = self._columns(heads[0], meaning, n, n_q)
            m = _cells(meaning, np.arange(n - n_q, n), keys)
            m = np.broadcast_to(m, (n_q, len(keys)))
        kept = (m > 0).any(axis=0)
        if not kept.all():
            keys, m = keys[kept], m[:, kept]
        return RowKeys(heads, keys, None if (m == 1).all() else m.astype(np.int64))

    def _meaning(self, meanings: Meanings, head: int, b: int | None) -> Multiplicity:
        """That of a head; a steady one is the same in the next call."""
        if meanings is not self._made:
            return meanings.of(head, b)
        if head not in self._known:
            self._known[head] = meanings.of(head, None)
        return self._known[head]

    def _row(self, head: int, meaning: Multiplicity, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys that the last of n positions may want, and their M (1, keys)."""
        ahead = min(AHEAD, 1 << (CELLS_AHEAD // n).bit_length() - 1) if n <= CELLS_AHEAD else 1
        if self._made is not None and self._made.n % ahead:
            ahead = 1  # integers overflow at the length that comes next
        block = (n - 1) // ahead
        end = (block + 1) * ahead
        keys, m = self._ahead.get((head, ahead, block), lambda: self._block(head, meaning, end, ahead))
        row = m[n - 1 - block * ahead, None]
        return (keys, row) if n == end else (keys[keys < n], row[:, keys < n])

    def _block(self, head: int, meaning: Multiplicity, end: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The keys that `count` queries before `end` want, and M, in few bytes."""
        keys = self._columns(head, meaning, end, count)
        m = np.broadcast_to(_cells(meaning, np.arange(end - count, end), keys), (count, len(keys)))
        kept = (m > 0).any(axis=0)
        return keys[kept], m[:, kept].astype(np.uint8 if m.max(initial=0) < 256 else np.int64)

    def _columns(self, head: int, meaning: Multiplicity, n: int, n_q: int) -> np.ndarray:
        """Keys among which are all that the queries want."""
        if n <= FEW_KEYS or not self.steady:
            return np.arange(n)
        blocks = range((n - n_q) // AT_ONCE, (n - 1) // AT_ONCE + 1)
        tiles = np.unique(np.concatenate([self._touched(head, meaning, block, -(-n // AT_ONCE)) for block in blocks]))
        keys = (tiles[:, None] * AT_ONCE + np.arange(AT_ONCE)).reshape(-1)
        return keys[keys < n]

    def _touched(self, head: int, meaning: Multiplicity, block: int, columns: int) -> np.ndarray:
        """The tiles of keys that may hold a cell of a block of queries."""
        area = consecutive_area(block * AT_ONCE, AT_ONCE, columns * AT_ONCE, AT_ONCE, AT_ONCE)

        def found() -> np.ndarray:
            runs = classify(meaning, area, NUMPY, exact=False).by_query
            within = np.arange(int(runs.count.sum())) - np.repeat(np.cumsum(runs.count) - runs.count, runs.count)
            return np.repeat(runs.first, runs.count) + within

        return self._tiles.get((head, block, columns), found)


def _cells(meaning: Multiplicity, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    return tile_cells(meaning, queries[:, None], keys[None, :], NUMPY, Counter())


class _Kept:
    """Values that were made last, by key."""

    def __init__(self) -> None:
        self._values: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def get(self, key: tuple[int, ...], make: Callable[[], Any]) -> Any:
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        if len(self._values) > KEPT:
            self._values.popitem(last=False)
        return self._values[key]


def is_steady(program: ir.Program) -> bool:
    """Whether M(q, k) is the same at every length, as far as can be seen, and at any length there may be."""
    if program.tensors or program.grids:
        return False
    return not any(
        isinstance(node, ir.RELATIONS) or (isinstance(node, ir.Var) and node.name == "n")
        for node in walk(program.pattern)
    )
