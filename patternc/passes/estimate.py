"""Which tiles a pattern touches under a layout, at a length of reference, from one look at the enclosure of each tile.

An estimate only decides what is fast. It is sound in one direction, for it may see a tile touched that is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from patternc import ir, machine
from patternc.analysis.arrays import NUMPY
from patternc.analysis.axes import axis_of, enclose_tiles
from patternc.analysis.boxes import bounds
from patternc.analysis.enclosures import Boxes
from patternc.analysis.evaluate import Meaning, Unread
from patternc.analysis.numbers import Cells
from patternc.passes.nature import size
from patternc.plan import CONSECUTIVE, Array, Axis, Layout
from patternc.rewrite import walk
from patternc.specialise import specialise

MOST_TILES = 1 << 16
"""Tiles of the length of reference; it is shorter where tiles are small."""
LOOKED = 1 << 15
"""Tiles looked at in one estimate; of more, some rows are taken."""
FEWEST_TILES = 1 << 12
"""The same where many patterns share the time."""
LEAST_ROWS = 8
GOLDEN = 0.6180339887498949
"""Its multiples fill the unit interval evenly."""
MOST_PARTS = 4
"""Lines of a tile that are looked at one by one."""


@dataclass(frozen=True, eq=False, slots=True)
class Listing:
    """The set of a listed side; equal sets of one search are the same object."""

    pattern: ir.Pattern


@dataclass(frozen=True, slots=True)
class Side:
    """A layout of one side, and the set of a listed one."""

    layout: Layout = CONSECUTIVE
    listed: Listing | None = None


PLAIN = Side()


@dataclass(frozen=True, slots=True)
class Way:
    """The layouts of queries and keys for one term."""

    queries: Side = PLAIN
    keys: Side = PLAIN

    @property
    def plain(self) -> bool:
        return self == Way()

    @property
    def boxed(self) -> bool:
        """Whether neither side is listed."""
        return self.queries.listed is None and self.keys.listed is None


@dataclass(frozen=True, eq=False)
class Tiles:
    """Tiles (rows, columns) of a way: those where M may be positive, and of these the ones where it is constant. They
    stand for `scale` times as many."""

    touched: Array
    full: Array
    scale: float

    def without(self, other: Tiles) -> Tiles:
        """The tiles of a set when another one is taken out of it."""
        return Tiles(self.touched & ~other.full, self.full & ~other.touched, self.scale)


def united(parts: Iterable[Tiles], *, bag: bool) -> Tiles:
    """The tiles of the union of sets, or of the sum of bags, under one way."""

    def two(a: Tiles, b: Tiles) -> Tiles:
        either = (a.full | ~a.touched) & (b.full | ~b.touched) if bag else a.full | b.full
        return Tiles(a.touched | b.touched, either & (a.touched | b.touched), a.scale)

    return reduce(two, parts)


class WorkSpentError(Exception):
    """No further estimate is allowed."""


@dataclass(eq=False)
class Budget:
    """How much may still be estimated, in nodes of patterns times tiles."""

    left: float

    def spend(self, work: float) -> None:
        """WorkSpentError if the budget does not have it."""
        if work > self.left:
            raise WorkSpentError
        self.left -= work


def reference_length(program: ir.Program, tile: tuple[int, int]) -> int:
    """The grid's size, if the program has a grid; else the length of reference, or less where tiles are small."""
    for grid in program.grids:
        extents = [int(extent.value) for extent in grid.extents if isinstance(extent, ir.Const)]
        if len(extents) == len(grid.extents):
            return max(1, math.prod(extents))
    n = machine.REFERENCE_LENGTH
    while (n // tile[0]) * (n // tile[1]) > MOST_TILES:
        n //= 2
    return n


class Reference:
    """The estimates at one length, for the head `h` and tiles (queries, keys), of which at most so many are looked at
    once. Each is made once.

    `tensors` are the program's run-time tensors, of which nothing is known. For a length that the program does not
    admit, estimates are a SpatError.
    """

    def __init__(
        self, n: int, tile: tuple[int, int], h: int, tensors: Iterable[ir.Tensor], budget: Budget, most: int
    ) -> None:
        self.n, self.tile, self.budget, self._h, self._most = n, tile, budget, h, most
        self._tables = {"": Unread("bool"), **{t.name: Unread(t.element) for t in tensors}}
        self._axes: dict[tuple[Side, int], Axis] = {}
        self._tiles: dict[tuple[int, Way], Tiles] = {}
        self._meanings: dict[int, tuple[ir.Pattern, Meaning, int]] = {}

    def axis(self, side: Side, which: int) -> Axis:
        """The queries (0) or the keys (1) in a layout."""
        if (side, which) not in self._axes:
            positions = None if side.listed is None else self._listed(side.listed.pattern)
            self._axes[side, which] = axis_of(side.layout, 0, self.n, self.tile[which], positions, NUMPY)
        return self._axes[side, which]

    def tiles(self, pattern: ir.Pattern, way: Way) -> Tiles:
        """The tiles of a pattern under a way; WorkSpentError beyond the budget."""
        key = id(pattern), way
        if key not in self._tiles:
            self._tiles[key] = self._estimate(pattern, way)
        return self._tiles[key]

    def _meaning(self, pattern: ir.Pattern) -> tuple[Meaning, int]:
        if id(pattern) not in self._meanings:
            bound = specialise(pattern, {"n": self.n})
            nodes = size(bound, 1 << 20)
            self.budget.spend(nodes)
            meaning = Meaning(bound, n=self.n, n_q=self.n, h=self._h, tables=self._tables, xp=NUMPY, lazy=True)
            self._meanings[id(pattern)] = pattern, meaning, nodes
        return self._meanings[id(pattern)][1:]

    def _estimate(self, pattern: ir.Pattern, way: Way) -> Tiles:
        meaning, nodes = self._meaning(pattern)
        queries, keys = self.axis(way.queries, 0), self.axis(way.keys, 1)
        if not queries.tiles * keys.tiles:
            nothing = np.zeros((1, 1), bool)
            return Tiles(nothing, nothing, 1.0)
        kept = min(queries.tiles, max(LEAST_ROWS, self._most // keys.tiles))
        parts = _parts(queries), _parts(keys)
        self.budget.spend(nodes * kept * keys.tiles * math.prod(parts))
        rows, columns = _spread(queries.tiles, kept), np.arange(keys.tiles)
        shape = len(rows), parts[0], len(columns), parts[1]
        q, in_q = _enclosed(queries, rows[:, None, None, None], np.arange(parts[0])[None, :, None, None])
        k, in_k = _enclosed(keys, columns[None, None, :, None], np.arange(parts[1])[None, None, None, :])
        with NUMPY.quiet():
            low, high = bounds(meaning(q, k))
        there = in_q & in_k
        touched = np.broadcast_to((high > 0) & there, shape)
        whole = np.broadcast_to((low == high) & (high > 0) | ~there, shape).all((1, 3))
        some = touched.any((1, 3))
        return Tiles(some, some & whole, queries.tiles / len(rows))

    def _listed(self, pattern: ir.Pattern) -> Array:
        """The positions in a set that depends on one side; of one known at run time only, so many as are assumed."""
        bound = specialise(pattern, {"n": self.n})
        self.budget.spend(size(bound) * self.n / 8)
        args = bound.args if isinstance(bound, ir.Product) else (bound,)
        static = tuple(arg for arg in args if not any(isinstance(x, ir.Read) for x in walk(arg)))
        known = Meaning(ir.Product(static), n=self.n, n_q=self.n, h=self._h, tables={}, xp=NUMPY, lazy=True)
        every = Cells(np.arange(self.n), True, NUMPY)
        with NUMPY.quiet():
            kept = bounds(known(every, every))[0]
        share = math.prod(density(arg) for arg in args if arg not in static)
        return np.flatnonzero(np.broadcast_to(kept, (self.n,)))[:: round(1 / max(share, 1 / self.n))]


def _spread(rows: int, kept: int) -> Array:
    """So many of the rows: one of each of as many equal parts, at a place in it that follows no period."""
    part = np.arange(kept)
    return ((part + part * GOLDEN % 1.0) * rows // kept).astype(np.int64) if kept < rows else part


def _parts(axis: Axis) -> int:
    """In how many parts tiles are looked at: one for each line of a tile with few long lines, for what holds on every
    second block, say, is not seen by an enclosure of both."""
    return axis.depth if axis.layout.width > 1 and axis.depth <= MOST_PARTS else 1


def _enclosed(axis: Axis, number: Array, part: Array) -> tuple[Boxes, Array]:
    """Enclosures of the parts of tiles, and which parts hold a token; the arrays broadcast."""
    parts = part.size
    if parts == 1:
        return enclose_tiles(axis, number, NUMPY)
    lines = replace(axis, tile=axis.layout.width)
    along = number % axis.per_lane * parts + part
    lane = number // axis.per_lane * lines.per_lane
    boxes, held = enclose_tiles(lines, lane + np.minimum(along, lines.per_lane - 1), NUMPY)
    return boxes, held & (along < lines.per_lane)


def density(node: ir.Node) -> float:
    """The share of tokens that a condition on one side, known at run time only, is assumed to hold for."""
    match node:
        case ir.Where(inner) | ir.Blocks(_, inner) | ir.Cover(_, inner) | ir.Support(inner):
            return density(inner)
        case ir.Complement(a) | ir.Unary("not", a):
            return 1 - density(a)
        case ir.Product(args) | ir.And(args):
            return math.prod(map(density, args))
        case ir.Union(args) | ir.Or(args):
            return min(1.0, sum(map(density, args)))
        case ir.Const(value):
            return float(bool(value))
        case ir.Read() | ir.Compare("=="):
            return machine.FLAG_DENSITY
        case ir.Compare("!="):
            return 1 - machine.FLAG_DENSITY
    return 0.5
