"""Tiles of patterns with run-time tensors, found by the device alone while the host goes on.

Which tiles may be kept whatever the tensors hold is found once for a length: the candidates. At each call the
enclosures of these tiles are evaluated with the tensors; tiles that they leave in doubt are partial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patternc.analysis.axes import enclose_tiles, tile_sizes
from patternc.analysis.boxes import bounds
from patternc.analysis.elementwise import Array
from patternc.analysis.enclosures import INT64
from patternc.analysis.strips import spread_out
from patternc.analysis.tables import Table
from patternc.analysis.tiles import Area, Counter, Multiplicity, classify, spread
from patternc.plan import Axis

# ------------------------------------------------------------------ what is known before a call


_NOTHING = {"int": 0, "float": 0.0, "bool": False}


class UnknownTable(Table):
    """A run-time tensor, with its batch axis if it has one, of which only the shape and the element type (`int`,
    `float` or `bool`) are known: its least and greatest elements are those of the type. Boxes may be asked for, of
    arrays of the namespace `xp`."""

    def __init__(self, element: str, shape: tuple[int, ...], xp: Any) -> None:
        self.element, self.shape, self.xp = element, shape, xp
        one = xp.full((1,) * len(shape), _NOTHING[element])
        self.array = xp.broadcast_to(one, shape)
        """It has the shape and the type, and is not looked at."""

    def __getitem__(self, row: int) -> UnknownTable:
        """That of a batch row."""
        return UnknownTable(self.element, self.shape[1:], self.xp)

    def part(self, fixed: tuple[int | None, ...]) -> Table:
        left = tuple(extent for extent, index in zip(self.shape, fixed, strict=True) if index is None)
        return UnknownTable(self.element, left, self.xp)

    def level(self, number: int) -> tuple[Array, Array]:
        match self.element:
            case "bool":
                return False, True
            case "int":
                return INT64
        return float("nan"), float("nan")

    def at(self, array: Array, indices: tuple[Any, ...]) -> Any:
        if array is self.array:
            raise UnknownElementError
        return array

    def extent(self) -> tuple[Any, Any]:
        return INT64


class UnknownElementError(Exception):
    """A single element of a tensor was asked for of which nothing is known."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The tiles of an area that may be kept, in order of queries, then of keys: parallel arrays of tile numbers."""

    row: Array
    column: Array

    def __len__(self) -> int:
        return int(self.row.shape[0])


def candidates(multiplicity: Multiplicity, area: Area, limit: int, xp: Any) -> Candidates:
    """The tiles that a multiplicity of unknown tensors leaves possible; TooMuchWorkError if that takes a look at more
    than `limit` boxes."""
    by_query = classify(multiplicity, area, xp, Counter(limit=limit), exact=False).by_query
    run, offset = spread_out(by_query.count, xp)
    row = spread_out(by_query.rows[1:] - by_query.rows[:-1], xp)[0][run]
    return Candidates(row, xp.integer(by_query.first[run] + offset))


def all_tiles(area: Area, limit: int, xp: Any) -> Candidates:
    """All tiles of an area; TooMuchWorkError if they are more than `limit`."""
    Counter(limit=limit).count(boxes=area.rows * area.columns)
    number = xp.arange(0, area.rows * area.columns)
    return Candidates(number // area.columns, number % area.columns)


# ------------------------------------------------------------------ what the tensors of a call decide


def looked_at(multiplicity: Multiplicity, area: Area, row: Array, column: Array, xp: Any) -> tuple[Array, Array]:
    """Of tiles: whether a cell may be kept, and the multiplicity that all cells surely have, else 0; `xp` may be any
    namespace of arrays that are computed element by element."""
    queries, some_query = enclose_tiles(area.queries, row, xp)
    keys, some_key = enclose_tiles(area.keys, column, xp)
    with xp.quiet():
        m = multiplicity(queries, keys)
    lo, hi = (spread(b, row.shape, xp) for b in bounds(m))
    kept = some_query & some_key & (hi > 0)
    return kept, xp.where(kept & (lo == hi), lo, 0)


def has_gaps(axis: Axis, number: Array, xp: Any) -> Any:
    """Whether tiles have slots without a token."""
    return tile_sizes(axis, number, xp) < axis.tile
