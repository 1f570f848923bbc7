"""Covers and selections that are computed where somebody looks: for pictures, which look at few cells of long axes, and
for plans without run-time tensors, which look at none.

They answer as a `Relation` does, at a cost that grows with the cells and rows asked for. NumPy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from patternc.analysis.boxes import bounds
from patternc.analysis.enclosures import interval
from patternc.analysis.relation import draw
from patternc.analysis.tiles import Counter, Multiplicity, tile_cells

AT_ONCE = 1 << 20
"""Cells evaluated at once: a bound on memory."""

Box = tuple[np.ndarray, np.ndarray]
"""The first and last positions of boxes along one axis."""


class Sight:
    """A pattern of a space of n positions, as cells and as boxes."""

    def __init__(self, multiplicity: Multiplicity, n: int, xp: Any) -> None:
        self.multiplicity, self.n, self.xp = multiplicity, n, xp

    def cells(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Whether cells are kept; the arrays have equally many axes and broadcast."""
        kept = tile_cells(self.multiplicity, q, k, self.xp, Counter()) > 0
        return np.broadcast_to(kept, np.broadcast_shapes(q.shape, k.shape))

    def boxes(self, q: Box, k: Box) -> tuple[np.ndarray, np.ndarray]:
        """Whether a cell may be kept in each box, and whether all surely are."""
        shape = np.broadcast_shapes(*(np.shape(end) for end in (*q, *k)))
        ends = [[np.broadcast_to(end, shape) for end in side] for side in (q, k)]
        sides = (interval(self.xp, first, last, 0, self.n - 1) for first, last in ends)
        with self.xp.quiet():
            low, high = bounds(self.multiplicity(*sides))
        return np.broadcast_to(high, shape) > 0, np.broadcast_to(low, shape) > 0


class LazyCover:
    """The cells whose size×size block, clipped to the n×n cells, holds a cell of a pattern."""

    empty = False
    """It is not known to hold no cell."""

    def __init__(self, body: Sight, size: int) -> None:
        self.body, self.size, self.xp = body, size, body.xp

    def contains(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Whether it holds the cells, given as arrays that broadcast."""
        blocks = -(-self.body.n // self.size)
        wanted, place = np.unique(q // self.size * blocks + k // self.size, return_inverse=True)
        return self._any(wanted // blocks * self.size, wanted % blocks * self.size)[place].reshape(
            np.broadcast_shapes(q.shape, k.shape)
        )

    def overlaps(self, q: Box, k: Box) -> tuple[np.ndarray, np.ndarray]:
        """For boxes: whether a cell may be in it, and whether one may be missing."""
        _, every = self.body.boxes(q, k)
        some, _ = self.body.boxes(*(self._rounded(side) for side in (q, k)))
        return some, ~every

    def _rounded(self, side: Box) -> Box:
        first, last = side
        return first // self.size * self.size, np.minimum(last // self.size * self.size + self.size, self.body.n) - 1

    def _any(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Whether each block, given by its first cell, holds a cell: by quartering those in doubt."""
        found = np.zeros(len(q), bool)
        owner, side = np.arange(len(q)), 1 << (self.size - 1).bit_length()
        left, top = k, q
        end_q, end_k = (np.minimum(a + self.size, self.body.n) for a in (q, k))
        while len(owner):
            last_q, last_k = (np.minimum(a + side, end[owner]) - 1 for a, end in ((top, end_q), (left, end_k)))
            some, every = self._in_turns((top, last_q), (left, last_k))
            found[owner[every]] = True
            open_ = some & ~every & ~found[owner]
            if side == 1:  # an enclosure of one cell may still be in doubt
                at = np.flatnonzero(open_)
                found[owner[at]] |= self.body.cells(top[at], left[at])
                break
            side //= 2
            owner, top, left = (np.repeat(a[open_], 4) for a in (owner, top, left))
            top = top + np.tile([0, 0, side, side], len(owner) // 4)
            left = left + np.tile([0, side, 0, side], len(owner) // 4)
            inside = (top < end_q[owner]) & (left < end_k[owner])
            owner, top, left = owner[inside], top[inside], left[inside]
        return found

    def _in_turns(self, q: Box, k: Box) -> tuple[np.ndarray, np.ndarray]:
        step = AT_ONCE // 16
        turns = [slice(i, i + step) for i in range(0, len(q[0]), step)]
        parts = [self.body.boxes((q[0][t], q[1][t]), (k[0][t], k[1][t])) for t in turns]
        some, every = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        return some, every


class LazySample:
    """Of each row of a pattern, the `count` keys with the largest hash of (seed, h, query, key)."""

    empty = False
    """It is not known to hold no cell."""

    def __init__(self, of: Sight, count: int, seed: int, h: int) -> None:
        self.of, self.count, self.seed, self.h, self.xp = of, count, seed, h, of.xp
        self._least: dict[int, float] = {}
        """The least hash that is chosen in a row; beyond all hashes where none is."""

    def contains(self, q: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Whether it holds the cells, given as arrays that broadcast."""
        rows, place = np.unique(q, return_inverse=True)
        missing = np.array([row for row in rows.tolist() if row not in self._least], dtype=np.int64)
        step = max(1, AT_ONCE // self.of.n)
        for i in range(0, len(missing), step):
            self._choose(missing[i : i + step])
        least = np.array([self._least[row] for row in rows.tolist()])[place].reshape(q.shape)
        return self.of.cells(q, k) & (draw(self.seed, self.h, q, k) >= least)

    def overlaps(self, q: Box, k: Box) -> tuple[np.ndarray, np.ndarray]:
        """For boxes: whether a cell may be in it, and whether one may be missing."""
        some, _ = self.of.boxes(q, k)
        return some & (self.count > 0), np.ones_like(some)

    def _choose(self, rows: np.ndarray) -> None:
        """Hashes of 32 bits of one row are distinct: `draw` is a bijection of the key."""
        q, k = rows[:, None], np.arange(self.of.n)[None, :]
        hashes = np.where(self.of.cells(q, k), draw(self.seed, self.h, q, k), -1)
        if self.count >= self.of.n:
            least = np.zeros(len(rows))
        elif self.count == 0:
            least = np.full(len(rows), np.inf)
        else:
            least = np.maximum(np.partition(hashes, self.of.n - self.count, axis=1)[:, self.of.n - self.count], 0)
        self._least.update(zip(rows.tolist(), least.tolist(), strict=True))


class LazyTop:
    """What is known of a selection by score when no score is: it is part of the pattern it chooses from."""

    empty = False
    """It is not known to hold no cell."""

    def __init__(self, of: Sight) -> None:
        self.of, self.xp = of, of.xp

    def overlaps(self, q: Box, k: Box) -> tuple[np.ndarray, np.ndarray]:
        """For boxes: whether a cell may be in it, and whether one may be missing."""
        some, _ = self.of.boxes(q, k)
        return some, np.ones_like(some)
