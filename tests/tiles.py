"""Plans against dense multiplicities: every tile must be what the mask makes it, no more and no less."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from axes import NOBODY, filled

from patternc.plan import FULL, PARTIAL, Axis, Launch, Plan, Runs, TermTiles

Cells = np.ndarray
"""(n_q, n)"""


def kinds(runs: Runs, rows: int, axis: Axis) -> Iterator[tuple[int, int, int, int]]:
    """Row, tile, kind and weight of every tile that the runs name; they may not overlap, go in order, and none leaves
    its lane."""
    bounds, first, count, kind, weight = (
        np.asarray(a).tolist() for a in (runs.rows, runs.first, runs.count, runs.kind, runs.weight)
    )
    assert len(bounds) == rows + 1
    assert bounds[0] == 0
    assert bounds[-1] <= len(first) == len(count) == len(kind) == len(weight)  # some tables have room for more
    for i in range(rows):
        end = 0
        for r in range(bounds[i], bounds[i + 1]):
            stop = first[r] + count[r]
            assert end <= first[r] < stop <= axis.tiles
            assert first[r] // axis.per_lane == (stop - 1) // axis.per_lane
            assert (kind[r], weight[r]) == (PARTIAL, 0) or (kind[r] == FULL and weight[r] > 0)
            yield from ((i, tile, kind[r], weight[r]) for tile in range(first[r], stop))
            end = stop


def users(launch: Launch, batch: int) -> Iterator[tuple[int, int]]:
    rows = range(batch) if launch.batch is None else launch.batch
    return ((b, h) for b in rows for h in launch.heads)


def said(launch: Launch, term: TermTiles, shape: tuple[int, int]) -> tuple[Cells, Cells]:
    """What the full tiles of a term add to each cell, and whether a partial tile holds it. Both tables say the same."""
    added, open_ = np.zeros(shape, np.int64), np.zeros(shape, bool)
    by_query = set(kinds(term.by_query, launch.queries.tiles, term.keys))
    by_key = {(j, i, *rest) for i, j, *rest in kinds(term.by_key, term.keys.tiles, launch.queries)}
    assert by_query == by_key
    rows, columns = filled(launch.queries), filled(term.keys)
    first = shape[1] - shape[0]
    for i, j, kind, weight in by_query:
        cells = np.ix_([q - first for q in rows[i] if q != NOBODY], [k for k in columns[j] if k != NOBODY])
        assert added[cells].size, "a tile without a cell"
        added[cells] += weight
        open_[cells] |= kind == PARTIAL
    return added, open_


def check_plan(plan: Plan, m: np.ndarray, *, exact: bool = True) -> None:
    """`m` is the mask, (heads, n_q, n) or (B, heads, n_q, n). Full tiles must say what it says, and partial ones hold
    what full ones leave open; if a head has one term, `exact` partial tiles are of more than one multiplicity."""
    m = m if m.ndim == 4 else m[None]
    batch, heads, n_q, n = m.shape
    assert (plan.n, plan.n_q, plan.heads) == (n, n_q, heads)
    added, open_ = np.zeros(m.shape, np.int64), np.zeros(m.shape, bool)
    terms: dict[tuple[int, int], list[tuple[Launch, TermTiles]]] = {}
    for launch in plan.launches:
        for term in launch.terms:
            more, doubtful = said(launch, term, (n_q, n))
            for user in users(launch, batch):
                terms.setdefault(user, []).append((launch, term))
                added[user] += more
                open_[user] |= doubtful
    np.testing.assert_array_equal(added[~open_], m[~open_])
    assert (added <= m).all()
    for user, (own, *others) in terms.items():
        assert len({term.term for _, term in (own, *others)}) == 1 + len(others)
        if exact and not others:
            check_partial(*own, m[user])


def check_partial(launch: Launch, term: TermTiles, m: Cells) -> None:
    rows, columns = filled(launch.queries), filled(term.keys)
    first = m.shape[1] - m.shape[0]
    for i, j, kind, _ in kinds(term.by_query, launch.queries.tiles, term.keys):
        if kind == PARTIAL:
            cells = m[np.ix_([q - first for q in rows[i] if q != NOBODY], [k for k in columns[j] if k != NOBODY])]
            assert cells.min() < cells.max()
