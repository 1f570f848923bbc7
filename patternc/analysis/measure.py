"""What a multiplicity keeps: exact counts by row, and shares of display tiles by sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from patternc.analysis.axes import box_tiles, slots_held, tile_sizes
from patternc.analysis.elementwise import Array
from patternc.analysis.strips import spread_out
from patternc.analysis.tiles import (
    MOST_BOXES,
    Area,
    Counter,
    Found,
    Multiplicity,
    bisect,
    part_bounds,
    tile_cells,
    tile_positions,
)
from patternc.plan import PARTIAL, Axis, Runs

SAMPLES = 16
"""Rows, and columns, of the lattice of cells that stands for a tile in doubt."""
PART = 16
"""Slots along each side of the parts of a tile of which enclosures are made before cells are counted."""


def row_counts(
    multiplicity: Multiplicity, by_query: Runs, area: Area, xp: Any, counter: Counter | None = None
) -> tuple[Array, Array]:
    """For each position of the area's queries, from the first to the last (n_q,): how many of its keys it attends to,
    and the sum of their multiplicities.

    `by_query` is the area's classification: cells are looked at in partial tiles only.
    """
    counter = counter or Counter()
    run_row = spread_out(by_query.rows[1:] - by_query.rows[:-1], xp)[0]
    length = xp.where(by_query.kind == PARTIAL, 0, _tokens_of_runs(by_query, area.keys, xp))
    table = []
    for amounts in (length, length * by_query.weight):
        table.append(_sums_by_row(amounts[None, :], run_row, area.rows, xp)[0][:, None] + xp.full((1, area.tile_q), 0))
    row, column = _partial_tiles(by_query, xp)
    step = max(1, xp.chunk // (area.tile_q * area.tile_k))
    for i in range(0, row.shape[0], step):
        rows = row[i : i + step]
        m = _inside(multiplicity, area, rows, column[i : i + step], xp, counter)
        for t, cells in zip(table, (m > 0, m), strict=True):
            t += _sums_by_row(xp.sum(cells, (2,)).T, rows, area.rows, xp).T
    keys, total = (_by_position(t, area.queries, xp) for t in table)
    return keys, total


def _by_position(table: Array, axis: Axis, xp: Any) -> Array:
    """(tiles, slots) -> (positions of the axis,), 0 for a position that the axis leaves out."""
    position = axis.tokens(xp.arange(0, axis.tiles)[:, None], xp.arange(0, axis.tile)[None, :]).reshape(-1)
    held = xp.flatnonzero(position < axis.stop)
    result = xp.full((axis.stop - axis.start,), 0)
    result[position[held] - axis.start] = table.reshape(-1)[held]
    return result


def _partial_tiles(by_query: Runs, xp: Any) -> tuple[Array, Array]:
    """Row and column of the partial tiles."""
    run_row = spread_out(by_query.rows[1:] - by_query.rows[:-1], xp)[0]
    partial = xp.flatnonzero(by_query.kind == PARTIAL)
    run, offset = spread_out(by_query.count[partial], xp)
    return run_row[partial][run], by_query.first[partial][run] + offset


def _tokens_of_runs(runs: Runs, axis: Axis, xp: Any) -> Array:
    """How many tokens of the axis the tiles of each run hold."""
    sizes = tile_sizes(axis, xp.arange(0, axis.tiles), xp)
    before = xp.concatenate([xp.full((1,), 0), xp.cumsum(sizes)])
    first = xp.integer(runs.first)
    return before[first + runs.count] - before[first]


def kept_pairs(
    multiplicity: Multiplicity, by_query: Runs, area: Area, xp: Any, most: int | None = None, period: int | None = None
) -> int:
    """How many cells of the area have M > 0. With `most`, about: no more than so many cells of partial tiles are looked
    at, in tiles that are spread evenly over all. `period` is one of the multiplicity along the diagonal (periods.py):
    of tiles that it makes equal one is looked at, where all are counted."""
    run_row = spread_out(by_query.rows[1:] - by_query.rows[:-1], xp)[0]
    height, width = tile_sizes(area.queries, run_row, xp), _tokens_of_runs(by_query, area.keys, xp)
    kept = int((width * height)[xp.flatnonzero(by_query.kind != PARTIAL)].sum())
    row, column = _partial_tiles(by_query, xp)
    if most is None:
        return kept + _pairs_in(multiplicity, area, *_distinct(area, row, column, period, xp), xp)
    every = max(1, -(-row.shape[0] * area.tile_q * area.tile_k // most))
    at = xp.arange(0, -(-row.shape[0] // every)) * every
    at = xp.minimum(at + at * 7919 % every, row.shape[0] - 1)  # not in step with the length of a row
    found = _pairs_in(multiplicity, area, row[at], column[at], xp.full(at.shape, 1), xp)
    return kept + found * row.shape[0] // max(1, at.shape[0])


def _distinct(area: Area, row: Array, column: Array, period: int | None, xp: Any) -> tuple[Array, Array, Array]:
    """One tile of each kind among tiles, and how often it occurs: whole tiles whose tokens differ by multiples of the
    period, the same on both sides, are of one kind."""
    axes = area.queries, area.keys
    if period is None or not row.shape[0] or any(axis.index is not None for axis in axes):
        return row, column, xp.full(row.shape, 1)
    tokens = [axis.layout.stride * axis.depth for axis in axes]
    steps = [math.lcm(period, *tokens) // count for count in tokens]
    numbers = row, column
    whole = [tile_sizes(axis, tile, xp) == axis.tile for axis, tile in zip(axes, numbers, strict=True)]
    moves = [tile % axis.per_lane // step for axis, tile, step in zip(axes, numbers, steps, strict=True)]
    shift = xp.where(whole[0] & whole[1], xp.minimum(*moves), 0)
    first, second = (tile - shift * step for tile, step in zip(numbers, steps, strict=True))
    kind = (first * area.columns + second) * 2 + xp.integer(whole[0] & whole[1])
    order = xp.argsort(kind)
    kind = kind[order]
    start = xp.concatenate([xp.arange(0, 1), xp.flatnonzero(kind[1:] != kind[:-1]) + 1])
    times = xp.concatenate([start[1:], xp.full((1,), kind.shape[0])]) - start
    return row[order[start]], column[order[start]], times


def _pairs_in(multiplicity: Multiplicity, area: Area, row: Array, column: Array, times: Array, xp: Any) -> int:
    """Cells with M > 0 in tiles, each of which occurs so many times: parts of tiles that their enclosures do not decide
    are looked at."""
    fine = Area(*(replace(axis, tile=_part(axis)) for axis in (area.queries, area.keys)))
    parts = area.tile_q // fine.tile_q * (area.tile_k // fine.tile_k)
    if parts == 1:
        return _cells_in(multiplicity, area, row, column, times, xp)
    total, step = 0, max(1, MOST_BOXES // parts)
    for i in range(0, row.shape[0], step):
        turn = slice(i, i + step)
        found = part_bounds(multiplicity, area, fine, row[turn], column[turn], xp, Counter())
        sizes = tile_sizes(fine.queries, found.row, xp) * tile_sizes(fine.keys, found.column, xp)
        whole = found.held & (found.lo > 0)
        total += int((xp.where(whole, sizes, 0) * times[turn, None, None]).sum())
        at = xp.flatnonzero((found.held & ~whole & (found.hi > 0)).reshape(-1))
        each = found.row, found.column, times[turn, None, None]
        open_row, open_column, often = (xp.broadcast_to(a, whole.shape).reshape(-1)[at] for a in each)
        total += _cells_in(multiplicity, fine, open_row, open_column, often, xp)
    return total


def _part(axis: Axis) -> int:
    """The slots of a part of a tile: whole lines."""
    part = max(PART, axis.layout.width)
    return part if axis.tile % part == 0 else axis.tile


def _cells_in(multiplicity: Multiplicity, area: Area, row: Array, column: Array, times: Array, xp: Any) -> int:
    """Cells with M > 0 in tiles, each of which occurs so many times; all of them are looked at."""
    total, step = 0, max(1, xp.chunk // (area.tile_q * area.tile_k))
    for i in range(0, row.shape[0], step):
        turn = slice(i, i + step)
        kept = _inside(multiplicity, area, row[turn], column[turn], xp, Counter()) > 0
        total += int((xp.sum(kept, (1, 2)) * times[turn]).sum())
    return total


def _sums_by_row(amounts: Array, row: Array, rows: int, xp: Any) -> Array:
    """(m, items) amounts of items in ascending rows (items,) -> (m, rows) their sums."""
    before = xp.concatenate([xp.full((amounts.shape[0], 1), 0), xp.cumsum(amounts)], 1)
    ends = xp.searchsorted(row, xp.arange(0, rows + 1))
    return before[:, ends[1:]] - before[:, ends[:-1]]


def _inside(multiplicity: Multiplicity, area: Area, row: Array, column: Array, xp: Any, counter: Counter) -> Array:
    """M in the cells (tiles, tile_q, tile_k) of tiles; 0 in slots without a token."""
    m = tile_cells(multiplicity, *tile_positions(area, row, column, xp), xp, counter)
    return xp.where(_held(area, row, column, xp), m, 0)


def _held(area: Area, row: Array, column: Array, xp: Any) -> Array:
    """(tiles, tile_q, tile_k) whether both slots of a cell hold a token."""
    q = area.queries.tokens(row[:, None, None], xp.arange(0, area.tile_q)[:, None])
    k = area.keys.tokens(column[:, None, None], xp.arange(0, area.tile_k))
    return (q < area.queries.stop) & (k < area.keys.stop)


@dataclass(frozen=True, eq=False)
class Profile:
    """The tiles of an area as a picture shows them: (rows, columns) arrays."""

    possible: Array
    """Whether the tile may hold a cell."""
    full: Array
    """Whether it is known to hold all its cells with one multiplicity."""
    mean: Array
    """The mean multiplicity of its cells inside the area; an estimate if `exact` is False."""
    exact: bool


def profile(
    multiplicity: Multiplicity, area: Area, xp: Any, counter: Counter | None = None, *, samples: int = SAMPLES
) -> Profile:
    """What the tiles of the area hold, at a cost that does not grow with their size: a tile that its enclosure does not
    decide is judged by its cells in some rows and as many columns; by all its cells if it has no more than 256."""
    counter = counter or Counter()
    shape = (area.rows, area.columns)
    possible, full = xp.full(shape, False), xp.full(shape, False)
    mean = xp.full(shape, 0.0)
    exact = area.tile_q * area.tile_k <= SAMPLES * SAMPLES
    for found in bisect(multiplicity, area, xp, counter):
        if found.weight is not None:
            row, column, weight = _singles(area, found, xp)
            possible[row, column] = full[row, column] = True
            mean[row, column] = xp.real(weight)
            continue
        step = max(1, xp.chunk // min(SAMPLES * SAMPLES, area.tile_q * area.tile_k))
        for i in range(0, found.row.shape[0], step):
            row, column = found.row[i : i + step], found.column[i : i + step]
            lo, hi, mean[row, column] = _sampled(
                multiplicity, area, row, column, None if exact else samples, xp, counter
            )
            possible[row, column] = (hi > 0) | (not exact)
            full[row, column] = (lo == hi) & (hi > 0) & exact
    return Profile(possible, full, mean, exact)


def _singles(area: Area, found: Found, xp: Any) -> tuple[Array, Array, Array]:
    """The tiles of decided boxes, and their multiplicity."""
    assert found.weight is not None, "only decided boxes are spread out"
    side = xp.arange(0, 1 << found.level)
    sides = (area.queries, found.row), (area.keys, found.column)
    ends = [box_tiles(axis, found.level, box, xp) for axis, box in sides]
    down, across = (first[:, None] + xp.minimum(side, count[:, None] - 1) for first, count in ends)
    shape = (down.shape[0], 1 << found.level, 1 << found.level)
    parts = (down[:, :, None], across[:, None, :], found.weight[:, None, None])
    row, column, weight = (xp.broadcast_to(a, shape).reshape(-1) for a in parts)
    return row, column, weight


def _sampled(
    multiplicity: Multiplicity, area: Area, row: Array, column: Array, count: int | None, xp: Any, counter: Counter
) -> tuple[Array, Array, Array]:
    """The least, the greatest and the mean M of cells of each tile, in so many rows and columns; None means all."""
    if count is None:
        m = tile_cells(multiplicity, *tile_positions(area, row, column, xp), xp, counter)
        cells = _held(area, row, column, xp)
        total, number = xp.sum(xp.where(cells, m, 0), (1, 2)), xp.sum(cells, (1, 2))
        return xp.min(m, (1, 2)), xp.max(m, (1, 2)), xp.real(total) / xp.real(number)
    q, k = (
        slots_held(axis, tile[:, None], looks(tile, tile_sizes(axis, tile, xp), count, xp), xp)
        for axis, tile in ((area.queries, row), (area.keys, column))
    )
    m = tile_cells(multiplicity, q[:, :, None], k[:, None, :], xp, counter)
    m = xp.broadcast_to(m, (row.shape[0], count, count))
    return xp.min(m, (1, 2)), xp.max(m, (1, 2)), xp.real(xp.sum(m, (1, 2))) / (count * count)


def looks(tile: Array, side: Array, count: int, xp: Any) -> Array:
    """(tiles,), (tiles,) -> (tiles, count) places along the sides of tiles, one in each of `count` equal parts, shifted
    by a number that each tile has: so that they walk in step with no stride."""
    i = xp.arange(0, count)
    place = (i << 10) + (i * 2654435761 + (i * i) * 7919) % 1024
    shift = (tile * 2654435761 >> 8) % 65537
    return (side[:, None] * place // (count << 10) + shift[:, None]) % side[:, None]
