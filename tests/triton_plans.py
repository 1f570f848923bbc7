"""Plans by brute force from dense multiplicities under given layouts, and masks that read them from memory."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch

from patternc.backends.triton_schedule import BoundMask
from patternc.backends.triton_structure import Argument, Mask
from patternc.plan import FULL, PARTIAL, Axis, Launch, Layout, Plan, Runs, TermTiles, Work

TABLE = """
@triton.jit
def MASK(q, k, n, h, m):
    inside = (q >= 0) & (q < n) & (k < n)
    return tl.load(m + (h * n + q) * n + k, mask=inside, other=0){}
"""


def dense(m: torch.Tensor, bag: bool) -> BoundMask:
    """The mask of multiplicities (heads, n, n), or (B, heads, n, n)."""
    argument = Argument("m", "tensor", batched=m.ndim == 4)
    return BoundMask(Mask(TABLE.format("" if bag else " > 0"), (argument,), bag), {"m": m.int().contiguous()})


def axis(layout: Layout, start: int, stop: int, tile: int, listed: torch.Tensor | None = None) -> Axis:
    """An axis; `listed` are the positions of a listed one."""
    if not layout.listed:
        return Axis(layout, start, stop, tile)
    padded = torch.full((max(1, -(-len(listed) // tile)) * tile,), stop, dtype=torch.int32)
    padded[: len(listed)] = listed
    return Axis(layout, start, stop, tile, padded)


def slots(a: Axis) -> torch.Tensor:
    """(tiles, tile) tokens."""
    return torch.as_tensor(a.tokens(torch.arange(a.tiles)[:, None], torch.arange(a.tile)[None]))


def term(number: int, m: torch.Tensor, queries: Axis, keys: Axis) -> TermTiles:
    """The tiles of a term of multiplicities (n, n) in positions."""
    q, k = slots(queries), slots(keys)
    kinds = [[_kind(m, x[x < queries.stop], y[y < keys.stop]) for y in k] for x in q]
    turned = [list(column) for column in zip(*kinds, strict=True)]
    return TermTiles(number, keys, _runs(kinds, keys), _runs(turned, queries))


def _kind(m: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> tuple[int, int] | None:
    cells = m[q][:, k]
    if not cells.numel() or not cells.any():
        return None
    return (FULL, int(cells.min())) if cells.min() == cells.max() else (PARTIAL, 0)


def _runs(kinds: list[list[tuple[int, int] | None]], across: Axis) -> Runs:
    rows, found = [0], []
    for row in kinds:
        marked = [(tile // across.per_lane, kind) for tile, kind in enumerate(row)]
        for value, group in itertools.groupby(enumerate(marked), key=lambda item: item[1]):
            if value[1] is not None:
                places = [place for place, _ in group]
                found.append((places[0], len(places), *value[1]))
        rows.append(len(found))
    columns = zip(*found, strict=True) if found else ((), (), (), ())
    return Runs(*(torch.tensor(c, dtype=torch.int32) for c in (rows, *columns)))


def launch(heads, batch, queries: Axis, terms: list[tuple[torch.Tensor, Axis]]) -> Launch:
    return Launch(heads, batch, queries, tuple(term(i, m, queries, keys) for i, (m, keys) in enumerate(terms)))


def plan(n: int, n_q: int, heads: int, tile_q: int, tile_k: int, launches: list[Launch]) -> Plan:
    return Plan(n, n_q, heads, tile_q, tile_k, tuple(launches))


def cut(plan: Plan, length: int) -> Plan:
    """The plan with its rows cut into pieces of so many tiles."""
    launches = []
    for la in plan.launches:
        by_key = tuple(_work([t.by_key], length) for t in la.terms)
        launches.append(replace(la, by_query=_work([t.by_query for t in la.terms], length), by_key=by_key))
    return replace(plan, launches=tuple(launches))


def _work(tables: list[Runs], length: int) -> Work:
    items = []
    for row in range(len(tables[0].rows) - 1):
        tiles = sum(int(t.count[t.rows[row] : t.rows[row + 1]].sum()) for t in tables)
        items += [(row, start, min(start + length, tiles)) for start in range(0, max(1, tiles), length)]
    items.sort(key=lambda item: item[1] - item[2])
    return Work(*(torch.tensor(column, dtype=torch.int32) for column in zip(*items, strict=True)))
