"""Plans against dense multiplicities: every tile must be what the mask makes it, no more and no less."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from patternc.plan import FULL, PARTIAL, Launch, Plan, Runs

SKIPPED, HOLED = 0, -1
"""In a grid of tiles; what is greater than 0 is a full tile's multiplicity."""


def grid_of_mask(m: np.ndarray, tile_rows: int, tile_columns: int) -> np.ndarray:
    """(…, rows, columns) of multiplicities as (…, tile rows, tile columns) of what each tile is."""

    def by_tile(reduce: np.ufunc) -> np.ndarray:
        by_row = reduce.reduceat(m, np.arange(0, m.shape[-2], tile_rows), axis=-2)
        return reduce.reduceat(by_row, np.arange(0, m.shape[-1], tile_columns), axis=-1)

    least, most = by_tile(np.minimum), by_tile(np.maximum)
    return np.where(least == most, most, HOLED)


def grid_of_runs(runs: Runs, rows: int, columns: int, tile: int) -> np.ndarray:
    """What the runs say of each tile; they may not overlap, and go in order."""
    grid = np.full((rows, columns), SKIPPED)
    bounds, first, count, kind, weight = (
        np.asarray(a).tolist() for a in (runs.rows, runs.first, runs.count, runs.kind, runs.weight)
    )
    assert len(bounds) == rows + 1
    assert bounds[0] == 0
    assert bounds[-1] == len(first) == len(count) == len(kind) == len(weight)
    for i in range(rows):
        end = 0
        for r in range(bounds[i], bounds[i + 1]):
            start, stop = first[r] // tile, first[r] // tile + count[r]
            assert first[r] % tile == 0
            assert end <= start < stop <= columns
            assert (kind[r], weight[r]) == (PARTIAL, 0) or (kind[r] == FULL and weight[r] > 0)
            grid[i, start:stop] = weight[r] if kind[r] == FULL else HOLED
            end = stop
    return grid


def users(launch: Launch, batch: int) -> Iterator[tuple[int, int]]:
    rows = range(batch) if launch.batch is None else launch.batch
    return ((b, h) for b in rows for h in launch.heads)


def check_plan(plan: Plan, m: np.ndarray) -> None:
    """`m` is the mask, (heads, n_q, n) or (B, heads, n_q, n). Every head and row that attends has one launch."""
    m = m if m.ndim == 4 else m[None]
    batch, heads, n_q, n = m.shape
    assert (plan.n, plan.n_q, plan.heads) == (n, n_q, heads)
    by_query = grid_of_mask(m, plan.tile_q, plan.tile_k)
    by_key = grid_of_mask(m.swapaxes(-1, -2), plan.tile_k, plan.tile_q)
    rows, columns = by_query.shape[-2:]
    seen: set[tuple[int, int]] = set()
    for launch in plan.launches:
        planned_by_query = grid_of_runs(launch.by_query, rows, columns, plan.tile_k)
        planned_by_key = grid_of_runs(launch.by_key, columns, rows, plan.tile_q)
        for user in users(launch, batch):
            assert user not in seen
            seen.add(user)
            np.testing.assert_array_equal(planned_by_query, by_query[user])
            np.testing.assert_array_equal(planned_by_key, by_key[user])
    for user in np.ndindex(batch, heads):
        assert user in seen or not m[user].any()
