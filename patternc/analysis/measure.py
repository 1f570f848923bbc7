"""What a multiplicity keeps: exact counts by row, and shares of display tiles by sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patternc.analysis.elementwise import Array
from patternc.analysis.tiles import Area, Counter, Multiplicity, bisect, spread_out, tile_cells, tile_positions
from patternc.plan import PARTIAL, Runs

SAMPLES = 16
"""Rows, and columns, of the lattice of cells that stands for a tile in doubt."""


def row_counts(
    multiplicity: Multiplicity, by_query: Runs, area: Area, xp: Any, counter: Counter | None = None
) -> tuple[Array, Array]:
    """For each query of the area (n_q,): how many keys it attends to, and the sum of their multiplicities.

    `by_query` is the area's classification: cells are looked at in partial tiles only.
    """
    counter = counter or Counter()
    run_row, _ = spread_out(by_query.rows[1:] - by_query.rows[:-1], xp)
    length = xp.minimum(by_query.first + by_query.count * area.tile_k, area.n) - by_query.first
    length = xp.where(by_query.kind == PARTIAL, 0, length)
    table = []
    for amounts in (length, length * by_query.weight):
        table.append(_sums_by_row(amounts[None, :], run_row, area.rows, xp)[0][:, None] + xp.full((1, area.tile_q), 0))
    partial = xp.flatnonzero(by_query.kind == PARTIAL)
    run, offset = spread_out(by_query.count[partial], xp)
    row, column = run_row[partial][run], by_query.first[partial][run] // area.tile_k + offset
    step = max(1, xp.chunk // (area.tile_q * area.tile_k))
    for i in range(0, row.shape[0], step):
        rows = row[i : i + step]
        m = _inside(multiplicity, area, rows, column[i : i + step], xp, counter)
        for t, cells in zip(table, (m > 0, m), strict=True):
            t += _sums_by_row(xp.sum(cells, (2,)).T, rows, area.rows, xp).T
    keys, total = (t.reshape(-1)[: area.n_q] for t in table)
    return keys, total


def kept_pairs(multiplicity: Multiplicity, by_query: Runs, area: Area, xp: Any, most: int | None = None) -> int:
    """How many cells of the area have M > 0. With `most`, about: no more than so many cells of partial tiles are looked
    at, in tiles that are spread evenly over all."""
    runs, rows = by_query, xp.arange(0, area.rows)
    row = xp.repeat(rows, runs.rows[1:] - runs.rows[:-1])
    full = xp.flatnonzero(runs.kind != PARTIAL)
    width = xp.minimum(runs.first + runs.count * area.tile_k, area.n) - runs.first
    height = xp.minimum(area.n_q - row * area.tile_q, area.tile_q)
    kept = int((width * height)[full].sum())
    partial = xp.flatnonzero(runs.kind == PARTIAL)
    run, offset = spread_out(runs.count[partial], xp)
    row, column = row[partial][run], runs.first[partial][run] // area.tile_k + offset
    every = 1 if most is None else max(1, -(-row.shape[0] * area.tile_q * area.tile_k // most))
    at = xp.arange(0, -(-row.shape[0] // every)) * every
    at = xp.minimum(at + at * 7919 % every, row.shape[0] - 1)  # not in step with the length of a row
    return kept + _pairs_in(multiplicity, area, row[at], column[at], xp) * row.shape[0] // max(1, at.shape[0])


def _pairs_in(multiplicity: Multiplicity, area: Area, row: Array, column: Array, xp: Any) -> int:
    """Cells with M > 0 in tiles."""
    step = max(1, xp.chunk // (area.tile_q * area.tile_k))
    turns = [slice(i, i + step) for i in range(0, row.shape[0], step)]
    return sum(int((_inside(multiplicity, area, row[t], column[t], xp, Counter()) > 0).sum()) for t in turns)


def _sums_by_row(amounts: Array, row: Array, rows: int, xp: Any) -> Array:
    """(m, items) amounts of items in ascending rows (items,) -> (m, rows) their sums."""
    before = xp.concatenate([xp.full((amounts.shape[0], 1), 0), xp.cumsum(amounts)], 1)
    ends = xp.searchsorted(row, xp.arange(0, rows + 1))
    return before[:, ends[1:]] - before[:, ends[:-1]]


def _inside(multiplicity: Multiplicity, area: Area, row: Array, column: Array, xp: Any, counter: Counter) -> Array:
    """M in the cells (tiles, tile_q, tile_k) of tiles; 0 beyond the end."""
    m = tile_cells(multiplicity, *tile_positions(area, row, column, xp), xp, counter)
    q = row[:, None, None] * area.tile_q + xp.arange(0, area.tile_q)[:, None]
    k = column[:, None, None] * area.tile_k + xp.arange(0, area.tile_k)
    return xp.where((q < area.n_q) & (k < area.n), m, 0)


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
            row, column, weight = _singles(area, found.row, found.column, found.level, found.weight, xp)
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


def _singles(area: Area, row: Array, column: Array, level: int, weight: Array, xp: Any) -> tuple[Array, Array, Array]:
    """The tiles of boxes of 2^level tiles on each side."""
    side = xp.arange(0, 1 << level)
    down, across = xp.minimum((row << level)[:, None] + side, area.rows - 1), (column << level)[:, None] + side
    shape = (row.shape[0], 1 << level, 1 << level)
    across = xp.minimum(across, area.columns - 1)
    parts = (down[:, :, None], across[:, None, :], weight[:, None, None])
    row, column, weight = (xp.broadcast_to(a, shape).reshape(-1) for a in parts)
    return row, column, weight


def _sampled(
    multiplicity: Multiplicity, area: Area, row: Array, column: Array, count: int | None, xp: Any, counter: Counter
) -> tuple[Array, Array, Array]:
    """The least, the greatest and the mean M of cells of each tile, in so many rows and columns; None means all."""
    q0, k0 = row * area.tile_q, column * area.tile_k
    height = xp.minimum(area.n_q - q0, area.tile_q)
    width = xp.minimum(area.n - k0, area.tile_k)
    if count is None:
        down, across = xp.arange(0, area.tile_q)[None, :], xp.arange(0, area.tile_k)[None, :]
        q, k = xp.minimum(q0[:, None] + down, area.n_q - 1), xp.minimum(k0[:, None] + across, area.n - 1)
        inside = (down < height[:, None])[:, :, None] & (across < width[:, None])[:, None, :]
    else:
        q = q0[:, None] + looks(row, height, count, xp)
        k = k0[:, None] + looks(column, width, count, xp)
        inside = xp.full((1, 1, 1), True)
    m = tile_cells(multiplicity, q[:, :, None] + area.q_start, k[:, None, :], xp, counter)
    cells = xp.broadcast_to(inside, (row.shape[0], q.shape[1], k.shape[1]))
    m = xp.broadcast_to(m, cells.shape)
    total, number = xp.sum(xp.where(cells, m, 0), (1, 2)), xp.sum(cells, (1, 2))
    return xp.min(m, (1, 2)), xp.max(m, (1, 2)), xp.real(total) / xp.real(number)


def looks(tile: Array, side: Array, count: int, xp: Any) -> Array:
    """(tiles,), (tiles,) -> (tiles, count) places along the sides of tiles, one in each of `count` equal parts, shifted
    by a number that each tile has: so that they walk in step with no stride."""
    i = xp.arange(0, count)
    place = (i << 10) + (i * 2654435761 + (i * i) * 7919) % 1024
    shift = (tile * 2654435761 >> 8) % 65537
    return (side[:, None] * place // (count << 10) + shift[:, None]) % side[:, None]
