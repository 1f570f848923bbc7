"""What a backend is given: which tiles of queries and keys to compute, and how.

A plan is made for one length. The tokens of a side are numbered tile by tile in a layout, and tables speak of tiles by
their number. A launch covers some heads and batch rows with one layout of queries; it walks over the tiles of one or
more terms, each with its own layout of keys. The multiplicity of a cell is the sum over all terms of all launches of a
head; where the pattern is a set, the terms are disjoint. The results of several launches of one head are merged by
their log-sum-exp. Everything is there twice: by query tile (for outputs and dq) and by key tile (for dk and dv).

Positions are those of the sequence: query i stands at position n - n_q + i.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FULL, PARTIAL = 0, 1
"""Kinds of a run. In a full run every cell has the same multiplicity, so no mask is computed; a tile of which some
slots hold no token is full too when all its cells of two tokens are."""

TILE_Q, TILE_K = 128, 64
"""Queries and keys of a tile, unless others are asked for."""

Array = Any
"""An integer array of NumPy, or a tensor on the plan's device."""


@dataclass(frozen=True, order=True, slots=True)
class Layout:
    """The order in which tiles take tokens.

    With token = stride · line + column, a tile of t tokens takes `width` neighbouring columns (a power of two) on
    t / width successive lines. (1, 1) is consecutive tokens; (16, 1) every 16th; on a grid with rows of 128 tokens
    (128, 16) is a box of 16 columns, and (128, 8) takes the same 8 columns out of each block of 128 tokens. If
    `listed`, stride and width are 1 and only the tokens in a list are there, in its order.
    """

    stride: int = 1
    width: int = 1
    listed: bool = False


CONSECUTIVE = Layout()
LISTED = Layout(listed=True)


@dataclass(frozen=True, eq=False)
class Axis:
    """The positions `start` up to `stop` of one side, cut into tiles of `tile` slots.

    The columns of the layout form lanes of `width` columns. A lane is cut into tiles along its lines, `per_lane` of
    them; tile number t is tile t % per_lane of lane t // per_lane. Slots of the first and last lines and of the last
    lane may hold no token.
    """

    layout: Layout
    start: int
    stop: int
    tile: int
    index: Array | None = None
    """Listed layouts: (tiles · tile,) ascending positions, then `stop` for slots without a token."""

    @property
    def first_line(self) -> int:
        return self.start // self.layout.stride

    @property
    def lines(self) -> int:
        """Lines that hold a token of the axis."""
        return (self.stop - 1) // self.layout.stride - self.first_line + 1

    @property
    def depth(self) -> int:
        """Lines of a tile."""
        return self.tile // self.layout.width

    @property
    def per_lane(self) -> int:
        """Tiles of a lane."""
        return -(-self.lines // self.depth) if self.index is None else self.index.shape[0] // self.tile

    @property
    def lanes(self) -> int:
        return -(-self.layout.stride // self.layout.width)

    @property
    def tiles(self) -> int:
        return self.lanes * self.per_lane

    def tokens(self, number: Any, offset: Any) -> Any:
        """The positions in slots `offset` of tiles `number`, integers or arrays that broadcast; `stop` where a slot
        holds no token."""
        if self.index is not None:
            return self.index[number * self.tile + offset]
        stride, width = self.layout.stride, self.layout.width
        line = self.first_line + number % self.per_lane * self.depth + offset // width
        column = number // self.per_lane * width + offset % width
        token = line * stride + column
        outside = (column >= stride) | (token < self.start) | (token >= self.stop)
        return token + outside * (self.stop - token)

    def slots(self, token: Any) -> Any:
        """Tile number · tile + slot of positions on an axis that is not listed."""
        stride, width = self.layout.stride, self.layout.width
        line, column = token // stride - self.first_line, token % stride
        number = column // width * self.per_lane + line // self.depth
        return number * self.tile + line % self.depth * width + column % width


@dataclass(frozen=True, eq=False)
class Runs:
    """Adjacent tiles, row by row: runs `rows[i]` up to `rows[i + 1]` belong to tile row i, in order of `first`.

    All arrays are int32 or int64. A row is a tile number of one axis; a run is `count` tiles from tile number `first`
    on, of the other axis, all in one lane. Runs of a row do not overlap.
    """

    rows: Array
    """(number of tile rows + 1,): where each row's runs start."""
    first: Array
    """(runs,): the number of the first tile."""
    count: Array
    """(runs,): how many tiles the run has."""
    kind: Array
    """(runs,): FULL or PARTIAL."""
    weight: Array
    """(runs,): the multiplicity of a full run; 0 for a partial one."""


@dataclass(frozen=True, eq=False)
class TermTiles:
    """The tiles of one term under the launch's layout of queries and its own layout of keys."""

    term: int
    """Its number among the terms of its heads."""
    keys: Axis
    by_query: Runs
    """Rows are tiles of the launch's queries, runs walk over `keys`."""
    by_key: Runs
    """Rows are tiles of `keys`, runs walk over the launch's queries."""


@dataclass(frozen=True, eq=False)
class Work:
    """The rows of a launch as items of work, heaviest first. A row too long for its share of a device is cut: its
    tiles, taken term by term and run by run, go to several items, whose results are merged in order of `start`."""

    row: Array
    """(items,): the tile row."""
    start: Array
    """(items,): the first of the row's tiles that belongs to the item, counted from 0."""
    stop: Array
    """(items,): one past the last."""


@dataclass(frozen=True, eq=False)
class Launch:
    """What is computed together. `heads` and `batch` say who follows it; `batch` is None for "every batch row"."""

    heads: tuple[int, ...]
    batch: tuple[int, ...] | None
    queries: Axis
    terms: tuple[TermTiles, ...]
    by_query: Work | None = None
    """Items of rows of queries; None: every row is one item."""
    by_key: tuple[Work, ...] | None = None
    """For each term, items of rows of its keys."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The schedule of one program at one length."""

    n: int
    n_q: int
    heads: int
    tile_q: int
    tile_k: int
    launches: tuple[Launch, ...]
