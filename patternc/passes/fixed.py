"""Room for the plans of all calls at one length: the tiles that may be kept whatever the run-time tensors hold.

The tensors of a call only thin them out, which a device does without its host (backends/triton_drawn.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from patternc.analysis.axes import axis_of
from patternc.analysis.fixed import Candidates, UnknownElementError, all_tiles, candidates
from patternc.analysis.tiles import Area, Multiplicity
from patternc.plan import PARTIAL, TILE_K, TILE_Q, Axis, Launch, Layout, Plan, Runs, TermTiles


@dataclass(frozen=True, eq=False)
class Possible:
    """The candidates of a term of a class of heads, those of `rows` batch rows one after the other from place `start`
    on among all."""

    heads: tuple[int, ...]
    term: int
    area: Area
    tiles: Candidates
    start: int
    rows: int

    @property
    def places(self) -> int:
        return self.rows * len(self.tiles)


@dataclass(frozen=True, eq=False)
class Room:
    """A plan in which every candidate is a partial run of its own, with launches for each class of heads and batch
    row."""

    plan: Plan
    possible: tuple[Possible, ...]

    @property
    def places(self) -> int:
        return sum(possible.places for possible in self.possible)


Lists = Mapping[tuple[int, int], tuple[Axis | None, Axis | None]]
"""For the first head of a class and a term: the axes of the lists that they have, with room for all tokens."""


def room(meanings: Any, lists: Lists, tile_q: int = TILE_Q, tile_k: int = TILE_K, limit: int = 1 << 22) -> Room:
    """The room for multiplicities of unknown tensors (analysis/fixed.py).

    TooMuchWorkError if it takes to look at more than `limit` boxes of tiles, or leaves more tiles of lists.
    """
    launches: list[Launch] = []
    possible: list[Possible] = []
    start = 0
    for heads in meanings.classes:
        count = meanings.rows_of(heads[0])
        here = []
        for i, layouts in enumerate(meanings.terms(heads[0])):
            own = lists[heads[0], i]
            area = _area(meanings, layouts, own, (tile_q, tile_k))
            multiplicity = meanings.term(heads[0], None if count is None else 0, i)
            found = _candidates(multiplicity, area, own, limit, meanings.xp)
            here.append(Possible(heads, i, area, found, start, count or 1))
            start += here[-1].places
        possible += here
        groups: dict[Any, tuple[Axis, list[TermTiles]]] = {}
        for one in here:
            if len(one.tiles):
                queries = one.area.queries
                key = queries.layout if queries.index is None else id(queries)
                groups.setdefault(key, (queries, []))[1].append(_apart(one, meanings.xp))
        for b in [None] if count is None else range(count):
            rows = None if b is None else (b,)
            launches += [Launch(heads, rows, queries, tuple(terms)) for queries, terms in groups.values()]
    plan = Plan(meanings.n, meanings.n_q, meanings.heads, tile_q, tile_k, tuple(launches))
    return Room(plan, tuple(possible))


def _area(
    meanings: Any, layouts: tuple[Layout, Layout], lists: tuple[Axis | None, Axis | None], tile: tuple[int, int]
) -> Area:
    n = meanings.n
    queries = lists[0] or axis_of(layouts[0], n - meanings.n_q, n, tile[0], None, meanings.xp)
    return Area(queries, lists[1] or axis_of(layouts[1], 0, n, tile[1], None, meanings.xp))


def _candidates(
    multiplicity: Multiplicity, area: Area, lists: tuple[Axis | None, Axis | None], limit: int, xp: Any
) -> Candidates:
    if lists != (None, None):  # nothing is known of what they hold
        return all_tiles(area, limit, xp)
    try:
        return candidates(multiplicity, area, limit, xp)
    except UnknownElementError:
        return all_tiles(area, limit, xp)


def _apart(possible: Possible, xp: Any) -> TermTiles:
    """Tables in which every candidate is a run."""
    row, column = possible.tiles.row, possible.tiles.column
    turn = xp.argsort(column)
    area = possible.area
    by_query, by_key = _runs(row, column, area.rows, xp), _runs(column[turn], row[turn], area.columns, xp)
    return TermTiles(possible.term, area.keys, by_query, by_key)


def _runs(row: Any, first: Any, rows: int, xp: Any) -> Runs:
    ends = xp.searchsorted(row, xp.arange(0, rows + 1))
    one, none = (xp.full(row.shape, value) for value in (1, 0))
    return Runs(*(xp.small(a) for a in (ends, first, one, none + PARTIAL, none)))
