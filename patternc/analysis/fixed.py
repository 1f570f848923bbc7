"""Tiles of patterns with run-time tensors, found by the device alone while the host goes on.

Which tiles may be kept whatever the tensors hold is found once for a length. At each call the enclosures of those tiles
are evaluated with the tensors; what they leave in doubt is partial. Tables have room for every tile that may be kept:
entries from `rows[-1]` on mean nothing. Nothing here waits for a number of the device: `xp` need not have `any`,
`repeat` or `flatnonzero`, nor `item` of its arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patternc.analysis.arrays import NumpyArrays
from patternc.analysis.axes import enclose_tiles
from patternc.analysis.boxes import bounds
from patternc.analysis.elementwise import Array
from patternc.analysis.strips import spread_out
from patternc.analysis.tiles import Area, Multiplicity, Tiling, classify, spread
from patternc.plan import FULL, LISTED, PARTIAL, Axis, Runs


@dataclass(frozen=True, eq=False)
class Order:
    """Tiles in order of one side's tiles (`row`), then of the other's (`column`)."""

    row: Array
    column: Array
    ends: Array
    """(rows + 1,): where each row's tiles start."""
    meets: Array
    """Whether a tile follows on the one before it: the next one of the same row and lane."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Tiles that may be kept, in the order of queries and in that of keys."""

    by_query: Order
    by_key: Order
    turn: Array
    """For each tile in the order of keys, its place in the order of queries."""


def candidates(multiplicity: Multiplicity, area: Area, host: NumpyArrays, xp: Any) -> Candidates:
    """The tiles that a multiplicity leaves possible which knows no run-time tensor; evaluated on the host by NumPy and
    brought to `xp`. Where a side is listed all tiles are possible, for nothing is known of the list."""
    if area.queries.layout.listed or area.keys.layout.listed:
        row, column = spread_out(host.full((area.rows,), area.columns), host)
    else:
        by_query = classify(multiplicity, area, host, exact=False).by_query
        run, offset = spread_out(by_query.count, host)
        row = spread_out(by_query.rows[1:] - by_query.rows[:-1], host)[0][run]
        column = by_query.first[run] + offset
    turn = host.argsort(column)
    return Candidates(
        _order(row, column, area.queries, area.keys, host, xp),
        _order(column[turn], row[turn], area.keys, area.queries, host, xp),
        xp.asarray(turn),
    )


def _order(row: Array, column: Array, rows: Axis, columns: Axis, host: NumpyArrays, xp: Any) -> Order:
    ends = host.searchsorted(row, host.arange(0, rows.tiles + 1))
    after = (row[1:] == row[:-1]) & (column[1:] == column[:-1] + 1) & (column[1:] % max(1, columns.per_lane) > 0)
    meets = host.concatenate([host.full((min(1, row.shape[0]),), False), after])
    row, column, ends, meets = (xp.asarray(a) for a in (row, host.integer(column), ends, meets))
    return Order(row, column, ends, meets)


def fixed_tiling(multiplicity: Multiplicity, area: Area, possible: Candidates, xp: Any) -> Tiling:
    """Of the candidates, the tiles that are not surely empty: full where their enclosures say so, else partial."""
    order = possible.by_query
    if not order.row.shape[0]:
        return Tiling(_no_runs(order, xp), _no_runs(possible.by_key, xp))
    queries, some_query = enclose_tiles(area.queries, order.row, xp)
    keys, some_key = enclose_tiles(area.keys, order.column, xp)
    with xp.quiet():
        m = multiplicity(queries, keys)
    lo, hi = (spread(b, order.row.shape, xp) for b in bounds(m))
    kept = (hi > 0) & some_query & some_key
    weight = xp.where(kept & (lo == hi), lo, 0)
    turn = possible.turn
    return Tiling(_runs(order, kept, weight, xp), _runs(possible.by_key, kept[turn], weight[turn], xp))


def _no_runs(order: Order, xp: Any) -> Runs:
    nothing = xp.small(xp.arange(0, 0))
    return Runs(xp.small(order.ends), nothing, nothing, nothing, nothing)


def _runs(order: Order, kept: Array, weight: Array, xp: Any) -> Runs:
    """The kept tiles as runs; weight 0 is partial. The r-th run starts at the r-th tile that goes on no other."""
    tiles = kept.shape[0]
    goes_on = xp.concatenate([xp.full((1,), False), kept[:-1] & (weight[1:] == weight[:-1])])
    starts = kept & ~(goes_on & order.meets)
    before = _running(starts, xp)
    at = placed(starts, xp.arange(0, tiles), tiles, xp)
    held = _running(kept, xp)
    following = xp.concatenate([at[1:], xp.full((1,), tiles)])
    # Between two starts, tiles that are not kept may lie; those after the last start are counted to the end.
    count = held[following] - held[at]
    source = xp.minimum(at, tiles - 1)
    weight = weight[source]
    kind = xp.where(weight > 0, FULL, PARTIAL)
    rows, first, count, kind = (xp.small(a) for a in (before[order.ends], order.column[source], count, kind))
    return Runs(rows, first, count, kind, weight)


def _running(chosen: Array, xp: Any) -> Array:
    """(items + 1,): how many are chosen before each place."""
    return xp.concatenate([xp.full((1,), 0), xp.cumsum(xp.integer(chosen))])


def placed(chosen: Array, values: Array, unused: int, xp: Any) -> Array:
    """The chosen values in their order, and then `unused`, in an array as long as `values`."""
    room = values.shape[0]
    result = xp.full((room + 1,), unused)
    result[xp.where(chosen, _running(chosen, xp)[:-1], room)] = values
    return result[:-1]


def fixed_list(chosen: Array, start: int, tile: int, xp: Any) -> Axis:
    """The axis of those of the positions from `start` on that are chosen, with room for all of them."""
    room = chosen.shape[0]
    stop = start + room
    index = placed(chosen, xp.arange(start, stop), stop, xp)
    missing = -room % tile
    return Axis(LISTED, start, stop, tile, xp.concatenate([index, xp.full((missing,), stop)]) if missing else index)
