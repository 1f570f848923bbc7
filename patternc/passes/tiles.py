"""The first pass of planning: each term of each head in tiles, skipped, full or partial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from patternc.analysis.axes import axis_of
from patternc.analysis.tiles import Area, Tiling, classify
from patternc.plan import TILE_K, TILE_Q, Launch, Plan, TermTiles

SHORT = 4096
"""Up to so many tokens, the lanes of layouts may not fill their tiles."""
_Form = TypeVar("_Form")


def forms(n: int, chosen: _Form, whole: Callable[[], _Form]) -> tuple[_Form, ...]:
    """What to plan at a length, of which the cheapest plan is to be taken: the terms and layouts that were chosen and,
    of a short sequence, also `whole()`, one term in consecutive tokens, if that is something else."""
    if n > SHORT:
        return (chosen,)
    other = whole()
    return (chosen,) if other == chosen else (chosen, other)


def tiles(meanings: Any, tile_q: int = TILE_Q, tile_k: int = TILE_K) -> Plan:
    """The plan with one launch for every term of every class of heads, in every batch row if these differ.

    `meanings` are those of an arrangement or of a saved module at a length; if they are not exact, no cell is looked
    at, and every tile is partial that its enclosure leaves in doubt.
    """
    known: dict[Any, tuple[Area, Tiling]] = {}
    launches = []
    for heads in meanings.classes:
        count = meanings.rows_of(heads[0])
        for b in [None] if count is None else range(count):
            for i in range(len(meanings.terms(heads[0]))):
                area, tiling = _tiled(meanings, heads[0], b, i, (tile_q, tile_k), known)
                term = TermTiles(i, area.keys, tiling.by_query, tiling.by_key)
                launches.append(Launch(heads, None if b is None else (b,), area.queries, (term,)))
    return Plan(meanings.n, meanings.n_q, meanings.heads, tile_q, tile_k, tuple(launches))


def _tiled(
    meanings: Any, h: int, b: int | None, i: int, sizes: tuple[int, int], known: dict[Any, Any]
) -> tuple[Area, Tiling]:
    """The tiles of a term; those of one multiplicity, one pair of layouts and one pair of lists are made once."""
    layouts, lists, meaning = meanings.terms(h)[i], meanings.listed(h, b, i), meanings.term(h, b, i)
    key = (getattr(meaning, "identity", id(meaning)), layouts, *map(id, lists))
    if key not in known:
        n, xp = meanings.n, meanings.xp
        area = Area(
            axis_of(layouts[0], n - meanings.n_q, n, sizes[0], lists[0], xp),
            axis_of(layouts[1], 0, n, sizes[1], lists[1], xp),
        )
        exact = meanings.exact or getattr(meaning, "exact", False)
        made = area, classify(meaning, area, xp, meanings.counter, exact=exact)
        known[key] = (*made, meaning, lists)  # what is kept keeps its identity
    return known[key][0], known[key][1]
