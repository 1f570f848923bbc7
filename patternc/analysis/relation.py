"""Relations: sets of cells that no formula describes, because they were selected or rounded.

A relation is computed once, before the pattern around it is asked for cells or boxes, and then answers both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from patternc.analysis.elementwise import Array, Plain, both, ceil_log2
from patternc.analysis.numbers import Cells
from patternc.analysis.sieve import Apart, touched_tiles
from patternc.analysis.strips import Strips, merged, spread_out
from patternc.analysis.tiles import (
    Area,
    Counter,
    Multiplicity,
    consecutive_area,
    strips_of,
    tile_cells,
    tile_positions,
)
from patternc.plan import PARTIAL

DENSE_CELLS = 1 << 22
"""Relations of up to this many cells answer for cells from a bitmap."""
SELECTED_AT_ONCE = 1 << 20
"""Cells from whose scores is chosen at once: a bound on memory, as long as one row has no more."""
MASK32 = 0xFFFFFFFF


class Relation:
    """Cells of an index space: in each row, disjoint runs of columns. A row stands for `size` queries and a column for
    `size` keys of the space. Rows below `first` are not known, and must not be asked for.

    Runs lie on one line: column c of row r at (r - first) · stride + c, with stride above every run's end. Level l
    holds the union and the intersection of the runs in every aligned group of 2^l rows; two groups hold any box.
    """

    def __init__(self, xp: Any, strips: Strips, first: int, rows: int, columns: int, size: int = 1) -> None:
        self.xp, self.first, self.rows, self.stride, self.size = xp, first, rows, columns + 1, size
        starts = strips.row * self.stride + strips.first
        runs = (starts, starts + strips.count)
        self._levels = [(runs, runs)]
        self._bitmap: Array | None = None

    @property
    def empty(self) -> bool:
        """Whether it holds no cell."""
        return not self._levels[0][0][0].shape[0]

    # -------------------------------------------------------------- cells

    def contains(self, q: Array, k: Array) -> Array:
        """Whether it holds the cells, given as arrays that broadcast."""
        if self.size > 1:
            q, k = q // self.size, k // self.size
        at = (q - self.first) * self.stride + k
        return (
            self._dense()[at] if self.rows * self.stride <= DENSE_CELLS else self._reaches(self._levels[0][0], at, at)
        )

    def _dense(self) -> Array:
        if self._bitmap is None:
            starts, ends = self._levels[0][0]
            steps = self.xp.full((self.rows * self.stride,), 0)
            steps[starts], steps[ends] = 1, -1
            self._bitmap = self.xp.cumsum(steps) > 0
        return self._bitmap

    def _reaches(self, runs: tuple[Array, Array], left: Array, right: Array) -> Array:
        """Whether the last run that starts at or before `left` ends after `right`."""
        starts, ends = runs
        if not starts.shape[0]:
            return (left < 0) & (right < 0)
        run = self.xp.searchsorted(starts, left, right=True)
        return (run > 0) & (ends[self.xp.maximum(run - 1, 0)] > right)

    # -------------------------------------------------------------- boxes

    def overlaps(self, q: tuple[Array, Array], k: tuple[Array, Array]) -> tuple[Array, Array]:
        """For boxes q[0] .. q[1], k[0] .. k[1]: whether a cell may be in it, and whether one may be missing."""
        top, bottom = (end // self.size - self.first for end in q)
        left, right = (end // self.size for end in k)
        number = ceil_log2(None, self.xp.largest(bottom - top, self.rows) + 1)
        union, intersection = self._level(number)
        some: Any = False
        every: Any = True
        for row in (top, bottom):
            start = (row >> number) * self.stride
            some = some | self._reaches(union, start + right, start + left)
            every = every & self._reaches(intersection, start + left, start + right)
        return some, ~every

    def _level(self, number: int) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        while len(self._levels) <= number:
            below = len(self._levels) - 1
            groups = -(-self.rows >> below)
            union, intersection = self._levels[below]
            alone = (groups - 1) // 2 if groups % 2 else -1
            self._levels.append((self._paired(union, alone, 1), self._paired(intersection, alone, 2)))
        return self._levels[number]

    def _paired(self, runs: tuple[Array, Array], alone: int, need: int) -> tuple[Array, Array]:
        """The runs of pairs of rows: what at least `need` of the two hold. Pair `alone` has one row only."""
        xp, stride = self.xp, self.stride
        starts, ends = (a // stride // 2 * stride + a % stride for a in runs)
        at = xp.concatenate([starts, ends])
        step = xp.concatenate([xp.full(starts.shape, 1), xp.full(ends.shape, -1)])
        order = xp.argsort(at)
        at, depth = at[order], xp.cumsum(step[order])
        last = xp.flatnonzero(xp.concatenate([at[1:] != at[:-1], xp.full((min(at.shape[0], 1),), True)]))
        at, depth = at[last], depth[last]
        inside = depth >= xp.where(at // stride == alone, 1, need)
        before = xp.concatenate([xp.full((min(at.shape[0], 1),), False), inside[:-1]])
        return at[xp.flatnonzero(inside & ~before)], at[xp.flatnonzero(~inside & before)]


# ------------------------------------------------------------------ rounding


def cover_relation(
    body: Multiplicity,
    apart: Apart | None = None,
    *,
    size: int,
    first: int,
    n: int,
    xp: Any,
    counter: Counter | None = None,
) -> Relation:
    """The cells of a space of n positions whose size×size block holds a cell of `body`, for queries from `first` on;
    `apart` is the body as an intersection, which takes less time.

    They are asked for all queries of the blocks that hold queries from `first` on."""
    size = min(size, n)
    row = first // size
    blocks = -(-n // size)
    area = consecutive_area(row * size, n - row * size, n, size, size)
    strips = touched_tiles(body, area, xp, counter or Counter(), apart)
    return Relation(xp, strips, row, blocks - row, blocks, size)


# ------------------------------------------------------------------ selection


def top_relation(
    of: Multiplicity, by: Multiplicity, *, count: float, first: int, n: int, xp: Any, counter: Counter | None = None
) -> Relation:
    """Of each row of `of` from `first` on, the keys with the largest `by`: so many, if `count` is an int, else the
    shortest prefix with that share of the row's softmax mass. Keys whose score is NaN or invalid are never chosen."""
    counter = counter or Counter()
    area = consecutive_area(first, n - first, n, max(1, min(64, SELECTED_AT_ONCE // n)), 64)
    chosen = []
    for row, column, partial in _kept_tiles(of, area, xp, counter):
        score, candidate = _scored(of, by, area, row, column, partial, xp, counter)
        if isinstance(count, int) and count > 0:
            candidate = candidate & _may_be_chosen(row, score, candidate, count, xp)
        best = _best(*_listed(area, row, column, score, candidate, xp), count, xp)
        chosen.append(_points(*best, xp))
    return Relation(xp, merged(chosen, xp), first, n - first, n)


def sample_relation(
    of: Multiplicity, *, count: int, seed: int, h: int, first: int, n: int, xp: Any, counter: Counter | None = None
) -> Relation:
    """Of each row of `of` from `first` on, the `count` keys with the largest hash of (seed, h, query, key)."""

    def by(q: Cells, k: Cells) -> Cells:
        return Cells(xp.real(draw(seed, h, q.value, k.value)), True, xp)

    return top_relation(of, by, count=count, first=first, n=n, xp=xp, counter=counter)


def draw(seed: int, h: int, q: Any, k: Any) -> Any:
    """The 32-bit hash of language.md, of non-negative 64-bit integers, plain or arrays that broadcast."""
    x = _mix((seed + 0x9E3779B9) & MASK32)
    for c in (h, q, k):
        x = _mix(x ^ c)
    return x


def _mix(x: Any) -> Any:
    """A bijection of 32-bit integers; only the low 32 bits of products count, so 64 bits may overflow."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & MASK32
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & MASK32
    return x ^ (x >> 16)


def _kept_tiles(of: Multiplicity, area: Area, xp: Any, counter: Counter) -> Iterator[tuple[Array, Array, Array]]:
    """Row and column of tiles with cells, and whether they are partial; some whole rows of tiles at a time."""
    strips, _ = strips_of(of, area, xp, counter)
    strip, offset = spread_out(strips.count, xp)
    row, column, partial = strips.row[strip], strips.first[strip] + offset, strips.kind[strip] == PARTIAL
    ends = xp.searchsorted(row, xp.arange(0, area.rows), right=True).tolist()
    most = max(1, SELECTED_AT_ONCE // (area.tile_q * area.tile_k))
    start = 0
    for this, following in zip(ends, [*ends[1:], None], strict=True):
        if this > start and (following is None or following - start > most):
            yield row[start:this], column[start:this], partial[start:this]
            start = this


def _scored(
    of: Multiplicity, by: Multiplicity, area: Area, row: Array, column: Array, partial: Array, xp: Any, counter: Counter
) -> tuple[Array, Array]:
    """The scores (tiles, tile_q, tile_k) of the cells of tiles, and whether they are candidates."""
    q, k = tile_positions(area, row, column, xp)
    shape = (row.shape[0], area.tile_q, area.tile_k)
    candidate = (row[:, None, None] * area.tile_q + xp.arange(0, area.tile_q)[:, None] < area.n_q) & (
        column[:, None, None] * area.tile_k + xp.arange(0, area.tile_k) < area.n
    )
    some = xp.flatnonzero(partial)
    if some.shape[0]:
        candidate[some] &= tile_cells(of, q[some], k[some], xp, counter) > 0
    counter.count(cells=math.prod(shape))
    with xp.quiet():
        score = by(Cells(q, True, xp), Cells(k, True, xp))
    score = Cells(score) if isinstance(score, Plain) else score
    value = xp.full(shape, float(score.value)) if isinstance(score.value, Plain) else xp.real(score.value)
    return xp.broadcast_to(value, shape), candidate & both(value == value, score.ok)


def _may_be_chosen(row: Array, score: Array, candidate: Array, count: int, xp: Any) -> Array:
    """Whether a candidate is among the `count` best, as far as can be said without sorting all: if so many groups of
    eight neighbours hold a candidate of some score, none below it is chosen."""
    tiles, height, width = score.shape
    groups = xp.max(xp.where(candidate, score, -math.inf).reshape(tiles, height, width // 8, 8), (3,))
    start = xp.searchsorted(row, row)
    line = xp.cumsum(xp.integer(start == xp.arange(0, tiles))) - 1
    place = xp.arange(0, tiles) - start
    most = xp.max(place, (0,)).item() + 1
    if most * (width // 8) < count:
        return candidate
    table = xp.full((line[-1].item() + 1, height, most, width // 8), -math.inf)
    table[line, :, place] = groups
    table = table.reshape(table.shape[0], height, most * (width // 8))
    rows, columns = xp.arange(0, table.shape[0])[:, None], xp.arange(0, height)[None, :]
    bound = table[rows, columns, xp.argsort(-table)[:, :, count - 1]]
    return score >= bound[line][:, :, None]


def _listed(
    area: Area, row: Array, column: Array, score: Array, candidate: Array, xp: Any
) -> tuple[Array, Array, Array]:
    """Row (counted from the area's first), key and score of the candidates; a row's keys ascend."""
    q, k = tile_positions(area, row, column, xp)
    at = xp.flatnonzero(candidate)
    row, key, score = (xp.broadcast_to(a, candidate.shape).reshape(-1)[at] for a in (q - area.queries.start, k, score))
    return row, key, score


def _best(row: Array, key: Array, score: Array, count: float, xp: Any) -> tuple[Array, Array]:
    """The chosen rows and keys of candidates whose keys ascend within each row."""
    order = xp.argsort(-score)
    order = order[xp.argsort(row[order])]
    row, key, score = row[order], key[order], score[order]
    start, end = xp.searchsorted(row, row), xp.searchsorted(row, row, right=True)
    rank = xp.arange(0, row.shape[0]) - start
    if isinstance(count, int):
        at = xp.flatnonzero(rank < count)
    else:
        at = xp.flatnonzero(_within_share(rank, end - start, score, score[start], count, xp))
    return row[at], key[at]


def _within_share(rank: Array, length: Array, score: Array, best: Array, share: float, xp: Any) -> Array:
    """Whether the keys before this one, by descending score, have less than the share of their row's softmax mass;
    `rank` is the key's place in its row, `length` the row's number of keys, `best` its first score."""
    # A best score of ±inf must not meet itself in a difference.
    weight = xp.exp(xp.where(score == best, 0.0, score) - xp.where(score == best, 0.0, best))
    result = rank == 0
    size = ceil_log2(xp, length)
    for bits in range(_largest_bits(size, xp) + 1):  # rows of like length together, so that padding stays small
        at = xp.flatnonzero(size == bits)
        if at.shape[0]:
            line, place = xp.cumsum(xp.integer(rank[at] == 0)) - 1, rank[at]
            table = xp.full((line[-1].item() + 1, 1 << bits), 0.0)
            table[line, place] = weight[at]
            mass = xp.cumsum(table)
            result[at] |= mass[line, xp.maximum(place - 1, 0)] < share * mass[line, (1 << bits) - 1]
    return result


def _largest_bits(size: Array, xp: Any) -> int:
    return xp.max(size, (0,)).item() if size.shape[0] else -1


def _points(row: Array, key: Array, xp: Any) -> Strips:
    one = xp.full(row.shape, 1)
    return merged([Strips(row, key, one, one, one)], xp)
