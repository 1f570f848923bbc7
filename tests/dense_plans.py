"""Plans against dense multiplicities, tile by tile, under any layouts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from patternc.plan import FULL, PARTIAL, Axis, Launch, Plan, Runs

Array = np.ndarray
Tile = tuple[int, int]
"""A tile number of the queries and one of the keys."""


def tiles_of(runs: Runs, rows: int, axis: Axis) -> dict[Tile, tuple[int, int]]:
    """(row, tile number along `axis`): kind and weight. The runs must have the form that plan.py states."""
    bounds, first, count, kind, weight = (
        np.asarray(a).tolist() for a in (runs.rows, runs.first, runs.count, runs.kind, runs.weight)
    )
    assert len(bounds) == rows + 1
    assert (bounds[0], bounds[-1]) == (0, len(first))
    assert len(first) == len(count) == len(kind) == len(weight)
    found: dict[Tile, tuple[int, int]] = {}
    for row in range(rows):
        end, before = 0, None
        for r in range(bounds[row], bounds[row + 1]):
            start, stop = first[r], first[r] + count[r]
            assert end <= start < stop <= axis.tiles, "runs overlap, are empty or leave the axis"
            assert start // axis.per_lane == (stop - 1) // axis.per_lane, "a run leaves its lane"
            assert weight[r] == 0 if kind[r] == PARTIAL else weight[r] > 0
            told = (kind[r], weight[r], start // axis.per_lane)
            assert start > end or told != before, "adjacent runs are one"
            found.update({(row, tile): (kind[r], weight[r]) for tile in range(start, stop)})
            end, before = stop, told
    return found


def slots(axis: Axis) -> Array:
    """(tiles, tile): the position in each slot, `stop` where there is none; every token has at most one slot."""
    found = np.asarray(axis.tokens(np.arange(axis.tiles)[:, None], np.arange(axis.tile)[None]))
    held = found[found != axis.stop]
    assert len(held) == 0 or (axis.start <= held.min() and held.max() < axis.stop)
    assert len(np.unique(held)) == len(held)
    return found


def places(axis: Axis) -> tuple[Array, Array]:
    """The positions that the axis holds, and the number of the tile that each is in."""
    found = slots(axis)
    tile, slot = np.nonzero(found != axis.stop)
    return found[tile, slot], tile


def what_tiles_are(m: Array, first: int, queries: Axis, keys: Axis) -> dict[Tile, tuple[int, int]]:
    """Of every tile in which `m` (n_q, n), whose rows begin at position `first`, has a cell above 0: kind, weight."""
    (rows, row_tile), (columns, column_tile) = places(queries), places(keys)
    cells, at = m[np.ix_(rows - first, columns)], np.ix_(row_tile, column_tile)
    most, least = np.zeros((queries.tiles, keys.tiles), m.dtype), np.full((queries.tiles, keys.tiles), m.max(initial=0))
    np.maximum.at(most, at, cells)
    np.minimum.at(least, at, cells)
    touched = zip(*(found.tolist() for found in np.nonzero(most)), strict=True)
    return {(i, j): (FULL, int(most[i, j])) if least[i, j] == most[i, j] else (PARTIAL, 0) for i, j in touched}


def check_launch(launch: Launch, terms: Mapping[int, Array], first: int) -> Array:
    """Every tile of the launch must be what the term's multiplicities (n_q, n) make it, in both majors. Returns those
    that the launch computes, all terms together."""
    total = np.zeros_like(next(iter(terms.values())))
    assert len({term.term for term in launch.terms}) == len(launch.terms)
    for term in launch.terms:
        m = held(terms[term.term], first, launch.queries, term.keys)
        expected = what_tiles_are(m, first, launch.queries, term.keys)
        assert tiles_of(term.by_query, launch.queries.tiles, term.keys) == expected
        by_key = tiles_of(term.by_key, term.keys.tiles, launch.queries)
        assert {(i, j): told for (j, i), told in by_key.items()} == expected
        total += m
    return total


def held(m: Array, first: int, queries: Axis, keys: Axis) -> Array:
    """`m` where both axes hold the tokens, 0 elsewhere."""
    out, cells = np.zeros_like(m), np.ix_(places(queries)[0] - first, places(keys)[0])
    out[cells] = m[cells]
    return out


def check_plan(plan: Plan, h: int, b: int, terms: Mapping[int, Array], m: Array) -> None:
    """All that a head computes in a batch row: `terms` are the multiplicities (n_q, n) of its terms, `m` those of its
    pattern. Every term is in one launch, unless it is empty."""
    followed = [x for x in plan.launches if h in x.heads and (x.batch is None or b in x.batch)]
    numbers = [term.term for launch in followed for term in launch.terms]
    assert len(set(numbers)) == len(numbers)
    total = sum((check_launch(launch, terms, plan.n - plan.n_q) for launch in followed), np.zeros_like(m))
    assert np.array_equal(total, m)
