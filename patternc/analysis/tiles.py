"""Tiles: which are skipped, which are full, which are partial, for any multiplicity and without looking at most cells.

A multiplicity is a function of two numbers, the query and the key, to a number M; it is asked for enclosures over boxes
of tiles first, and for cells only inside single tiles that stay in doubt. The layouts of the two sides are any; slots
that hold no token do not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from patternc.analysis.axes import (
    box_tiles,
    consecutive_axis,
    enclose,
    enclose_tiles,
    padded,
    part_numbers,
    slots_held,
    tile_numbers,
    within_lane,
)
from patternc.analysis.boxes import bounds
from patternc.analysis.elementwise import Array, Plain
from patternc.analysis.numbers import Cells
from patternc.analysis.strips import Strips, merged, runs, spread_out
from patternc.plan import FULL, PARTIAL, Axis, Runs

Multiplicity = Callable[[Any, Any], Any]
MOST_BOXES = 1 << 16
"""Boxes that are evaluated at once: a bound on memory (some 100 arrays of 64-bit integers)."""
FEW_BOXES = 1 << 10
"""So many boxes are evaluated in little more time than one; larger boxes that hold no more are passed over."""

SCATTERED = 64
"""Cells of a tile that are looked at first: two in a hundred tiles with one cell in 16 look empty then."""
NEIGHBOURS = 16
"""Neighbouring queries and keys of a tile that are looked at next: they meet every residue of a smaller period."""
MOST_WEIGHT = (1 << 63) - 1
MOST_LINES = 8
"""Lines of a tile, each of several neighbouring tokens, of which enclosures are made before cells are looked at."""


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


@dataclass(frozen=True, eq=False)
class Area:
    """A rectangle of cells, tiled: an axis of queries and an axis of keys."""

    queries: Axis
    keys: Axis

    @property
    def rows(self) -> int:
        return self.queries.tiles

    @property
    def columns(self) -> int:
        return self.keys.tiles

    @property
    def tile_q(self) -> int:
        return self.queries.tile

    @property
    def tile_k(self) -> int:
        return self.keys.tile

    @property
    def n_q(self) -> int:
        """Positions from the first of the queries on, whether they are on the axis or not."""
        return self.queries.stop - self.queries.start

    @property
    def n(self) -> int:
        return self.keys.stop


def consecutive_area(q_start: int, n_q: int, n: int, tile_q: int, tile_k: int) -> Area:
    """Queries q_start up to q_start + n_q and keys 0 up to n, in tiles of consecutive tokens."""
    return Area(consecutive_axis(q_start, q_start + n_q, tile_q), consecutive_axis(0, n, tile_k))


@dataclass(frozen=True, eq=False)
class Found:
    """What the bisection decided: boxes of 2^level numbers on each side, by their place among the boxes of that size,
    each within a lane, all with the same multiplicity `weight` in every cell; or, without a weight, single tiles in
    doubt, by tile number."""

    level: int
    row: Array
    column: Array
    weight: Array | None


@dataclass(frozen=True, eq=False)
class Tiling:
    """The kept tiles of an area, along queries and along keys."""

    by_query: Runs
    by_key: Runs


# ------------------------------------------------------------------ bisection


def bisect(
    multiplicity: Multiplicity,
    area: Area,
    xp: Any,
    counter: Counter,
    *,
    any_cell: bool = False,
    held: Callable[[int, Array, Array], Array] | None = None,
) -> Iterator[Found]:
    """Every tile that may hold a cell, in boxes as large as can be decided. With `any_cell`, a box is decided as soon
    as each of its cells is kept, with whatever multiplicity. `held` says of boxes, by level, row and column, whether
    they are looked at."""
    if not area.rows or not area.columns:
        return
    start, sizes = xp.arange(0, 1), (padded(area.queries), padded(area.keys))
    stack = [_smaller(sizes, (max(sizes) - 1).bit_length(), start, start, xp)]
    while stack:
        level, row, column = stack.pop()
        if row.shape[0] > MOST_BOXES:
            half = row.shape[0] // 2
            stack += [(level, row[half:], column[half:]), (level, row[:half], column[:half])]
            continue
        if held is not None:
            at = xp.flatnonzero(held(level, row, column))
            row, column = row[at], column[at]
            if not row.shape[0]:
                continue
        counter.count(boxes=row.shape[0])
        lo, hi = _box_bounds(multiplicity, area, level, row, column, xp)
        open_ = hi > 0
        if within_lane(area.queries, level) and within_lane(area.keys, level):
            decided = lo > 0 if any_cell else (lo == hi) & open_
            at = xp.flatnonzero(decided)
            if at.shape[0]:
                yield Found(level, row[at], column[at], lo[at])
            open_ = open_ & ~decided
        at = xp.flatnonzero(open_)
        if at.shape[0] and level == 0:
            yield Found(0, tile_numbers(area.queries, row[at]), tile_numbers(area.keys, column[at]), None)
        elif at.shape[0]:
            stack.append(_smaller(sizes, level, row[at], column[at], xp))


def _box_bounds(
    multiplicity: Multiplicity, area: Area, level: int, row: Array, column: Array, xp: Any
) -> tuple[Array, Array]:
    """Bounds of M in each box; 0 and 0 where it holds no token."""
    queries, some_query = enclose(area.queries, level, row, xp)
    keys, some_key = enclose(area.keys, level, column, xp)
    with xp.quiet():
        m = multiplicity(queries, keys)
    lo, hi = (spread(b, row.shape, xp) for b in bounds(m))
    occupied = some_query & some_key
    return xp.where(occupied, lo, 0), xp.where(occupied, hi, 0)


def spread(a: Any, shape: tuple[int, ...], xp: Any) -> Array:
    """A number, plain or an array, as an array of integers of that shape."""
    return xp.full(shape, int(a)) if isinstance(a, Plain) else xp.broadcast_to(a, shape)


def _smaller(sizes: tuple[int, int], level: int, row: Array, column: Array, xp: Any) -> tuple[int, Array, Array]:
    """The boxes that boxes of a level consist of, among so many numbers along queries and along keys: their quarters,
    or smaller ones while these are few; those of one box stay together. Single tiles are what they are."""
    steps = min(level, 1)
    while steps < level and row.shape[0] * math.prod(_sides(sizes, level, steps + 1)) <= FEW_BOXES:
        steps += 1
    level, sides = level - steps, _sides(sizes, level, steps)
    part = xp.arange(0, math.prod(sides))
    row = ((row << steps)[:, None] + part // sides[1]).reshape(-1)
    column = ((column << steps)[:, None] + part % sides[1]).reshape(-1)
    inside = xp.flatnonzero(((row << level) < sizes[0]) & ((column << level) < sizes[1]))
    return level, row[inside], column[inside]


def _sides(sizes: tuple[int, int], level: int, steps: int) -> tuple[int, int]:
    """How many boxes, so many levels down, a box has at most along queries and along keys."""
    rows, columns = (-(-size >> (level - steps)) for size in sizes)
    return min(1 << steps, rows), min(1 << steps, columns)


# ------------------------------------------------------------------ single tiles


def tile_positions(area: Area, row: Array, column: Array, xp: Any) -> tuple[Array, Array]:
    """Queries (tiles, tile_q, 1) and keys (tiles, 1, tile_k) of tiles; in slots without a token, another of the
    tile."""
    down, across = xp.arange(0, area.tile_q), xp.arange(0, area.tile_k)
    return _positions(area, row, column, down[:, None], across[None, :], xp)


def _positions(area: Area, row: Array, column: Array, down: Array, across: Array, xp: Any) -> tuple[Array, Array]:
    """Queries and keys of tiles at offsets in them, which have two axes; the tiles are a first axis."""
    queries = slots_held(area.queries, row[:, None, None], down, xp)
    return queries, slots_held(area.keys, column[:, None, None], across, xp)


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
    lo, hi, known = _by_lines(multiplicity, area, row, column, xp, counter)
    for down, across in _looks(area, xp):
        size = down.shape[0] * across.shape[1]
        open_ = xp.flatnonzero(((hi == 0) if any_cell else (lo >= hi)) & ~known)
        step = max(1, xp.chunk // size)
        for i in range(0, open_.shape[0], step):
            at = open_[i : i + step]
            q, k = _positions(area, row[at], column[at], down, across, xp)
            m = tile_cells(multiplicity, q, k, xp, counter)
            lo[at] = xp.minimum(lo[at], xp.min(m, (1, 2)))
            hi[at] = xp.maximum(hi[at], xp.max(m, (1, 2)))
    return lo, hi


def _by_lines(
    multiplicity: Multiplicity, area: Area, row: Array, column: Array, xp: Any, counter: Counter
) -> tuple[Array, Array, Array]:
    """What enclosures of the lines of tiles say, where these are few and wide: for each tile the least and greatest
    multiplicities that surely occur, and whether they are known for all its cells."""
    lo, hi, known = xp.full(row.shape, MOST_WEIGHT), xp.full(row.shape, 0), xp.full(row.shape, False)
    wide = [a.layout.width > 1 and 1 < a.depth <= MOST_LINES for a in (area.queries, area.keys)]
    if not any(wide):
        return lo, hi, known
    sides = zip((area.queries, area.keys), wide, strict=True)
    fine = Area(*(replace(axis, tile=axis.layout.width) if cut else axis for axis, cut in sides))
    step = max(1, MOST_BOXES // (area.tile_q // fine.tile_q * (area.tile_k // fine.tile_k)))
    for i in range(0, row.shape[0], step):
        turn = slice(i, i + step)
        parts = part_bounds(multiplicity, area, fine, row[turn], column[turn], xp, counter)
        sure = parts.held & (parts.lo == parts.hi)
        lo[turn] = xp.min(xp.where(sure, parts.lo, MOST_WEIGHT), (1, 2))
        hi[turn] = xp.max(xp.where(sure, parts.hi, 0), (1, 2))
        known[turn] = xp.max(xp.integer(parts.held & ~sure), (1, 2)) == 0
    return xp.where(known, xp.minimum(lo, hi), lo), hi, known


@dataclass(frozen=True, eq=False)
class Parts:
    """Of tiles, the smaller tiles that make them up: (tiles, parts along queries, parts along keys)."""

    row: Array
    """(tiles, parts along queries, 1): their numbers."""
    column: Array
    """(tiles, 1, parts along keys)"""
    held: Array
    """Whether they hold a token of each side."""
    lo: Array
    hi: Array
    """Bounds of M, where they do."""


def part_bounds(
    multiplicity: Multiplicity, area: Area, fine: Area, row: Array, column: Array, xp: Any, counter: Counter
) -> Parts:
    """Enclosures over the tiles of `fine` that make up tiles of the area, see `axes.part_numbers`."""
    rows, in_rows = part_numbers(area.queries, fine.queries, row, xp)
    columns, in_columns = part_numbers(area.keys, fine.keys, column, xp)
    rows, columns = rows[:, :, None], columns[:, None, :]
    shape = (row.shape[0], rows.shape[1], columns.shape[2])
    counter.count(boxes=math.prod(shape))
    queries, some_query = enclose_tiles(fine.queries, rows, xp)
    keys, some_key = enclose_tiles(fine.keys, columns, xp)
    with xp.quiet():
        m = multiplicity(queries, keys)
    lo, hi = (spread(b, shape, xp) for b in bounds(m))
    held = (some_query & in_rows[:, :, None]) & (some_key & in_columns[:, None, :])
    return Parts(rows, columns, xp.broadcast_to(held, shape), lo, hi)


def _looks(area: Area, xp: Any) -> Iterator[tuple[Array, Array]]:
    """Offsets, of two axes, at which to look into tiles that are still in doubt: the corners, which tell the tiles on
    the edge of a window, some scattered cells, neighbouring ones, the diagonals and the middles, then all. Most partial
    tiles show two multiplicities before the last."""
    cells = area.tile_q * area.tile_k
    if cells >= SCATTERED * 4:
        yield (xp.arange(0, 2) * (area.tile_q - 1))[:, None], (xp.arange(0, 2) * (area.tile_k - 1))[None, :]
        i = xp.arange(0, SCATTERED)
        golden = (i * 2654435769) % (1 << 32)  # multiples of the golden ratio fill a side evenly
        yield (i * area.tile_q // SCATTERED)[None, :], ((golden * area.tile_k) >> 32)[None, :]
    if cells >= NEIGHBOURS**2 * 4 and min(area.tile_q, area.tile_k) >= NEIGHBOURS:
        i = xp.arange(0, NEIGHBOURS)
        yield (i + (area.tile_q - NEIGHBOURS) // 2)[:, None], (i + (area.tile_k - NEIGHBOURS) // 2)[None, :]
    length = max(area.tile_q, area.tile_k)
    if length * 8 <= cells:
        t, middle = xp.arange(0, length), xp.full((length,), 1)
        q, k = t * area.tile_q // length, t * area.tile_k // length
        down = [q, q, q, middle * (area.tile_q // 2)]
        across = [k, area.tile_k - 1 - k, middle * (area.tile_k // 2), k]
        yield xp.concatenate(down)[None, :], xp.concatenate(across)[None, :]
    yield xp.arange(0, area.tile_q)[:, None], xp.arange(0, area.tile_k)[None, :]


# ------------------------------------------------------------------ strips


def full_strips(area: Area, found: Found, xp: Any) -> tuple[Strips, Strips]:
    """A decided box as one strip for each of its tile rows, and for each of its tile columns."""
    row, height = box_tiles(area.queries, found.level, found.row, xp)
    column, width = box_tiles(area.keys, found.level, found.column, xp)

    def strips(down: Array, down_count: Array, across: Array, across_count: Array, weight: Array) -> Strips:
        box, offset = spread_out(down_count, xp)
        return Strips(down[box] + offset, across[box], across_count[box], xp.full(box.shape, FULL), weight[box])

    return strips(row, height, column, width, found.weight), strips(column, width, row, height, found.weight)


def single_strips(row: Array, column: Array, lo: Array, hi: Array, xp: Any) -> tuple[Strips, Strips]:
    """Tiles with two multiplicities that occur in them, as in `tile_bounds`, as strips of both kinds."""
    at = xp.flatnonzero(hi > 0)
    row, column, lo, hi = row[at], column[at], lo[at], hi[at]
    kind = xp.where(lo == hi, FULL, PARTIAL)
    weight = xp.where(lo == hi, hi, 0)
    one = xp.full(row.shape, 1)
    return Strips(row, column, one, kind, weight), Strips(column, row, one, kind, weight)


# ------------------------------------------------------------------ the classification


def classify(
    multiplicity: Multiplicity, area: Area, xp: Any, counter: Counter | None = None, *, exact: bool = True
) -> Tiling:
    """The kept tiles of the area: full where every cell has the same M > 0, partial where cells differ. If not `exact`,
    no cell is asked for, and every tile is partial that its enclosure leaves in doubt."""
    by_query, by_key = strips_of(multiplicity, area, xp, counter or Counter(), exact=exact)
    return Tiling(runs(by_query, area.rows, xp), runs(by_key, area.columns, xp))


def strips_of(
    multiplicity: Multiplicity, area: Area, xp: Any, counter: Counter, *, exact: bool = True
) -> tuple[Strips, Strips]:
    """The kept tiles of the area as strips along keys and along queries, `exact` as in `classify`."""
    along_keys: list[Strips] = []
    along_queries: list[Strips] = []
    lanes = [axis.per_lane if axis.lanes > 1 else None for axis in (area.keys, area.queries)]
    for found in bisect(multiplicity, area, xp, counter):
        if found.weight is not None:
            a, b = full_strips(area, found, xp)
        else:
            if exact:
                lo, hi = tile_bounds(multiplicity, area, found.row, found.column, xp, counter)
            else:
                lo, hi = xp.full(found.row.shape, 0), xp.full(found.row.shape, 1)
            a, b = single_strips(found.row, found.column, lo, hi, xp)
        # Merged at once, for boxes come in spatial order and a strip replaces many tiles.
        along_keys.append(merged([a], xp, lanes[0]))
        along_queries.append(merged([b], xp, lanes[1]))
    return merged(along_keys, xp, lanes[0]), merged(along_queries, xp, lanes[1])
