"""Tiles: which are skipped, which are full, which are partial, for any multiplicity and without looking at most cells.

A multiplicity is a function of two numbers, the query and the key, to a number M; it is asked for enclosures over boxes
of tiles first, and for cells only inside single tiles that stay in doubt. Tiles that the end of the sequence cuts are
judged by their cells inside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from patternc.analysis.boxes import bounds
from patternc.analysis.elementwise import Array, Plain
from patternc.analysis.enclosures import interval
from patternc.analysis.numbers import Cells
from patternc.plan import FULL, PARTIAL, Runs

Multiplicity = Callable[[Any, Any], Any]
MOST_BOXES = 1 << 16
"""Boxes that are evaluated at once: a bound on memory (some 100 arrays of 64-bit integers)."""

SCATTERED = 64
"""Cells of a tile that are looked at first: two in a hundred tiles with one cell in 16 look empty then."""
MOST_WEIGHT = (1 << 63) - 1


class TooMuchWorkError(Exception):
    """A multiplicity was asked for more boxes and cells than its counter allows."""


@dataclass(eq=False)
class Counter:
    """How many boxes and cells a multiplicity was asked for, and how many it may be asked for together."""

    boxes: int = 0
    cells: int = 0
    limit: int | None = None

    def count(self, *, boxes: int = 0, cells: int = 0) -> None:
        """Counts what is about to be evaluated; TooMuchWorkError if that exceeds the limit."""
        self.boxes += boxes
        self.cells += cells
        if self.limit is not None and self.boxes + self.cells > self.limit:
            raise TooMuchWorkError


@dataclass(frozen=True)
class Area:
    """A rectangle of cells, tiled: queries q_start up to q_start + n_q, keys 0 up to n."""

    q_start: int
    n_q: int
    n: int
    tile_q: int
    tile_k: int

    @property
    def rows(self) -> int:
        return -(-self.n_q // self.tile_q)

    @property
    def columns(self) -> int:
        return -(-self.n // self.tile_k)


@dataclass(frozen=True, eq=False)
class Found:
    """What the bisection decided: boxes of 2^level tiles on each side (cut at the area's end), by their index among the
    boxes of that size, all with the same multiplicity `weight` in every cell; or, without a weight, single tiles in
    doubt."""

    level: int
    row: Array
    column: Array
    weight: Array | None


@dataclass(frozen=True, eq=False)
class Strips:
    """Adjacent tiles of one kind: `count` tiles from tile `first` on, in tile row `row`; parallel arrays."""

    row: Array
    first: Array
    count: Array
    kind: Array
    weight: Array


@dataclass(frozen=True, eq=False)
class Tiling:
    """The kept tiles of an area, along queries and along keys."""

    by_query: Runs
    by_key: Runs


# ------------------------------------------------------------------ bisection


def bisect(
    multiplicity: Multiplicity, area: Area, xp: Any, counter: Counter, *, any_cell: bool = False
) -> Iterator[Found]:
    """Every tile that may hold a cell, in boxes as large as can be decided. With `any_cell`, a box is decided as soon
    as each of its cells is kept, with whatever multiplicity."""
    start = xp.arange(0, 1)
    stack = [((max(area.rows, area.columns) - 1).bit_length(), start, start)]
    while stack:
        level, row, column = stack.pop()
        if row.shape[0] > MOST_BOXES:
            half = row.shape[0] // 2
            stack += [(level, row[half:], column[half:]), (level, row[:half], column[:half])]
            continue
        counter.count(boxes=row.shape[0])
        lo, hi = _box_bounds(multiplicity, area, level, row, column, xp)
        decided = lo > 0 if any_cell else (lo == hi) & (hi > 0)
        at = xp.flatnonzero(decided)
        if at.shape[0]:
            yield Found(level, row[at], column[at], lo[at])
        at = xp.flatnonzero((hi > 0) & ~decided)
        if at.shape[0] and level == 0:
            yield Found(0, row[at], column[at], None)
        elif at.shape[0]:
            stack.append((level - 1, *_children(area, level - 1, row[at], column[at], xp)))


def _box_bounds(
    multiplicity: Multiplicity, area: Area, level: int, row: Array, column: Array, xp: Any
) -> tuple[Array, Array]:
    """Bounds of M in each box."""
    first, last, end = area.q_start, area.q_start + area.n_q - 1, area.n - 1
    q = row * (area.tile_q << level) + first
    k = column * (area.tile_k << level)
    queries = interval(xp, q, xp.minimum(q + ((area.tile_q << level) - 1), last), first, last)
    keys = interval(xp, k, xp.minimum(k + ((area.tile_k << level) - 1), end), 0, end)
    with xp.quiet():
        m = multiplicity(queries, keys)
    lo, hi = (_spread(b, row.shape, xp) for b in bounds(m))
    return lo, hi


def _spread(a: Any, shape: tuple[int, ...], xp: Any) -> Array:
    return xp.full(shape, int(a)) if isinstance(a, Plain) else xp.broadcast_to(a, shape)


def _children(area: Area, level: int, row: Array, column: Array, xp: Any) -> tuple[Array, Array]:
    """The quarters of boxes that lie within the area; a parent's quarters stay together."""
    down, across = xp.asarray([0, 0, 1, 1]), xp.asarray([0, 1, 0, 1])
    row = (row[:, None] * 2 + down).reshape(-1)
    column = (column[:, None] * 2 + across).reshape(-1)
    inside = xp.flatnonzero(((row << level) < area.rows) & ((column << level) < area.columns))
    return row[inside], column[inside]


# ------------------------------------------------------------------ single tiles


def tile_positions(area: Area, row: Array, column: Array, xp: Any) -> tuple[Array, Array]:
    """Queries (tiles, tile_q, 1) and keys (tiles, 1, tile_k) of tiles; beyond the end, the last position again."""
    down, across = xp.arange(0, area.tile_q), xp.arange(0, area.tile_k)
    return _positions(area, row, column, down[:, None], across[None, :], xp)


def _positions(area: Area, row: Array, column: Array, down: Array, across: Array, xp: Any) -> tuple[Array, Array]:
    """Queries and keys of tiles at offsets in them, which have two axes; the tiles are a first axis."""
    q = row[:, None, None] * area.tile_q + down
    k = column[:, None, None] * area.tile_k + across
    return xp.minimum(q, area.n_q - 1) + area.q_start, xp.minimum(k, area.n - 1)


def tile_cells(multiplicity: Multiplicity, q: Array, k: Array, xp: Any, counter: Counter) -> Array:
    """M at positions that broadcast against each other; an array that broadcasts to their shape, with all its axes."""
    counter.count(cells=math.prod(max(a, b) for a, b in zip(q.shape, k.shape, strict=True)))
    with xp.quiet():
        m = multiplicity(Cells(q, True, xp), Cells(k, True, xp))
    value = m.value if isinstance(m, Cells) else m
    return xp.full((1,) * len(q.shape), int(value)) if isinstance(value, Plain) else value


def tile_bounds(
    multiplicity: Multiplicity,
    area: Area,
    row: Array,
    column: Array,
    xp: Any,
    counter: Counter,
    *,
    any_cell: bool = False,
) -> tuple[Array, Array]:
    """For each tile, two multiplicities that occur in it: equal only if all its cells have that one. With `any_cell`
    both are 0 only if no cell is kept, and nothing else is promised."""
    lo, hi = xp.full(row.shape, MOST_WEIGHT), xp.full(row.shape, 0)
    for down, across in _looks(area, xp):
        size = down.shape[0] * across.shape[1]
        open_ = xp.flatnonzero((hi == 0) if any_cell else (lo >= hi))
        step = max(1, xp.chunk // size)
        for i in range(0, open_.shape[0], step):
            at = open_[i : i + step]
            q, k = _positions(area, row[at], column[at], down, across, xp)
            m = tile_cells(multiplicity, q, k, xp, counter)
            lo[at] = xp.minimum(lo[at], xp.min(m, (1, 2)))
            hi[at] = xp.maximum(hi[at], xp.max(m, (1, 2)))
    return lo, hi


def _looks(area: Area, xp: Any) -> Iterator[tuple[Array, Array]]:
    """Offsets, of two axes, at which to look into tiles that are still in doubt: some scattered cells, then the
    diagonals and the middles, then all. Most partial tiles show two multiplicities before the last."""
    cells = area.tile_q * area.tile_k
    if cells >= SCATTERED * 4:
        i = xp.arange(0, SCATTERED)
        golden = (i * 2654435769) % (1 << 32)  # multiples of the golden ratio fill a side evenly
        yield (i * area.tile_q // SCATTERED)[None, :], ((golden * area.tile_k) >> 32)[None, :]
    length = max(area.tile_q, area.tile_k)
    if length * 8 <= cells:
        t, middle = xp.arange(0, length), xp.full((length,), 1)
        q, k = t * area.tile_q // length, t * area.tile_k // length
        down = [q, q, q, middle * (area.tile_q // 2)]
        across = [k, area.tile_k - 1 - k, middle * (area.tile_k // 2), k]
        yield xp.concatenate(down)[None, :], xp.concatenate(across)[None, :]
    yield xp.arange(0, area.tile_q)[:, None], xp.arange(0, area.tile_k)[None, :]


# ------------------------------------------------------------------ strips


def spread_out(counts: Array, xp: Any) -> tuple[Array, Array]:
    """For groups of so many items: each item's group, and its number within the group."""
    group = xp.repeat(xp.arange(0, counts.shape[0]), counts)
    before = xp.cumsum(counts) - counts
    return group, xp.arange(0, group.shape[0]) - before[group]


def merged(strips: list[Strips], xp: Any) -> Strips:
    """All strips in order of row and first tile, those that meet and agree in kind and weight as one."""
    if not strips:
        nothing = xp.arange(0, 0)
        return Strips(nothing, nothing, nothing, nothing, nothing)
    row, first, count, kind, weight = (
        xp.concatenate([getattr(s, name) for s in strips]) for name in ("row", "first", "count", "kind", "weight")
    )
    order = xp.argsort(row * (_largest_or(first, 0, xp) + 1) + first)
    row, first, count, kind, weight = row[order], first[order], count[order], kind[order], weight[order]
    total = row.shape[0]
    meets = (row[1:] == row[:-1]) & (first[1:] == first[:-1] + count[:-1])
    meets = meets & (kind[1:] == kind[:-1]) & (weight[1:] == weight[:-1])
    start = xp.concatenate([xp.arange(0, min(total, 1)), xp.flatnonzero(~meets) + 1])
    last = xp.concatenate([start[1:] - 1, xp.arange(total - 1, total)]) if total else start
    return Strips(row[start], first[start], first[last] + count[last] - first[start], kind[start], weight[start])


def _largest_or(a: Array, default: int, xp: Any) -> int:
    return xp.max(a, (0,)).item() if a.shape[0] else default


def _full_strips(area: Area, found: Found, xp: Any) -> tuple[Strips, Strips]:
    """A decided box as one strip for each of its tile rows, and for each of its tile columns."""
    row, column = found.row << found.level, found.column << found.level
    height = xp.minimum(area.rows - row, 1 << found.level)
    width = xp.minimum(area.columns - column, 1 << found.level)

    def strips(down: Array, down_count: Array, across: Array, across_count: Array, weight: Array) -> Strips:
        box, offset = spread_out(down_count, xp)
        return Strips(down[box] + offset, across[box], across_count[box], xp.full(box.shape, FULL), weight[box])

    return strips(row, height, column, width, found.weight), strips(column, width, row, height, found.weight)


def _single_strips(row: Array, column: Array, lo: Array, hi: Array, xp: Any) -> tuple[Strips, Strips]:
    at = xp.flatnonzero(hi > 0)
    row, column, lo, hi = row[at], column[at], lo[at], hi[at]
    kind = xp.where(lo == hi, FULL, PARTIAL)
    weight = xp.where(lo == hi, hi, 0)
    one = xp.full(row.shape, 1)
    return Strips(row, column, one, kind, weight), Strips(column, row, one, kind, weight)


def runs(strips: Strips, rows: int, tile: int, xp: Any) -> Runs:
    """Strips, in order, as the runs of a plan, whose tiles have `tile` tokens along the run."""
    pointers = xp.searchsorted(strips.row, xp.arange(0, rows + 1))
    return Runs(pointers, strips.first * tile, strips.count, strips.kind, strips.weight)


# ------------------------------------------------------------------ the classification


def classify(
    multiplicity: Multiplicity, area: Area, xp: Any, counter: Counter | None = None, *, exact: bool = True
) -> Tiling:
    """The kept tiles of the area: full where every cell has the same M > 0, partial where cells differ. If not `exact`,
    no cell is asked for, and every tile is partial that its enclosure leaves in doubt."""
    by_query, by_key = strips_of(multiplicity, area, xp, counter or Counter(), exact=exact)
    return Tiling(runs(by_query, area.rows, area.tile_k, xp), runs(by_key, area.columns, area.tile_q, xp))


def strips_of(
    multiplicity: Multiplicity, area: Area, xp: Any, counter: Counter, *, any_cell: bool = False, exact: bool = True
) -> tuple[Strips, Strips]:
    """The kept tiles of the area as strips along keys and along queries, `exact` as in `classify`. With `any_cell`
    kinds and weights mean nothing: all are FULL and 1."""
    along_keys: list[Strips] = []
    along_queries: list[Strips] = []
    for found in bisect(multiplicity, area, xp, counter, any_cell=any_cell):
        if found.weight is not None:
            a, b = _full_strips(area, found, xp)
        else:
            if exact:
                lo, hi = tile_bounds(multiplicity, area, found.row, found.column, xp, counter, any_cell=any_cell)
            else:
                lo, hi = xp.full(found.row.shape, 0), xp.full(found.row.shape, 1)
            a, b = _single_strips(found.row, found.column, lo, hi, xp)
        # Merged at once, for boxes come in spatial order and a strip replaces many tiles.
        along_keys.append(merged([_plain(a, xp) if any_cell else a], xp))
        along_queries.append(merged([_plain(b, xp) if any_cell else b], xp))
    return merged(along_keys, xp), merged(along_queries, xp)


def _plain(s: Strips, xp: Any) -> Strips:
    return Strips(s.row, s.first, s.count, xp.full(s.row.shape, FULL), xp.full(s.row.shape, 1))
