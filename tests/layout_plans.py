"""Plans under drawn layouts, made by brute force from dense multiplicities, for tests of what executes plans."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from patternc.plan import CONSECUTIVE, FULL, LISTED, PARTIAL, Axis, Launch, Layout, Plan, Runs, TermTiles


@dataclass(frozen=True, eq=False)
class DrawnTerm:
    """A term: its multiplicity (B, heads, n_q, n), 0 outside its lists, and its layouts."""

    m: torch.Tensor
    queries: Layout = CONSECUTIVE
    keys: Layout = CONSECUTIVE
    listed_queries: torch.Tensor | None = None
    """Positions, of a listed layout."""
    listed_keys: torch.Tensor | None = None


def plan_of(terms: list[DrawnTerm], tile_q: int, tile_k: int) -> Plan:
    """Terms of one layout of queries share their launches, and so do heads with equal tiles in a batch row."""
    batch, heads, n_q, n = terms[0].m.shape
    launches = []
    for members in _by_queries(terms):
        first = terms[members[0]]
        queries = axis(first.queries, n - n_q, n, tile_q, first.listed_queries)
        keys = {i: axis(terms[i].keys, 0, n, tile_k, terms[i].listed_keys) for i in members}
        for b in range(batch):
            users: dict[tuple, list[int]] = {}
            for h in range(heads):
                grids = tuple(grid(terms[i].m[b, h], queries, keys[i]) for i in members)
                users.setdefault(grids, []).append(h)
            for grids, who in users.items():
                tiles = [term_tiles(i, found, queries, keys[i]) for i, found in zip(members, grids, strict=True)]
                launches.append(Launch(tuple(who), (b,), queries, tuple(tiles)))
    return Plan(n, n_q, heads, tile_q, tile_k, tuple(launches))


def plain(m: torch.Tensor, tile_q: int, tile_k: int) -> Plan:
    """The plan of M (heads, n_q, n) or (B, heads, n_q, n) as one term in tiles of consecutive tokens."""
    plan = plan_of([DrawnTerm(m if m.ndim == 4 else m[None])], tile_q, tile_k)
    if m.ndim == 4:
        return plan
    launches = tuple(Launch(x.heads, None, x.queries, x.terms) for x in plan.launches)
    return Plan(plan.n, plan.n_q, plan.heads, tile_q, tile_k, launches)


def _by_queries(terms: list[DrawnTerm]) -> Iterable[list[int]]:
    groups: dict[tuple, list[int]] = {}
    for i, term in enumerate(terms):
        listed = None if term.listed_queries is None else tuple(term.listed_queries.tolist())
        groups.setdefault((term.queries, listed), []).append(i)
    return groups.values()


def axis(layout: Layout, start: int, stop: int, tile: int, positions: torch.Tensor | None = None) -> Axis:
    """An axis; `positions` are those of a listed one."""
    if positions is None:
        return Axis(layout, start, stop, tile)
    missing = torch.full((-len(positions) % tile,), stop, dtype=positions.dtype)
    return Axis(LISTED, start, stop, tile, torch.cat([positions, missing]))


Kind = tuple[int, int] | None
"""Kind and weight of a tile, None if nothing in it is read."""


Grid = tuple[tuple[Kind, ...], ...]
"""By tile of queries, then by tile of keys."""


def tokens(axis: Axis) -> Iterator[list[int]]:
    """The positions in the slots of each tile, as far as they hold one."""
    for number in range(axis.tiles):
        found = [int(axis.tokens(number, offset)) for offset in range(axis.tile)]
        yield [token for token in found if token != axis.stop]


def grid(m: torch.Tensor, queries: Axis, keys: Axis) -> Grid:
    """What the tiles are, of a term of multiplicities (n_q, n)."""
    first, columns = queries.start, list(tokens(keys))
    return tuple(
        tuple(_kind(m[[q - first for q in rows]][:, across]) for across in columns) for rows in tokens(queries)
    )


def _kind(cells: torch.Tensor) -> Kind:
    if cells.numel() == 0 or int(cells.max()) == 0:
        return None
    low, high = int(cells.min()), int(cells.max())
    return (FULL, low) if low == high else (PARTIAL, 0)


def term_tiles(number: int, grid: Grid, queries: Axis, keys: Axis) -> TermTiles:
    return TermTiles(number, keys, _runs(grid, keys), _runs(tuple(zip(*grid, strict=True)), queries))


def _runs(grid: Grid, across: Axis) -> Runs:
    rows, first, count, kind, weight = [0], [], [], [], []
    for row in grid:
        places = ((place, value, place // across.per_lane) for place, value in enumerate(row))
        for (value, _), group in itertools.groupby(places, key=lambda item: item[1:]):
            if value is not None:
                numbers = [place for place, _, _ in group]
                first.append(numbers[0])
                count.append(len(numbers))
                kind.append(value[0])
                weight.append(value[1])
        rows.append(len(first))
    return Runs(*(torch.tensor(a, dtype=torch.int32) for a in (rows, first, count, kind, weight)))


def tiles(plan: Plan, batch: int) -> tuple[int, int]:
    """Tiles by query and by key, times heads and batch rows."""
    by_query = by_key = 0
    for launch in plan.launches:
        users = len(launch.heads) * (batch if launch.batch is None else len(launch.batch))
        for term in launch.terms:
            by_query += users * int(torch.as_tensor(term.by_query.count).sum())
            by_key += users * int(torch.as_tensor(term.by_key.count).sum())
    return by_query, by_key
