"""The blocks that a set touches, where its conditions on the query alone and on the key alone stand by themselves.

In a box in which all other conditions hold everywhere, a block holds a cell of the set just where its row of blocks
holds a chosen query and its column of blocks a chosen key; where either has none, nothing is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patternc.analysis.axes import consecutive_axis
from patternc.analysis.elementwise import Array
from patternc.analysis.strips import Strips, merged, spread_out
from patternc.analysis.tiles import Area, Counter, Multiplicity, bisect, full_strips, single_strips, tile_bounds


@dataclass(frozen=True, eq=False)
class Apart:
    """A set as an intersection: of queries, which hang on q alone, of keys, which hang on k alone, and the rest."""

    queries: Multiplicity
    keys: Multiplicity
    rest: Multiplicity


@dataclass(frozen=True, eq=False)
class Chosen:
    """The tiles of an axis that hold a chosen token: runs of them, disjoint and ascending."""

    starts: Array
    ends: Array

    def touched(self, level: int, box: Array, xp: Any) -> Array:
        """Whether boxes of 2^level tiles hold one of them."""
        after = xp.searchsorted(self.starts, (box + 1) << level)
        return after > xp.searchsorted(self.ends, box << level, right=True)


@dataclass(frozen=True, eq=False)
class Sieve:
    """Rows and columns of tiles."""

    rows: Chosen
    columns: Chosen
    xp: Any

    def touched(self, level: int, row: Array, column: Array) -> Array:
        """Whether boxes of 2^level rows and columns hold a tile of both."""
        return self.rows.touched(level, row, self.xp) & self.columns.touched(level, column, self.xp)

    def through(self, strips: Strips) -> Strips:
        """What strips along keys hold of both."""
        xp, rows, columns = self.xp, self.rows, self.columns
        at = xp.flatnonzero(rows.touched(0, strips.row, xp))
        row, first, end = strips.row[at], strips.first[at], strips.first[at] + strips.count[at]
        before = xp.searchsorted(columns.ends, first, right=True)
        strip, offset = spread_out(xp.searchsorted(columns.starts, end) - before, xp)
        run = before[strip] + offset
        first = xp.maximum(first[strip], columns.starts[run])
        count = xp.minimum(end[strip], columns.ends[run]) - first
        return _alike(row[strip], first, count, xp)


def touched_tiles(
    multiplicity: Multiplicity, area: Area, xp: Any, counter: Counter, apart: Apart | None = None
) -> Strips:
    """The tiles that hold a cell, of an area in consecutive tokens, as strips along keys of one kind and weight."""
    sieve = None if apart is None else _sieve(apart, area, xp, counter)
    rest, held = (multiplicity, None) if apart is None or sieve is None else (apart.rest, sieve.touched)
    found = []
    for boxes in bisect(rest, area, xp, counter, any_cell=True, held=held):
        if boxes.weight is not None:
            strips, _ = full_strips(area, boxes, xp)
            strips = strips if sieve is None else sieve.through(strips)
        else:
            lo, hi = tile_bounds(multiplicity, area, boxes.row, boxes.column, xp, counter, any_cell=True)
            strips, _ = single_strips(boxes.row, boxes.column, lo, hi, xp)
        found.append(merged([_alike(strips.row, strips.first, strips.count, xp)], xp))
    return merged(found, xp)


def _alike(row: Array, first: Array, count: Array, xp: Any) -> Strips:
    one = xp.full(row.shape, 1)
    return Strips(row, first, count, one, one)


def _sieve(apart: Apart, area: Area, xp: Any, counter: Counter) -> Sieve:
    one = consecutive_axis(0, 1, 1)
    columns = touched_tiles(apart.keys, Area(one, area.keys), xp, counter)
    rows = touched_tiles(_turned(apart.queries), Area(one, area.queries), xp, counter)
    return Sieve(_chosen(rows), _chosen(columns), xp)


def _chosen(strips: Strips) -> Chosen:
    return Chosen(strips.first, strips.first + strips.count)


def _turned(multiplicity: Multiplicity) -> Multiplicity:
    return lambda q, k: multiplicity(k, q)
