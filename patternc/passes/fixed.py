"""Plans of patterns with run-time tensors that the host only enqueues: it never waits for a number of the device.

They say what the other passes say with more partial tiles, for no cell is looked at, and in larger tables, which have
room for whatever the tensors may hold. Every head class and batch row has launches of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patternc import ir
from patternc.analysis.arrays import NUMPY
from patternc.analysis.axes import axis_of
from patternc.analysis.fixed import Candidates, candidates, fixed_list, fixed_tiling
from patternc.analysis.meanings import Meanings
from patternc.analysis.tiles import Area
from patternc.arrangement import Arrangement
from patternc.plan import TILE_K, TILE_Q, Axis, Launch, Layout, Plan, TermTiles
from patternc.rewrite import walk


def can_be_enqueued(arrangement: Arrangement) -> bool:
    """Whether plans can be made without waiting: selections and covers are counted, and that waits."""
    relations = ir.Cover | ir.Top | ir.Sample
    return not any(
        isinstance(node, relations) for own in arrangement.classes for term in own.terms for node in walk(term.pattern)
    )


@dataclass(eq=False)
class FixedPlanner:
    """What plans of one length have in common: the tiles that may be kept at all, found by the host once.

    Precondition: `can_be_enqueued(arrangement)`. SpatError if the program does not admit the length.
    """

    arrangement: Arrangement
    n: int
    n_q: int
    xp: Any
    tile_q: int = TILE_Q
    tile_k: int = TILE_K

    def __post_init__(self) -> None:
        self._static = Meanings(self.arrangement, n=self.n, n_q=self.n_q, tensors={}, xp=NUMPY)
        self._candidates: dict[tuple[int, int], Candidates] = {}

    def plan(self, meanings: Meanings) -> Plan:
        """The plan of the arrangement with its run-time tensors, which are arrays of `xp`."""
        launches = []
        for heads in meanings.classes:
            count = meanings.rows_of(heads[0])
            for b in [None] if count is None else range(count):
                launches += self._launches(meanings, heads, b)
        return Plan(self.n, self.n_q, meanings.heads, self.tile_q, self.tile_k, tuple(launches))

    def _launches(self, meanings: Meanings, heads: tuple[int, ...], b: int | None) -> list[Launch]:
        """Of some heads in a batch row, a launch for each layout of queries."""
        lists: dict[int, Axis] = {}
        groups: dict[Any, tuple[Axis, list[TermTiles]]] = {}
        for i, layouts in enumerate(meanings.terms(heads[0])):
            chosen = meanings.chosen(heads[0], b, i)
            area = Area(
                self._axis(layouts[0], self.n - self.n_q, self.tile_q, chosen[0], lists),
                self._axis(layouts[1], 0, self.tile_k, chosen[1], lists),
            )
            possible = self._possible(heads[0], i, area)
            tiling = fixed_tiling(meanings.term(heads[0], b, i), area, possible, self.xp)
            key = layouts[0] if chosen[0] is None else id(area.queries)
            term = TermTiles(i, area.keys, tiling.by_query, tiling.by_key)
            groups.setdefault(key, (area.queries, []))[1].append(term)
        rows = None if b is None else (b,)
        return [Launch(heads, rows, queries, tuple(terms)) for queries, terms in groups.values()]

    def _axis(self, layout: Layout, start: int, tile: int, chosen: Any, lists: dict[int, Axis]) -> Axis:
        if chosen is None:
            return axis_of(layout, start, self.n, tile, None, self.xp)
        return lists.setdefault(id(chosen), fixed_list(chosen, start, tile, self.xp))

    def _possible(self, h: int, i: int, area: Area) -> Candidates:
        if (h, i) not in self._candidates:
            meaning = self._static.term(h, None, i)
            self._candidates[h, i] = candidates(meaning, area, NUMPY, self.xp)
        return self._candidates[h, i]
