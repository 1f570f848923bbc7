"""Plans made by brute force from dense multiplicities, for tests of what executes plans."""

from __future__ import annotations

import itertools

import torch

from patternc.plan import CONSECUTIVE, FULL, PARTIAL, Axis, Launch, Plan, Runs, TermTiles


def brute_force(m: torch.Tensor, tile_q: int, tile_k: int) -> Plan:
    """The plan of M (heads, n_q, n) or (B, heads, n_q, n): tiles of consecutive tokens, equal schedules together."""
    batched = m.ndim == 4
    m = m if batched else m[None]
    users: dict[tuple, list[tuple[int, int]]] = {}
    for b, h in itertools.product(range(m.shape[0]), range(m.shape[1])):
        users.setdefault(_kinds(m[b, h], tile_q, tile_k), []).append((b, h))
    n_q, n = m.shape[-2:]
    queries, keys = Axis(CONSECUTIVE, n - n_q, n, tile_q), Axis(CONSECUTIVE, 0, n, tile_k)
    launches = []
    for kinds, pairs in users.items():
        for b in sorted({b for b, _ in pairs}):
            heads = tuple(h for other, h in pairs if other == b)
            term = TermTiles(0, keys, _runs(kinds), _runs(tuple(zip(*kinds, strict=True))))
            if term.by_query.first.numel():
                launches.append(Launch(heads, (b,) if batched else None, queries, (term,)))
    return Plan(m.shape[3], m.shape[2], m.shape[1], tile_q, tile_k, tuple(launches))


Kind = tuple[int, int] | None
"""Kind and weight of a tile, None if nothing in it is read."""


def _kinds(m: torch.Tensor, tile_q: int, tile_k: int) -> tuple[tuple[Kind, ...], ...]:
    return tuple(tuple(_kind(cells) for cells in rows.split(tile_k, dim=1)) for rows in m.split(tile_q, dim=0))


def _kind(cells: torch.Tensor) -> Kind:
    low, high = int(cells.min()), int(cells.max())
    return None if high == 0 else (FULL, low) if low == high else (PARTIAL, 0)


def _runs(kinds: tuple[tuple[Kind, ...], ...]) -> Runs:
    rows, first, count, kind, weight = [0], [], [], [], []
    for row in kinds:
        for value, group in itertools.groupby(enumerate(row), key=lambda item: item[1]):
            if value is not None:
                places = [place for place, _ in group]
                first.append(places[0])
                count.append(len(places))
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
