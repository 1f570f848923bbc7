"""Launches as kernels take them: with the same terms at every length.

The source of a kernel says how many terms it walks over, and how their keys are found. That must not hang on which of
them happen to have tiles at a length, or a new length would need new kernels, and a saved module could not have all of
them. So a launch is given every term of its heads whose queries are laid out alike; those without tiles cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from patternc.plan import LISTED, Axis, Launch, Layout, Runs, TermTiles

Layouts = Sequence[tuple[Layout, Layout]]
"""Of queries and of keys, for each term of a head."""


def terms_beside(layouts: Layouts, queries: Layout) -> list[int]:
    """The terms that may be computed together with those under a layout of queries. Widths do not count: small tiles
    reduce them, so that different ones may become equal."""
    return [i for i, (own, _) in enumerate(layouts) if (own.stride, own.listed) == (queries.stride, queries.listed)]


def complete(launch: Launch, keys: Mapping[int, Layout], n: int, tile_k: int, xp: Any) -> Launch:
    """The launch with all terms that `keys` has the layouts of, by number; all keys are listed if those of some are,
    for a kernel reads its keys in one of two ways."""
    here = {term.term: term for term in launch.terms}
    listed = any(layout.listed for layout in keys.values())
    none = Axis(LISTED, 0, n, tile_k, xp.full((tile_k,), n))
    terms = []
    for number, layout in keys.items():
        if number in here:
            term = here[number]
            terms.append(replace(term, keys=_as_list(term.keys, xp)) if listed else term)
        else:
            axis = none if listed else Axis(Layout(layout.stride, 1), 0, n, tile_k)
            terms.append(_without_tiles(number, launch.queries, axis, xp))
    return replace(launch, terms=tuple(terms))


def _as_list(axis: Axis, xp: Any) -> Axis:
    """The same slots as a list. The last slot of a tile that has slots without a token is one of them, as in others."""
    if axis.index is not None:
        return axis
    number, offset = (xp.arange(0, count) for count in (axis.tiles, axis.tile))
    return replace(axis, layout=LISTED, index=xp.small(axis.tokens(number[:, None], offset).reshape(-1)))


def _without_tiles(number: int, queries: Axis, keys: Axis, xp: Any) -> TermTiles:
    nothing = xp.full((0,), 0)
    by_query, by_key = (
        Runs(xp.full((axis.tiles + 1,), 0), nothing, nothing, nothing, nothing) for axis in (queries, keys)
    )
    return TermTiles(number, keys, by_query, by_key)
